//! The one table of commands.

use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};

use crate::command::{
    AuditAction, Command, CreateOptions, DirtyMethod, ListOptions, ListSort, LogLevel, MigrateOptions,
    Output, Peer, TermSettings, Verdict,
};

use crate::nearest::nearest;

mod json;
mod rows;

pub use json::{JSON_KEYS, JsonKeys};
pub use rows::COMMANDS;

/// What an argument must look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The name of a VM.
    Vm,
    /// An IPv4 address with an optional port.
    Host,
    /// The same, or the name of a member of the pool.
    Peer,
    /// A name for a VM that it does not have yet.
    NewName,
    /// An IPv4 address.
    Address,
    /// A number, decimal or hexadecimal behind `0x`.
    Number,
    /// `on` or `off`.
    Switch,
    /// A log level.
    Level,
    /// A method of dirty tracking.
    Method,
    /// A level, a VM or a host of the pool, by name.
    Subject,
    /// What an audit does.
    Action,
    /// A key, which no message may show.
    Secret,
    /// What becomes of a VM whose owner is unknown.
    Verdict,
    /// `KEY=VALUE`, or `--KEY VALUE`, anywhere behind the words; the argument's name shows the values.
    Setting(Setting),
    /// What the terminal is.
    Term,
    /// The words of a command.
    Topic,
    /// A command with its arguments: the rest of the line.
    Line,
    /// A switch, typed as the argument's name.
    Flag,
}

impl Kind {
    /// Whether it is told by its form, not by its place.
    pub(crate) const fn is_named(self) -> bool {
        matches!(self, Self::Flag | Self::Setting(_))
    }
}

/// What a `KEY=VALUE` sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// Milliseconds that the guest may stand still.
    Downtime,
    /// Seconds until `on-timeout` acts.
    Timeout,
    /// What follows then.
    OnTimeout,
    /// What is compared before the hand-over.
    Verify,
    /// How pages are made smaller.
    Compress,
    /// What the other host printed when it discarded its copy.
    Receipt,
    /// Columns of a row of the terminal.
    Columns,
    /// Rows of its screen.
    Rows,
    /// Where a VM's kernel lies.
    Kernel,
    /// Where its initrd lies.
    Initrd,
    /// MiB of its RAM.
    Mem,
    /// Its command line.
    GuestLine,
    /// Its CPU level.
    CpuLevel,
    /// Its physical address width.
    PhysBits,
    /// How many vCPUs it has.
    Vcpus,
    /// How they are laid out.
    Topology,
    /// What follows when the guest resets its machine.
    OnReset,
    /// Digest of the kernel's file.
    Sha256,
    /// Digest of the initrd's file.
    InitrdSha256,
    /// The state that listed VMs are in.
    State,
    /// The order of a list.
    Sort,
    /// Seconds between two answers.
    Every,
}

/// One argument of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arg {
    /// How usage lines call it.
    pub name: &'static str,
    /// What it must look like.
    pub kind: Kind,
    /// Whether the command is refused without it.
    pub required: bool,
}

impl Arg {
    /// Whether it can be left out before this one: the form of a word tells which of them it is.
    pub(crate) fn may_be_passed(&self, next: Option<&Self>) -> bool {
        self.kind == Kind::Number && !self.required && next.is_some_and(|next| next.kind == Kind::Switch)
    }
}

/// One command: everything that parser, help and docs know about it.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The words that select it.
    pub words: &'static [&'static str],
    /// Its arguments in order; flags may stand anywhere behind the words.
    pub args: &'static [Arg],
    /// One line for the list of commands.
    pub summary: &'static str,
    /// More for `help COMMAND`.
    pub details: &'static str,
    /// It can lose a guest's work: wants `--force` where it would.
    pub dangerous: bool,
    pub(crate) build: for<'a> fn(Values<'a>) -> Command<'a>,
}

/// Arguments as parsed; a required one is always set when `build` is called.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) vm: Option<&'a str>,
    pub(crate) host: SocketAddrV4,
    pub(crate) peer: Peer<'a>,
    pub(crate) subjects: [Option<&'a str>; 2],
    pub(crate) action: AuditAction,
    pub(crate) secret: &'a str,
    pub(crate) level: Option<LogLevel>,
    pub(crate) method: Option<DirtyMethod>,
    pub(crate) topic: Option<&'a str>,
    pub(crate) line: &'a str,
    /// Between two answers of it.
    pub(crate) seconds: u32,
    pub(crate) utc: bool,
    pub(crate) migrate: MigrateOptions,
    pub(crate) verdict: Verdict,
    pub(crate) receipt: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) numbers: [Option<u64>; 2],
    pub(crate) switch: Option<bool>,
    pub(crate) linear: bool,
    pub(crate) previous: bool,
    pub(crate) once: bool,
    pub(crate) follow: bool,
    pub(crate) boot: bool,
    pub(crate) anew: bool,
    pub(crate) term: TermSettings,
    pub(crate) read_only: bool,
    pub(crate) create: CreateOptions<'a>,
    pub(crate) list: ListOptions,
    pub(crate) force: bool,
    pub(crate) output: Output,
}

