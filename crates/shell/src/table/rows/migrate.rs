//! Live migration.

use super::args::{
    COMPRESS, COPY, DETACH, DOWNTIME, FORCE, JSON, LIVE, ON_TIMEOUT, PEER, RECEIPT, TIMEOUT, VERDICT, VERIFY,
    VM,
};
use crate::command::{Command, MigrateCommand};
use crate::table::Spec;

pub(super) const ROWS: &[Spec] = &[
    Spec {
        words: &["migrate", "check"],
        args: &[VM, PEER],
        summary: "Ask a host whether it could take a VM.",
        details: "Changes nothing. Policy and machine shape are compared as in a real migration. A refusal names the leaf and bit, \
                  the MSR, or the device. HOST is an address, `10.0.0.2` or `10.0.0.2:PORT` (4444 unless given), or the name of a member of the pool.",
        dangerous: false,
        build: |v| Command::Migrate(MigrateCommand::Check { vm: v.vm(), host: v.peer }),
    },
    Spec {
        words: &["migrate"],
        args: &[VM, PEER, DOWNTIME, TIMEOUT, ON_TIMEOUT, VERIFY, COMPRESS, COPY, DETACH, LIVE],
        summary: "Move a running VM to another host.",
        details: "The other host must have been booted with `migrate=listen`; HOST is its address, with `:PORT` unless that is 4444, or its name in the pool. The guest is stopped \
                  once its last pages are expected to take `downtime` (100 ms). Where it writes faster than the link sends, \
                  `on-timeout` says what follows after `timeout`, or once the rounds do not get shorter: `cancel` leaves it here, \
                  `throttle` slows it down step by step, `force` (the default) stops it for as long as it takes. `verify=full` \
                  compares a digest of the whole RAM before the hand-over. `compress=auto` sends pages as they are and packed by turns, takes \
                  what is measured to be the fastest on this link, and says so with the figures. Ctrl-C cancels; `--detach` gives the prompt back at once; \
                  `--live` rewrites one line in place. `--copy` leaves the VM running here and gives a copy to a peer that stores \
                  (`flexctl receive`), which can start clones of it. On any failure before the hand-over the VM goes on here.",
        dangerous: false,
        build: |v| Command::Migrate(MigrateCommand::Move { vm: v.vm(), host: v.peer, options: v.migrate }),
    },
    Spec {
        words: &["migrate", "all"],
        args: &[PEER, DOWNTIME, TIMEOUT, ON_TIMEOUT, VERIFY, COMPRESS, DETACH, LIVE],
        summary: "Move every running VM to another host.",
        details: "For maintenance. One after the other; the options are those of `migrate`. A VM that does not fit stays and is listed at the end \
                  with the reason; Ctrl-C or `migrate cancel` ends the rest too.",
        dangerous: false,
        build: |v| Command::Migrate(MigrateCommand::All { host: v.peer, options: v.migrate }),
    },
    Spec {
        words: &["migrate", "status"],
        args: &[JSON],
        summary: "Show the migration under way, or the last one.",
        details: "The fields are those of QEMU's query-migrate: status, total-time, setup-time, expected-downtime, downtime in \
                  milliseconds, ram with bytes and pages.",
        dangerous: false,
        build: |v| Command::Migrate(MigrateCommand::Status(v.output)),
    },
    Spec {
        words: &["migrate", "cancel"],
        args: &[VM],
        summary: "Cancel a VM's migration; the VM goes on here.",
        details: "Possible until the VM is handed over; after that the migration ends by itself. The target is left clean, and \
                  the VM can be migrated again at once.",
        dangerous: false,
        build: |v| Command::Migrate(MigrateCommand::Cancel(v.vm())),
    },
    Spec {
        words: &["migrate", "resolve"],
        args: &[VM, VERDICT, RECEIPT, FORCE],
        summary: "Settle a VM that is `unknown: paused here`.",
        details: "VERDICT `discard` destroys the copy on this host and prints a receipt; `run-here` on the other host takes it as `receipt=`. \
                  Without one `run-here` wants `--force`: the VM must not run on the other host, and must never run there again.",
        dangerous: true,
        build: |v| {
            Command::Migrate(MigrateCommand::Resolve {
                vm: v.vm(),
                verdict: v.verdict,
                receipt: v.receipt,
                force: v.force,
            })
        },
    },
];
