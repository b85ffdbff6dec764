//! Prints docs/console.md.

fn main() {
    let mut page = String::new();
    shell::write_markdown(&mut page).expect("a string takes any text");
    print!("{page}");
}