impl<'a> Values<'a> {
    /// A required VM.
    fn vm(&self) -> &'a str {
        self.vm.unwrap_or_default()
    }

    /// A required number.
    fn number(&self, at: usize) -> u64 {
        self.numbers.get(at).copied().flatten().unwrap_or_default()
    }

    /// A vCPU, where one is named; the parser has let no larger number pass.
    fn vcpu(&self) -> Option<u32> {
        self.numbers[0].map(|number| u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// A CPU of the host, after a vCPU; the parser has let no larger number pass.
    fn host_cpu(&self) -> u32 {
        u32::try_from(self.number(1)).unwrap_or(u32::MAX)
    }

    /// A required MSR; the parser has let no larger number pass.
    fn msr(&self) -> u32 {
        u32::try_from(self.number(0)).unwrap_or(u32::MAX)
    }

    /// A required subject.
    fn subject(&self, at: usize) -> &'a str {
        self.subjects.get(at).copied().flatten().unwrap_or_default()
    }
}

impl Values<'_> {
    pub(crate) const NONE: Self = Self {
        vm: None,
        host: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
        peer: Peer::Member(""),
        subjects: [None; 2],
        action: AuditAction::Report,
        secret: "",
        level: None,
        method: None,
        topic: None,
        line: "",
        seconds: 2,
        utc: false,
        migrate: MigrateOptions::DEFAULT,
        verdict: Verdict::Discard,
        receipt: None,
        name: "",
        numbers: [None; 2],
        switch: None,
        linear: false,
        previous: false,
        once: false,
        follow: false,
        boot: false,
        anew: false,
        term: TermSettings::NONE,
        read_only: false,
        create: CreateOptions::NONE,
        list: ListOptions { state: None, sort: ListSort::Arrival },
        force: false,
        output: Output::Text,
    };
}

/// Shows the words, e.g. `vm list`.
impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.words.iter().enumerate() {
            let gap = if i == 0 { "" } else { " " };
            write!(f, "{gap}{word}")?;
        }
        Ok(())
    }
}

impl Spec {
    /// The usage line, e.g. `vm destroy VM [--force]`.
    #[must_use]
    pub const fn usage(&self) -> impl fmt::Display + '_ {
        Usage { spec: self, flags: true }
    }

    /// The option or `KEY=` that a word is spelt nearly like, dashes and value aside.
    pub(crate) fn option_near(&'static self, word: &str) -> Option<OptionName> {
        let bare = |arg: &Arg| key_of(arg).trim_start_matches('-');
        let named = || self.args.iter().filter(|arg| arg.kind.is_named());
        let typed = word.trim_start_matches('-').split('=').next().unwrap_or_default();
        let near = nearest(typed, named().map(bare))?;
        named().find(|arg| bare(arg) == near).map(OptionName)
    }

    /// The usage line without what can be left out by name.
    pub(crate) const fn brief(&self) -> impl fmt::Display + '_ {
        Usage { spec: self, flags: false }
    }
}

/// How an option is typed: `--force`, `downtime=`.
#[derive(Clone, Copy, Debug)]
pub struct OptionName(&'static Arg);

impl fmt::Display for OptionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(key_of(self.0))?;
        let dashed = self.0.name.starts_with('-');
        if self.0.kind == Kind::Flag || dashed { Ok(()) } else { f.write_str("=") }
    }
}

struct Usage<'a> {
    spec: &'a Spec,
    flags: bool,
}

impl fmt::Display for Usage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)?;
        for arg in self.spec.args.iter().filter(|arg| self.flags || arg.required || !arg.kind.is_named()) {
            if arg.required { write!(f, " {}", arg.name)? } else { write!(f, " [{}]", arg.name)? }
        }
        Ok(())
    }
}

/// `KEY` of `KEY=VALUE` or `--KEY VALUE`, or the name as it is.
pub(crate) fn key_of(arg: &Arg) -> &'static str {
    arg.name.split(['=', ' ']).next().unwrap_or_default()
}
