//! Arguments that rows share.

use crate::table::{Arg, Kind, Setting};

pub(super) const VM: Arg = Arg { name: "VM", kind: Kind::Vm, required: true };
pub(super) const HOST: Arg = Arg { name: "HOST[:PORT]", kind: Kind::Host, required: true };
pub(super) const PEER: Arg = Arg { name: "HOST", kind: Kind::Peer, required: true };
pub(super) const LEVEL: Arg = Arg { name: "LEVEL", kind: Kind::Level, required: true };
pub(super) const METHOD: Arg = Arg { name: "METHOD", kind: Kind::Method, required: false };
pub(super) const TOPIC: Arg = Arg { name: "COMMAND", kind: Kind::Topic, required: false };
pub(super) const OPTIONAL_VM: Arg = Arg { required: false, ..VM };
pub(super) const SUBJECT: Arg = Arg { name: "LEVEL|VM|HOST", kind: Kind::Subject, required: false };
pub(super) const A: Arg = Arg { name: "A", kind: Kind::Subject, required: true };
pub(super) const B: Arg = Arg { name: "B", ..A };
pub(super) const MEMBER: Arg = Arg { name: "HOST", ..A };
pub(super) const OPTIONAL_MEMBER: Arg = Arg { required: false, ..MEMBER };
pub(super) const ACTION: Arg = Arg { name: "ACTION", kind: Kind::Action, required: true };
pub(super) const KEY: Arg = Arg { name: "KEY", kind: Kind::Secret, required: true };
pub(super) const JSON: Arg = Arg { name: "--json", kind: Kind::Flag, required: false };
pub(super) const FORCE: Arg = Arg { name: "--force", kind: Kind::Flag, required: false };
pub(super) const DOWNTIME: Arg =
    Arg { name: "downtime=MS", kind: Kind::Setting(Setting::Downtime), required: false };
pub(super) const TIMEOUT: Arg =
    Arg { name: "timeout=S", kind: Kind::Setting(Setting::Timeout), required: false };
pub(super) const ON_TIMEOUT: Arg = Arg {
    name: "on-timeout=cancel|throttle|force",
    kind: Kind::Setting(Setting::OnTimeout),
    required: false,
};
pub(super) const VERIFY: Arg =
    Arg { name: "verify=full|seals", kind: Kind::Setting(Setting::Verify), required: false };
pub(super) const COMPRESS: Arg =
    Arg { name: "compress=none|lz4|delta|auto", kind: Kind::Setting(Setting::Compress), required: false };
pub(super) const COPY: Arg = Arg { name: "--copy", kind: Kind::Flag, required: false };
pub(super) const DETACH: Arg = Arg { name: "--detach", kind: Kind::Flag, required: false };
pub(super) const LIVE: Arg = Arg { name: "--live", kind: Kind::Flag, required: false };
pub(super) const VERDICT: Arg = Arg { name: "VERDICT", kind: Kind::Verdict, required: true };
pub(super) const RECEIPT: Arg =
    Arg { name: "receipt=RECEIPT", kind: Kind::Setting(Setting::Receipt), required: false };
pub(super) const NEW_NAME: Arg = Arg { name: "NAME", kind: Kind::NewName, required: true };
pub(super) const SWITCH: Arg = Arg { name: "on|off", kind: Kind::Switch, required: false };
pub(super) const ADDRESS: Arg = Arg { name: "ADDRESS", kind: Kind::Number, required: true };
pub(super) const LENGTH: Arg = Arg { name: "LENGTH", kind: Kind::Number, required: false };
pub(super) const VCPU: Arg = Arg { name: "VCPU", kind: Kind::Number, required: false };
pub(super) const THE_VCPU: Arg = Arg { required: true, ..VCPU };
pub(super) const HOST_CPU: Arg = Arg { name: "CPU", kind: Kind::Number, required: true };
pub(super) const MSR: Arg = Arg { name: "MSR", kind: Kind::Number, required: true };
pub(super) const VALUE: Arg = Arg { name: "VALUE", kind: Kind::Number, required: true };
pub(super) const PINGED: Arg = Arg { name: "HOST", kind: Kind::Address, required: true };
pub(super) const VIRTUAL: Arg = Arg { name: "--virtual", kind: Kind::Flag, required: false };
pub(super) const PREVIOUS: Arg = Arg { name: "--previous", kind: Kind::Flag, required: false };
pub(super) const FOLLOW: Arg = Arg { name: "-f", kind: Kind::Flag, required: false };
pub(super) const UTC: Arg = Arg { name: "--utc", kind: Kind::Flag, required: false };
pub(super) const EVERY: Arg =
    Arg { name: "-n SECONDS", kind: Kind::Setting(Setting::Every), required: false };
