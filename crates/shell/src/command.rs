//! What a line means once it has been parsed.

mod host;
mod vm;

pub use host::{HostCommand, LogSink};
pub use vm::{
    CreateOptions, DEFAULT_DUMP, DEFAULT_STOP_S, ListOptions, ListSort, MAX_DUMP, MemoryAt, VM_STATES,
    VmCommand,
};

use core::fmt;
use core::net::SocketAddrV4;

pub use vm_types::{Compression, OnReset, OnTimeout};

use crate::term::Term;

/// TCP port of the migration service where the user names none.
pub const DEFAULT_PORT: u16 = 4444;

/// A command with its arguments checked for form; whether a VM of that name exists is for the caller to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// A blank line or a comment: nothing is done and nothing printed.
    Empty,
    /// End the session, where it is one that can be ended.
    Exit,
    /// Print help, on one command or group where named (its words, as typed).
    Help(Option<&'a str>),
    /// VMs.
    Vm(VmCommand<'a>),
    /// Begin to count the pages that a VM writes, by a method or by the host's best.
    DirtyStart {
        /// The VM.
        vm: &'a str,
        /// How; the host chooses where none is given.
        method: Option<DirtyMethod>,
    },
    /// Print how many pages a VM wrote since the last harvest, and count anew.
    DirtyHarvest(&'a str, Output),
    /// End the counting of written pages.
    DirtyStop(&'a str),
    /// Attach this terminal to a VM's serial console.
    Console {
        /// The VM.
        vm: &'a str,
        /// What is typed does not go to the guest.
        read_only: bool,
    },
    /// Run a command that only looks again and again.
    Watch {
        /// The command.
        line: &'a str,
        /// Seconds between two answers.
        seconds: u32,
    },
    /// Show or say what the terminal is.
    Term(TermSettings),
    /// Show the host CPU, what VMX offers, and the levels it can give.
    Cpu(Output),
    /// What is known of CPU policies, enforcement and speculation.
    CpuAbout(CpuAbout<'a>, Output),
    /// Look for instructions that a VM executes and its policy hides.
    Audit {
        /// The VM.
        vm: &'a str,
        /// What to do.
        action: AuditAction,
        /// How to print the report.
        output: Output,
    },
    /// Members, level and keys of the pool.
    Pool(PoolCommand<'a>, Output),
    /// Live migration.
    Migrate(MigrateCommand<'a>),
    /// The host itself.
    Host(HostCommand),
}

impl Command<'_> {
    /// Whether it only looks, and answers at once: then it can be run again and again.
    #[must_use]
    pub const fn only_looks(&self) -> bool {
        match self {
            Self::Help(_) | Self::Cpu(_) => true,
            Self::Vm(command) => matches!(
                command,
                VmCommand::List(..)
                    | VmCommand::Show(..)
                    | VmCommand::Regs { .. }
                    | VmCommand::Stack { .. }
                    | VmCommand::Memory { .. }
                    | VmCommand::Exits { timed: None, .. }
            ),
            // What `cpu flex` finds it finds by writing.
            Self::CpuAbout(about, _) => !matches!(about, CpuAbout::Flex),
            Self::Audit { action, .. } => matches!(action, AuditAction::Report),
            Self::Pool(command, _) => matches!(command, PoolCommand::Show | PoolCommand::Keys),
            Self::Migrate(command) => matches!(command, MigrateCommand::Status(_)),
            Self::Host(command) => matches!(
                command,
                HostCommand::Version(_)
                    | HostCommand::Date(_)
                    | HostCommand::Uptime(_)
                    | HostCommand::Boot(_)
                    | HostCommand::Config(_)
                    | HostCommand::ConfigLine
                    | HostCommand::LogLevels(_)
                    | HostCommand::NetShow(_)
                    | HostCommand::NetStats(_)
                    | HostCommand::Mem(_)
                    | HostCommand::MsrRead { .. }
                    | HostCommand::Sessions(_)
            ),
            _ => false,
        }
    }
}

/// How an answer is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON value on one line (RFC 8259).
    Json,
}

/// A question about CPUs. A `&str` subject is the name of a level, of a VM, or of a host of the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuAbout<'a> {
    /// All levels, and which of them this host can give.
    Levels,
    /// The policy of a subject, or of this host.
    Show(Option<&'a str>),
    /// What differs between two subjects.
    Diff(&'a str, &'a str),
    /// Whether a VM can go to a host, and come back.
    Check {
        /// The VM.
        vm: &'a str,
        /// The host.
        host: &'a str,
    },
    /// The raw CPUID and MSR values of a host, in the form that `flexctl` reads.
    Dump(Option<&'a str>),
    /// What holds what a VM's policy hides.
    Ledger(&'a str),
    /// The mask MSRs of FlexMigration and CPUID faulting.
    Flex,
    /// Vulnerabilities and mitigations of the host, or what a VM is told of them.
    Mitigations(Option<&'a str>),
}

/// What `cpu audit` does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuditAction {
    /// Begin to look.
    Start,
    /// Print what was found.
    Report,
    /// Look no more.
    Stop,
}

impl AuditAction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Start, Self::Report, Self::Stop];

    /// The word for it on the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Report => "report",
            Self::Stop => "stop",
        }
    }
}

/// What `pool` does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PoolCommand<'a> {
    /// Members, what each costs, and the level.
    Show,
    /// Become a member of the pool that a host is in.
    Join(SocketAddrV4),
    /// Leave the pool.
    Leave,
    /// What would follow if a host joined.
    Preview(SocketAddrV4),
    /// Count a lost member no more, by its name.
    ForgetMember(&'a str),
    /// The static keys of other hosts, as pinned.
    Keys,
    /// Forget the key pinned for a host.
    Forget(SocketAddrV4),
    /// Take this pool key: 64 hexadecimal digits.
    Key(&'a str),
}

/// Another host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer<'a> {
    /// Where its migration service is.
    At(SocketAddrV4),
    /// The name of a member of the pool.
    Member(&'a str),
}

/// What `migrate` does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MigrateCommand<'a> {
    /// Ask another host whether it could take a VM; changes nothing.
    Check {
        /// The VM.
        vm: &'a str,
        /// The target.
        host: Peer<'a>,
    },
    /// Move a running VM to another host.
    Move {
        /// The VM.
        vm: &'a str,
        /// The target.
        host: Peer<'a>,
        /// How.
        options: MigrateOptions,
    },
    /// Move every running VM to another host.
    All {
        /// The target.
        host: Peer<'a>,
        /// How.
        options: MigrateOptions,
    },
    /// Show the migration under way, or the last one.
    Status(Output),
    /// Leave a VM here.
    Cancel(&'a str),
    /// Decide about a VM that may run on the other host.
    Resolve {
        /// The VM.
        vm: &'a str,
        /// What becomes of it.
        verdict: Verdict,
        /// What the other host printed when it discarded its copy.
        receipt: Option<&'a str>,
        /// Wanted without a receipt.
        force: bool,
    },
}

/// How a VM is moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MigrateOptions {
    /// Milliseconds that the guest may stand still; the host's default where not given.
    pub downtime_ms: Option<u64>,
    /// Seconds until `on_timeout` acts; without it, once the rounds do not get shorter.
    pub timeout_s: Option<u64>,
    /// What follows then.
    pub on_timeout: OnTimeout,
    /// Whether a digest of the whole RAM is compared.
    pub verify: bool,
    /// How pages are made smaller; the host's default where not given.
    pub compress: Option<Compression>,
    /// Give a copy away, and let the VM run on here.
    pub copy: bool,
    /// Give the prompt back at once.
    pub detach: bool,
    /// Rewrite one line in place.
    pub live: bool,
}

impl MigrateOptions {
    /// What holds where nothing is said.
    pub const DEFAULT: Self = Self {
        downtime_ms: None,
        timeout_s: None,
        on_timeout: OnTimeout::Force,
        verify: false,
        compress: None,
        copy: false,
        detach: false,
        live: false,
    };
}

/// What is said of the terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TermSettings {
    /// What it is.
    pub term: Option<Term>,
    /// Columns of a row.
    pub columns: Option<u16>,
    /// Rows of the screen; 0: not known.
    pub rows: Option<u16>,
}

impl TermSettings {
    /// Nothing: it is only shown.
    pub const NONE: Self = Self { term: None, columns: None, rows: None };
}

/// What becomes of a VM that may run on another host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It runs on this host.
    RunHere,
    /// It is destroyed on this host.
    Discard,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::RunHere, Self::Discard];

    /// The word for it on the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RunHere => "run-here",
            Self::Discard => "discard",
        }
    }
}

/// How the pages that a guest writes are noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DirtyMethod {
    /// Page-modification logging.
    Pml,
    /// Scan of the EPT's dirty flags.
    AccessDirty,
    /// Write protection: an exit for the first write to each page.
    WriteProtect,
}

impl DirtyMethod {
    /// All methods, the cheapest first.
    pub const ALL: [Self; 3] = [Self::Pml, Self::AccessDirty, Self::WriteProtect];

    /// The word for it on the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pml => "pml",
            Self::AccessDirty => "ad",
            Self::WriteProtect => "wp",
        }
    }
}

/// How much of the log the console shows; each level includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// What was asked for could not be done.
    Error,
    /// Something is not as it should be, and work goes on.
    Warn,
    /// What an operator follows: stages of the boot, states of VMs, rounds of a migration.
    Info,
    /// What a developer follows.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// All levels, the quietest first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word for it on the console and on the boot line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
