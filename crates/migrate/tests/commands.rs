//! `docs/migration.md` shows the table by which commands are judged: `UPDATE_DOCS=1 cargo test -p migrate --test commands`.
#![allow(missing_docs)]

use migrate::ownership::table;

const BEGIN: &str = "<!-- commands: made by crates/migrate/tests/commands.rs -->\n";
const END: &str = "<!-- /commands -->\n";

#[test]
fn docs_show_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/migration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the table begins");
    let (shown, after) = rest.split_once(END).expect("the table ends");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
    }
    assert_eq!(shown, table(), "UPDATE_DOCS=1 cargo test -p migrate --test commands");
}
