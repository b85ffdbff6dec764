//! VMs and their consoles.

use super::args::{FORCE, METHOD, VM};
use crate::command::Command;
use crate::table::Spec;

pub(super) const ROWS: &[Spec] = &[
    Spec {
        words: &["vm", "list"],
        args: &[],
        summary: "List the VMs with state, memory and CPU level.",
        details: "VMs that were refused at boot are listed with the reason.",
        dangerous: false,
        build: |_| Command::VmList,
    },
    Spec {
        words: &["vm", "show"],
        args: &[VM],
        summary: "Show everything about one VM.",
        details: "State, vCPUs, memory, CPU level, guest kind, command line and where its console is.",
        dangerous: false,
        build: |v| Command::VmShow(v.vm()),
    },
    Spec {
        words: &["vm", "start"],
        args: &[VM],
        summary: "Start a VM that has not run yet.",
        details: "For VMs described with `paused`, and for those that were stopped. A paused VM goes on with `vm resume`.",
        dangerous: false,
        build: |v| Command::VmStart(v.vm()),
    },
    Spec {
        words: &["vm", "pause"],
        args: &[VM],
        summary: "Stop a VM's vCPUs; the rest stays as it is.",
        details: "The VM stops at an instruction boundary. `vm resume` lets it go on.",
        dangerous: false,
        build: |v| Command::VmPause(v.vm()),
    },
    Spec {
        words: &["vm", "resume"],
        args: &[VM],
        summary: "Let a paused VM go on.",
        details: "For one that a migration left as `unknown: paused here` there is `migrate resolve`.",
        dangerous: false,
        build: |v| Command::VmResume(v.vm()),
    },
    Spec {
        words: &["vm", "destroy"],
        args: &[VM, FORCE],
        summary: "Stop a VM at once and free its memory.",
        details: "Like pulling the power cord: what the guest has not written out is lost. \
                  `--force` is wanted unless the VM has stopped by itself.",
        dangerous: true,
        build: |v| Command::VmDestroy { vm: v.vm(), force: v.force },
    },
    Spec {
        words: &["vm", "dirty", "start"],
        args: &[VM, METHOD],
        summary: "Begin to count the pages that a VM writes.",
        details: "A meter for the rate at which a guest dirties memory, which decides whether a migration gets done: begin here, \
                  `vm dirty harvest` twice some seconds apart, then `vm dirty stop`. METHOD is pml (page-modification log), \
                  ad (scan of the EPT's dirty flags) or wp (write protection), by default the best of this host. Large pages \
                  are split while it is on, and the guest is the slower for it, most with wp. A VM in a migration cannot be \
                  metered, nor one that is metered be moved.",
        dangerous: false,
        build: |v| Command::DirtyStart { vm: v.vm(), method: v.method },
    },
    Spec {
        words: &["vm", "dirty", "harvest"],
        args: &[VM],
        summary: "Show how many pages were written, count anew.",
        details: "Prints `dirty: N pages, T ticks`: 4 KiB pages written since the last harvest, by the guest or for it, and what \
                  this harvest took of the host, in ticks of its TSC.",
        dangerous: false,
        build: |v| Command::DirtyHarvest(v.vm()),
    },
    Spec {
        words: &["vm", "dirty", "stop"],
        args: &[VM],
        summary: "End the counting of written pages.",
        details: "Large pages are put together again where the guest does not execute from them.",
        dangerous: false,
        build: |v| Command::DirtyStop(v.vm()),
    },
    Spec {
        words: &["console"],
        args: &[VM],
        summary: "Attach this terminal to a VM's serial console.",
        details: "The last 64 KiB of its output are shown first. Ctrl-\\ then `.` comes back here; \
                  Ctrl-\\ twice sends one to the guest.",
        dangerous: false,
        build: |v| Command::Console(v.vm()),
    },
];
