//! CPU policies.

use super::args::{A, ACTION, B, JSON, MEMBER, OPTIONAL_MEMBER, OPTIONAL_VM, SUBJECT, VM};
use crate::command::{Command, CpuAbout, Output};
use crate::table::Spec;

pub(super) const ROWS: &[Spec] = &[
    Spec {
        words: &["cpu"],
        args: &[JSON],
        summary: "Show CPUs, what VMX offers, possible CPU levels.",
        details: "For a level that this host cannot give, the first features that are missing are named, and how many more; `--json` \
                  has all of them.",
        dangerous: false,
        build: |v| Command::Cpu(v.output),
    },
    Spec {
        words: &["cpu", "levels"],
        args: &[JSON],
        summary: "List CPU levels, and which this host can give.",
        details: "For each level the Xeon series that it stands for; `*` before those that this host can give, and for the others what \
                  is missing. docs/cpu-levels.md has what each one holds.",
        dangerous: false,
        build: |v| Command::CpuAbout(CpuAbout::Levels, v.output),
    },
    Spec {
        words: &["cpu", "show"],
        args: &[SUBJECT, JSON],
        summary: "Show a CPU policy: features, widths, limits.",
        details: "Of a level, of a VM as it was told, or of a host of the pool; of this host where nothing is named. For a host \
                  there are four: raw (what the CPU says), host (what can be virtualised), max (what a guest may arrive with), \
                  default (what a new guest gets).",
        dangerous: false,
        build: |v| Command::CpuAbout(CpuAbout::Show(v.subjects[0]), v.output),
    },
    Spec {
        words: &["cpu", "diff"],
        args: &[A, B, JSON],
        summary: "Compare two levels, VMs or hosts bit by bit.",
        details: "Each leaf, register and bit, MSR and value that one has and the other has not.",
        dangerous: false,
        build: |v| Command::CpuAbout(CpuAbout::Diff(v.subject(0), v.subject(1)), v.output),
    },
    Spec {
        words: &["cpu", "check"],
        args: &[VM, MEMBER, JSON],
        summary: "Say whether a VM fits a host, there and back.",
        details: "Compares policies that this host knows, its own and those of the pool's members; `migrate check` asks the \
                  other host itself. What stands in the way is named, with the level that would do.",
        dangerous: false,
        build: |v| Command::CpuAbout(CpuAbout::Check { vm: v.vm(), host: v.subject(0) }, v.output),
    },
    Spec {
        words: &["cpu", "dump"],
        args: &[OPTIONAL_MEMBER],
        summary: "Print CPUID and MSRs as flexctl reads them.",
        details: "Of this host, or of a member of the pool. Save what it prints and give it to `flexctl`.",
        dangerous: false,
        build: |v| Command::CpuAbout(CpuAbout::Dump(v.subjects[0]), Output::Text),
    },
    Spec {
        words: &["cpu", "ledger"],
        args: &[VM, JSON],
        summary: "Show what holds each feature hidden from a VM.",
        details: "For each feature of this host that the VM's policy hides: by which means it is enforced, or that it is only \
                  not advertised and would work. Values that cannot be hidden are listed too.",
        dangerous: false,
        build: |v| Command::CpuAbout(CpuAbout::Ledger(v.vm()), v.output),
    },
    Spec {
        words: &["cpu", "audit"],
        args: &[VM, ACTION, JSON],
        summary: "Find hidden instructions that a VM executes.",
        details: "ACTION is start, report or stop. `start` makes the VM's pages non-executable; each page is decoded when it is first executed, and again after it \
                  was written. `report` names what was found that the VM's policy hides; it is heuristic. `stop` ends it.",
        dangerous: false,
        build: |v| Command::Audit { vm: v.vm(), action: v.action, output: v.output },
    },
    Spec {
        words: &["cpu", "flex"],
        args: &[JSON],
        summary: "Show this CPU's mask MSRs and CPUID faulting.",
        details: "The MSRs of Intel VT FlexMigration, found by writing and reading back; what was written is restored.",
        dangerous: false,
        build: |v| Command::CpuAbout(CpuAbout::Flex, v.output),
    },
    Spec {
        words: &["cpu", "mitigations"],
        args: &[OPTIONAL_VM, JSON],
        summary: "Show speculation flaws and what is done.",
        details: "Of this host; or what a VM is told of them, and whether that is true here.",
        dangerous: false,
        build: |v| Command::CpuAbout(CpuAbout::Mitigations(v.vm), v.output),
    },
];
