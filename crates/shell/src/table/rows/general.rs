//! Help, version.

use super::args::TOPIC;
use crate::command::Command;
use crate::table::Spec;

pub(super) const ROWS: &[Spec] = &[
    Spec {
        words: &["help"],
        args: &[TOPIC],
        summary: "List the commands, or explain one.",
        details: "`help vm` explains all commands that begin with `vm`, `help vm destroy` one of them.",
        dangerous: false,
        build: |v| Command::Help(v.topic),
    },
    Spec {
        words: &["version"],
        args: &[],
        summary: "Show version, commit and boot protocol.",
        details: "The line that opens the boot log.",
        dangerous: false,
        build: |_| Command::Version,
    },
];
