//! docs/console.md, from the table.

use alloc::string::ToString;
use core::fmt::{self, Write};

use crate::error::Code;
use crate::table::{COMMANDS, JSON_KEYS, JsonKeys};

const INTRO: &str = "\
# The console

<!-- Generated from crates/shell by `cargo run -p shell --example console_md > docs/console.md`. -->

The host's console is a serial line (boot option `console=`), 115200 8N1 unless told otherwise. Any terminal will do:
nothing but BS, CR and LF is asked of it. The prompt is `flexvisor> `.

Each command ends with a line `ok` or `error: CODE text`, so that a script can wait for either. A line that is not a
command changes nothing: the word at fault is named, and the nearest right one offered. Blank lines and lines that
begin with `#` are passed over.

";

const KEYS: &str = "
## Keys

| key | what it does |
|---|---|
| Enter (CR, LF or both) | run the line |
| Backspace, Delete (BS, DEL) | rub out one character |
| Ctrl-W, Ctrl-U | rub out a word, the whole line |
| Ctrl-C | give the line up; cancel the migration in the foreground |
| Ctrl-L, Ctrl-R | print the line again |

A line has at most 1024 bytes; a longer one is refused as a whole.

## A guest's console

`console VM` attaches the terminal to a VM's first serial port and shows the last 64 KiB that the guest printed. How
to leave is printed on entry:

| keys | what they do |
|---|---|
| Ctrl-\\\\ then `.` | back to the host's prompt; the guest runs on |
| Ctrl-\\\\ then `?` | print how to leave |
| Ctrl-\\\\ twice | send Ctrl-\\\\ to the guest |
| Ctrl-\\\\ then another key | send both to the guest |

## Error codes

| code | meaning |
|---|---|
";

/// Prints the page.
///
/// # Errors
/// Only those of `out`.
pub fn write_markdown(out: &mut impl Write) -> fmt::Result {
    out.write_str(INTRO)?;
    out.write_str("## Commands\n\n| command | what it does |\n|---|---|\n")?;
    for spec in COMMANDS {
        // Inside a table `|` ends a cell, in code too.
        let usage = spec.brief().to_string().replace('|', "\\|");
        writeln!(out, "| `{usage}` | {} |", spec.summary)?;
    }
    for spec in COMMANDS {
        if spec.details.is_empty() {
            continue;
        }
        write!(out, "\n### {spec}\n\n`{}`: {} {}\n", spec.usage(), spec.summary, spec.details)?;
        if spec.dangerous {
            out.write_str("\nIt can lose a guest's work.\n")?;
        }
        let words = spec.to_string();
        if let Some(keys) = JSON_KEYS.iter().find(|keys| keys.command == words) {
            write_keys(keys, out)?;
        }
    }
    out.write_str(KEYS)?;
    for (code, meaning) in Code::ALL {
        writeln!(out, "| `{code}` | {meaning} |")?;
    }
    Ok(())
}

/// What `--json` prints. Keys without a meaning of their own go with the one before.
fn write_keys(keys: &JsonKeys, out: &mut impl Write) -> fmt::Result {
    let what = if keys.list { "a list; each element has" } else { "an object with" };
    write!(out, "\n`--json` prints {what} ")?;
    for (at, (path, meaning)) in keys.keys.iter().enumerate() {
        let gap = match (at, meaning.is_empty()) {
            (0, _) => "",
            (_, true) => ", ",
            (_, false) => "; ",
        };
        write!(out, "{gap}`{path}`")?;
        if !meaning.is_empty() {
            write!(out, " ({meaning})")?;
        }
    }
    out.write_str(".\n")
}
