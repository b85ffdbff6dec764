//! Help, version, the terminal.

use super::args::{COLUMNS, EVERY, JSON, LINE, ROWS_SET, TERM, TOPIC};
use crate::command::{Command, HostCommand};
use crate::table::Spec;

pub(super) const ROWS: &[Spec] = &[
    Spec {
        words: &["help"],
        args: &[TOPIC],
        summary: "List the commands, or explain one.",
        details: "`help vm` explains all commands that begin with `vm`, `help vm destroy` one of them. `?` is the same as \
                  `help`, and a command that ends with `-h` or `--help` is explained, not run.",
        dangerous: false,
        build: |v| Command::Help(v.topic),
    },
    Spec {
        words: &["version"],
        args: &[JSON],
        summary: "Show version and commit.",
        details: "As the line that opens the boot log has them.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::Version(v.output)),
    },
    Spec {
        words: &["watch"],
        args: &[EVERY, LINE],
        summary: "Run a command again and again, until a key.",
        details: "Every two seconds, or as `-n` says before COMMAND, in place on a terminal that `term` knows to take ESC sequences. COMMAND is one that only \
                  looks and answers at once, such as `vm list` or `net stats`, with its options; with `--json` it is a stream \
                  of documents, one a line.",
        dangerous: false,
        build: |v| Command::Watch { line: v.line, seconds: v.seconds },
    },
    Spec {
        words: &["exit"],
        args: &[],
        summary: "End this session, where it can be ended.",
        details: "Of `flexctl --host`, it does. At the host's own console there is no login to end: Ctrl-\\ then `.` leaves a guest's \
                  console, `poweroff` and `reboot` end the host.",
        dangerous: false,
        build: |_| Command::Exit,
    },
    Spec {
        words: &["term"],
        args: &[TERM, COLUMNS, ROWS_SET],
        summary: "Show or say what this terminal is.",
        details: "`auto` (the default) takes it for a dumb one until it sends the ESC sequence of a key; `dumb` sends it none \
                  ever, `ansi` sends them from now on. A line that is longer than a row (80 columns unless said otherwise) is \
                  shown in part, and as a whole once it is run. With `rows=N` output that is longer than the screen stops at \
                  `--more--`: space shows the next screen, Enter the next row, `q` or Ctrl-C leaves the rest out; `rows=0` \
                  (the default) ends that.",
        dangerous: false,
        build: |v| Command::Term(v.term),
    },
];
