//! The rows of the table: each command once, for parser, help and docs.

use super::{Arg, Kind, Setting, Spec};
use crate::command::{Command, CpuAbout, MigrateCommand, Output, PoolCommand};

const VM: Arg = Arg { name: "VM", kind: Kind::Vm, required: true };
const HOST: Arg = Arg { name: "HOST[:PORT]", kind: Kind::Host, required: true };
const LEVEL: Arg = Arg { name: "LEVEL", kind: Kind::Level, required: true };
const METHOD: Arg = Arg { name: "METHOD", kind: Kind::Method, required: false };
const TOPIC: Arg = Arg { name: "COMMAND", kind: Kind::Topic, required: false };
const OPTIONAL_VM: Arg = Arg { required: false, ..VM };
const SUBJECT: Arg = Arg { name: "LEVEL|VM|HOST", kind: Kind::Subject, required: false };
const A: Arg = Arg { name: "A", kind: Kind::Subject, required: true };
const B: Arg = Arg { name: "B", ..A };
const MEMBER: Arg = Arg { name: "HOST", ..A };
const OPTIONAL_MEMBER: Arg = Arg { required: false, ..MEMBER };
const ACTION: Arg = Arg { name: "ACTION", kind: Kind::Action, required: true };
const KEY: Arg = Arg { name: "KEY", kind: Kind::Secret, required: true };
const JSON: Arg = Arg { name: "--json", kind: Kind::Flag, required: false };
const FORCE: Arg = Arg { name: "--force", kind: Kind::Flag, required: false };
const DOWNTIME: Arg = Arg { name: "downtime=MS", kind: Kind::Setting(Setting::Downtime), required: false };
const TIMEOUT: Arg = Arg { name: "timeout=S", kind: Kind::Setting(Setting::Timeout), required: false };
const ON_TIMEOUT: Arg = Arg {
    name: "on-timeout=cancel|throttle|force",
    kind: Kind::Setting(Setting::OnTimeout),
    required: false,
};
const VERIFY: Arg = Arg { name: "verify=full|seals", kind: Kind::Setting(Setting::Verify), required: false };
const COMPRESS: Arg =
    Arg { name: "compress=none|lz4|delta|auto", kind: Kind::Setting(Setting::Compress), required: false };
const DETACH: Arg = Arg { name: "--detach", kind: Kind::Flag, required: false };
const LIVE: Arg = Arg { name: "--live", kind: Kind::Flag, required: false };
const VERDICT: Arg = Arg { name: "VERDICT", kind: Kind::Verdict, required: true };
const RECEIPT: Arg = Arg { name: "receipt=RECEIPT", kind: Kind::Setting(Setting::Receipt), required: false };

/// Every command, in the order in which `help` lists them.
pub const COMMANDS: &[Spec] = &[
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
    Spec {
        words: &["cpu"],
        args: &[],
        summary: "Show CPUs, what VMX offers, possible CPU levels.",
        details: "For a level that this host cannot give, the features that are missing are named.",
        dangerous: false,
        build: |_| Command::Cpu,
    },
    Spec {
        words: &["cpu", "levels"],
        args: &[JSON],
        summary: "List CPU levels, and which this host can give.",
        details: "For each level the Xeon series that it stands for. docs/cpu-levels.md has what each one holds.",
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
    Spec {
        words: &["pool", "show"],
        args: &[JSON],
        summary: "Show the pool: members, level, their cost.",
        details: "The level is what all members can give, computed by each of them from the same policies; equal fingerprints \
                  mean that they agree.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::Show, v.output),
    },
    Spec {
        words: &["pool", "join"],
        args: &[HOST],
        summary: "Join the pool that a host is in.",
        details: "Running VMs keep what they were told. Those that a member cannot take are named before and after.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::Join(v.host), v.output),
    },
    Spec {
        words: &["pool", "leave"],
        args: &[],
        summary: "Leave the pool.",
        details: "Changes nothing for running VMs.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::Leave, v.output),
    },
    Spec {
        words: &["pool", "preview"],
        args: &[HOST, JSON],
        summary: "Say what would follow if a host joined.",
        details: "The level before and after, and the VMs that the host could not take. Nothing is changed.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::Preview(v.host), v.output),
    },
    Spec {
        words: &["pool", "forget"],
        args: &[MEMBER],
        summary: "Count a lost member no more.",
        details: "A member that is lost still counts for the level. One that is gone for good is forgotten here, and by \
                  that on all members. If it comes back, it is a member again.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::ForgetMember(v.subject(0)), v.output),
    },
    Spec {
        words: &["pool", "key"],
        args: &[KEY],
        summary: "Set the pool key that links are made with.",
        details: "64 hexadecimal digits from `flexctl keygen`. It is not shown again, and passphrases are refused.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::Key(v.secret), v.output),
    },
    Spec {
        words: &["pool", "keys"],
        args: &[JSON],
        summary: "List the static keys of the hosts.",
        details: "A host's key is pinned when it is first met; another key from the same address is refused.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::Keys, v.output),
    },
    Spec {
        words: &["pool", "keys", "forget"],
        args: &[HOST],
        summary: "Forget the key pinned for a host.",
        details: "For a host that was set up anew. Its next key is pinned in turn.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::Forget(v.host), v.output),
    },
    Spec {
        words: &["migrate", "check"],
        args: &[VM, HOST],
        summary: "Ask a host whether it could take a VM.",
        details: "Changes nothing. Policy and machine shape are compared as in a real migration. A refusal names the leaf and bit, \
                  the MSR, or the device. The port is 4444 unless given.",
        dangerous: false,
        build: |v| Command::Migrate(MigrateCommand::Check { vm: v.vm(), host: v.host }),
    },
    Spec {
        words: &["migrate"],
        args: &[VM, HOST, DOWNTIME, TIMEOUT, ON_TIMEOUT, VERIFY, COMPRESS, DETACH, LIVE],
        summary: "Move a running VM to another host.",
        details: "The other host must have been booted with `migrate=listen`; the port is 4444 unless given. The guest is stopped \
                  once its last pages are expected to take `downtime` (100 ms). Where it writes faster than the link sends, \
                  `on-timeout` says what follows after `timeout`, or once the rounds do not get shorter: `cancel` leaves it here, \
                  `throttle` slows it down step by step, `force` (the default) stops it for as long as it takes. `verify=full` \
                  compares a digest of the whole RAM before the hand-over. Ctrl-C cancels; `--detach` gives the prompt back at once; \
                  `--live` rewrites one line in place. On any failure before the hand-over the VM goes on here.",
        dangerous: false,
        build: |v| Command::Migrate(MigrateCommand::Move { vm: v.vm(), host: v.host, options: v.migrate }),
    },
    Spec {
        words: &["migrate", "all"],
        args: &[HOST, DOWNTIME, TIMEOUT, ON_TIMEOUT, VERIFY, COMPRESS, DETACH, LIVE],
        summary: "Move every running VM to another host.",
        details: "For maintenance. One after the other; the options are those of `migrate`. A VM that does not fit stays and is listed at the end \
                  with the reason; Ctrl-C or `migrate cancel` ends the rest too.",
        dangerous: false,
        build: |v| Command::Migrate(MigrateCommand::All { host: v.host, options: v.migrate }),
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