pub(super) const LINE: Arg = Arg { name: "COMMAND", kind: Kind::Line, required: true };
pub(super) const ROWS_SET: Arg = Arg { name: "rows=N", kind: Kind::Setting(Setting::Rows), required: false };
pub(super) const BOOT: Arg = Arg { name: "--boot", kind: Kind::Flag, required: false };
pub(super) const ONCE: Arg = Arg { name: "--once", kind: Kind::Flag, required: false };
pub(super) const ANEW: Arg = Arg { name: "--anew", kind: Kind::Flag, required: false };
pub(super) const OPTIONAL_LEVEL: Arg = Arg { required: false, ..LEVEL };
pub(super) const READ_ONLY: Arg = Arg { name: "--read-only", kind: Kind::Flag, required: false };
pub(super) const TERM: Arg = Arg { name: "auto|dumb|ansi", kind: Kind::Term, required: false };
pub(super) const COLUMNS: Arg =
    Arg { name: "columns=N", kind: Kind::Setting(Setting::Columns), required: false };
pub(super) const KERNEL: Arg =
    Arg { name: "--kernel URL", kind: Kind::Setting(Setting::Kernel), required: true };
pub(super) const INITRD: Arg =
    Arg { name: "--initrd URL", kind: Kind::Setting(Setting::Initrd), required: false };
pub(super) const MEM: Arg = Arg { name: "--mem MIB", kind: Kind::Setting(Setting::Mem), required: false };
pub(super) const CMDLINE: Arg =
    Arg { name: "--cmdline TEXT", kind: Kind::Setting(Setting::GuestLine), required: false };
pub(super) const GUEST_LEVEL: Arg =
    Arg { name: "--level LEVEL", kind: Kind::Setting(Setting::CpuLevel), required: false };
pub(super) const PHYS_BITS: Arg =
    Arg { name: "--phys-bits BITS", kind: Kind::Setting(Setting::PhysBits), required: false };
pub(super) const VCPUS: Arg = Arg { name: "--vcpus N", kind: Kind::Setting(Setting::Vcpus), required: false };
pub(super) const TOPOLOGY: Arg =
    Arg { name: "--topology SOCKETS:CORES:THREADS", kind: Kind::Setting(Setting::Topology), required: false };
pub(super) const SHA256: Arg =
    Arg { name: "--sha256 HEX", kind: Kind::Setting(Setting::Sha256), required: false };
pub(super) const INITRD_SHA256: Arg =
    Arg { name: "--initrd-sha256 HEX", kind: Kind::Setting(Setting::InitrdSha256), required: false };
pub(super) const PAUSED: Arg = Arg { name: "--paused", kind: Kind::Flag, required: false };
pub(super) const DEBUG_EXIT: Arg = Arg { name: "--debug-exit", kind: Kind::Flag, required: false };
pub(super) const ON_RESET: Arg =
    Arg { name: "--on-reset restart|stop", kind: Kind::Setting(Setting::OnReset), required: false };
pub(super) const STATE: Arg = Arg {
    name: "--state running|paused|stopped|leaving|incoming|given|unknown",
    kind: Kind::Setting(Setting::State),
    required: false,
};
pub(super) const SORT: Arg =
    Arg { name: "--sort arrival|name|cpu|mem|uptime", kind: Kind::Setting(Setting::Sort), required: false };
