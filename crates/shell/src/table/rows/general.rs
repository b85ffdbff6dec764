//! Help, version.

use super::args::{JSON, TOPIC};
use crate::command::{Command, HostCommand};
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
        args: &[JSON],
        summary: "Show version and commit.",
        details: "As the line that opens the boot log has them.",
        dangerous: false,
        build: |v| Command::Host(HostCommand::Version(v.output)),
    },
];
