//! docs/console.md, from the table.

use alloc::string::ToString;
use core::fmt::{self, Write};

use crate::error::Code;
use crate::events::EventKind;
use crate::table::{COMMANDS, JSON_KEYS, JsonKeys};

const INTRO: &str = "\
# The console

<!-- Generated from crates/shell by `cargo run -p shell --example console_md > docs/console.md`. -->

The host's console is a serial line, or several at once, each with its own prompt (boot option `console=`), 115200 8N1
unless told otherwise. Any terminal will do:
nothing but BS, CR and LF is asked of it until it sends the ESC sequence of a key, and `term dumb` keeps it so. The
prompt is `flexvisor> `.

Each command ends with a line `ok` or `error: CODE: text`, so that a script can wait for either. A line that is not a
command changes nothing: the word at fault is named, and the nearest right one offered. Blank lines and lines that
begin with `#` are passed over.

";

const KEYS: &str = "
## Keys

| key | what it does |
|---|---|
| Enter (CR, LF or both) | run the line |
| Left, Right; Ctrl-B, Ctrl-F | one character to the left, to the right |
| Ctrl-Left, Ctrl-Right; Alt-B, Alt-F | one word |
| Home, End; Ctrl-A, Ctrl-E | to the start, to the end of the line |
| Backspace (BS or DEL) | rub out the character to the left |
| Delete, Ctrl-D | rub out the character under the cursor |
| Ctrl-W, Alt-D | rub out the word to the left, to the right |
| Ctrl-U, Ctrl-K | rub out all to the left, to the right |
| Up, Down; Ctrl-P, Ctrl-N | an older line, a newer one |
| Ctrl-R | search the lines that were run; again: an older one; Enter runs it, Ctrl-G gives up, another key edits it |
| Tab | complete commands, names of VMs, hosts and levels, options and their values; twice: list what there is |
| Ctrl-C | give the line up; end the command that is under way, and drop what was typed ahead |
| Ctrl-L | clear the screen, or print the line again |

The last 100 lines are kept, 16 KiB at most; keys (`pool key KEY`) are neither kept nor shown. A line has at most 1024
bytes; a longer one is refused as a whole. One that is longer than the terminal's row is shown in part, with `<` and `>`
where it goes on.

What is typed or pasted while a command runs is kept, 16 KiB of it, and run after it. A line that does not fit any more
is dropped as a whole, and that is said.

## A guest's console

`console VM` attaches the terminal to a VM's first serial port and shows the last 64 KiB that the guest printed; they
move with the VM from host to host. With `--read-only` nothing that is typed goes to the guest. How to leave is printed
on entry:

| keys | what they do |
|---|---|
| Ctrl-\\\\ then `.` | back to the host's prompt; the guest runs on |
| Ctrl-\\\\ then `?` | print how to leave |
| Ctrl-\\\\ twice | send Ctrl-\\\\ to the guest |
| Ctrl-\\\\ then another key | send both to the guest |

A serial line is slower than most guests. While a session, or a port that `com1=vm:` or `com2=vm:` gives to the guest, is
4 KiB behind, the guest's UART is not emptied and the guest waits, as it would for a real line; a line that takes nothing
for 5 s holds it up no longer, and `--read-only` never does. Each byte goes out once: when the VM ends or moves, the port
finishes what was written here, and the port of the other host goes on after it. What had to be left out is counted:

    [1032 bytes left out: they came faster than this line takes them]
    [3 bytes left out: the guest did not wait for its UART]
    [5 bytes typed here did not reach the VM: it is gone]
";

const EVENTS: &str = "
## Kinds of events

`events` prints a line for each: `[   12.345678] vm-stopped web: power-off`.

| kind | meaning |
|---|---|
";

const CODES: &str = "
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
    out.write_str(EVENTS)?;
    for (kind, meaning) in EventKind::ALL {
        writeln!(out, "| `{}` | {} |", kind.name(), meaning.trim())?;
    }
    out.write_str(CODES)?;
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
        let name = path.trim_end_matches('?');
        write!(out, "{gap}`{name}`")?;
        let optional = if name.len() == path.len() { "" } else { "; not always" };
        if !meaning.is_empty() {
            write!(out, " ({meaning}{optional})")?;
        }
    }
    out.write_str(".\n")
}
