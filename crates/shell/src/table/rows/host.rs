//! The host: log, network, memory, reset.

use super::args::{FORCE, LEVEL};
use crate::command::Command;
use crate::table::Spec;

pub(super) const ROWS: &[Spec] = &[
    Spec {
        words: &["log"],
        args: &[],
        summary: "Print the most recent log lines.",
        details: "They come from a ring in memory, whatever level the console shows.",
        dangerous: false,
        build: |_| Command::Log(None),
    },
    Spec {
        words: &["log", "level"],
        args: &[LEVEL],
        summary: "Set which log lines the console shows.",
        details: "One of error, warn, info, debug, trace; each includes those before it, `info` is what an operator follows.",
        dangerous: false,
        build: |v| Command::Log(v.level),
    },
    Spec {
        words: &["net"],
        args: &[],
        summary: "Show network card, address and counters.",
        details: "Driver, MAC, link, IP address (static or by DHCP), gateway, frames and bytes each way, drops.",
        dangerous: false,
        build: |_| Command::Net,
    },
    Spec {
        words: &["mem"],
        args: &[],
        summary: "Show the host's memory: used by whom, free.",
        details: "",
        dangerous: false,
        build: |_| Command::Mem,
    },
    Spec {
        words: &["reboot"],
        args: &[FORCE],
        summary: "Leave VMX operation and reset the machine.",
        details: "Every CPU executes VMXOFF first. Refused while a VM runs, unless `--force` is given: its guest loses what it has not written out.",
        dangerous: true,
        build: |v| Command::Reboot { force: v.force },
    },
];
