//! The host's own boot line.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use crate::config::ConfigFile;
use crate::error::{OptionError, Warning};
use crate::nic::NicChoice;
use crate::secret::Secret;
use crate::table::{self, OptionSet, Spec};
use crate::uart::{self, COM1_PORT, COM2_PORT, Console, Uart};
use crate::value;
use crate::words::Words;

/// The least urgent log line that is printed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The host's IPv4 configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpConfig {
    /// No network.
    Off,
    /// Ask a DHCP server.
    Dhcp,
    /// Fixed.
    Static {
        /// The host's address.
        address: Ipv4Addr,
        /// Length of the network part in bits, 1 to 32.
        prefix: u8,
        /// The default router.
        gateway: Option<Ipv4Addr>,
    },
}

/// What an idle host CPU does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idle {
    /// Halt until an interrupt.
    Hlt,
    /// Poll (keeps emulators' clocks together).
    Poll,
}

/// What ends a guest's run when its time is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SliceTimer {
    /// The VMX-preemption timer.
    Preemption,
    /// The local APIC's timer.
    Apic,
}

/// What of guests' local APICs is left to the CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Apicv {
    /// APICv and posted interrupts, where it has them and APICv works.
    Auto,
    /// The same, whether APICv works or not.
    On,
    /// As `Auto`, without posted interrupts.
    NoPosted,
    /// Neither.
    Off,
}

/// What a panic ends with, once it is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PanicAction {
    /// Halt all CPUs.
    Halt,
    /// Reset the machine.
    Reboot,
    /// Write to the emulator's exit port.
    DebugExit,
}

/// Whom a serial port belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SerialUse {
    /// The host: its console, or nothing.
    Host,
    /// COM1 of the VM of that name.
    Vm(String),
}

/// Everything the boot line can say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostOptions {
    /// `console=`: the serial ports of the console; empty where nothing is said.
    pub consoles: Vec<Console>,
    /// `loglevel=`
    pub log_level: LogLevel,
    /// `ip=`
    pub ip: IpConfig,
    /// `nic=`: the network card that the host uses.
    pub nic: NicChoice,
    /// `idle=`
    pub idle: Idle,
    /// `panic=`
    pub panic: PanicAction,
    /// `mitigations=`: whether the entry and exit paths guard against speculative execution.
    pub mitigations: bool,
    /// `iommu=`: whether devices reach only what they are given, where the host can see to that.
    pub iommu: bool,
    /// `aesni=`: whether this host keeps AES-NI.
    pub aesni: bool,
    /// `slice-timer=`: what ends a guest's run; `None`: what suits the CPU.
    pub slice_timer: Option<SliceTimer>,
    /// `apicv=`: what of guests' local APICs is left to the CPU.
    pub apicv: Apicv,
    /// `check=`: whether each VM entry is judged by the SDM's rules first.
    pub check_entry: bool,
    /// `migrate=`: TCP port on which incoming migrations are accepted.
    pub migrate_port: Option<u16>,
    /// `manage=`: whether commands are taken over links.
    pub manage: bool,
    /// `accept=`: most guest memory that this host takes by migration in all, in MiB; `None`: all that is free.
    pub accept_mib: Option<u32>,
    /// `key=`: the pool's key.
    pub key: Option<Secret>,
    /// `hostkey=`: this host's own key.
    pub host_key: Option<Secret>,
    /// `seed=`: randomness.
    pub seed: Option<Secret>,
    /// `insecure`: links without a key.
    pub insecure: bool,
    /// `selftest`: the host checks itself and reports.
    pub selftest: bool,
    /// `pool=`: the pool that this host forms with others.
    pub pool: Option<String>,
    /// `name=`: this host's name in it.
    pub name: Option<String>,
    /// `peers=`: where other hosts of the pool are; port 4444 unless given.
    pub peers: Vec<SocketAddrV4>,
    /// `pool-wait=`: how long VMs without a level wait for the pool, in seconds.
    pub pool_wait_s: u32,
    /// `max-file=`: the longest file, in MiB, that goes along with a VM.
    pub max_file_mib: u32,
    /// `com1=`
    pub com1: SerialUse,
    /// `com2=`
    pub com2: SerialUse,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            consoles: Vec::new(),
            log_level: LogLevel::Info,
            ip: IpConfig::Off,
            nic: NicChoice::Auto,
            idle: Idle::Hlt,
            panic: PanicAction::Halt,
            mitigations: true,
            iommu: true,
            aesni: true,
            slice_timer: None,
            apicv: Apicv::Auto,
            check_entry: false,
            migrate_port: None,
            manage: false,
            accept_mib: None,
            key: None,
            host_key: None,
            seed: None,
            insecure: false,
            selftest: false,
            pool: None,
            name: None,
            peers: Vec::new(),
            pool_wait_s: 5,
            max_file_mib: 512,
            com1: SerialUse::Host,
            com2: SerialUse::Host,
        }
    }
}

/// The secrets of the options, erased as they go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Secrets {
    /// `key=`.
    pub key: Option<Secret>,
    /// `hostkey=`.
    pub host_key: Option<Secret>,
    /// `seed=`.
    pub seed: Option<Secret>,
}

/// An option as it is in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InForce {
    /// Its name.
    pub name: &'static str,
    /// Its value, `yes` for a flag that is set, empty where there is none. Secrets are not shown.
    pub value: String,
    /// What it comes from: a source, or `default`.
    pub from: &'static str,
}

/// What the boot line is called in warnings.
const BOOT_LINE: &str = "boot line";

/// Most addresses that `peers=` takes.
const MAX_PEERS: usize = 16;

pub(crate) const TABLE: &[Spec<HostOptions>] = &[
    Spec {
        name: "console",
        form: "PORT[,BAUD[n8]][,PORT...]",
        default: "",
        help: "Serial ports of the host's console and log, up to 4, each with a prompt of its own. PORT: `com1` to `com4`, \
               `0xPORT` (I/O), `mmio:0xADDRESS[,STRIDE]` (STRIDE 1, 2 or 4) or `pci:BB:DD.F[,N]` (port N of a 16550 card). \
               BAUD divides 115200, which it is unless given. May be given more than once. Without it, the port that \
               ACPI's SPCR names, else `com1`.",
        set: |o, v| put(&mut o.consoles, uart::consoles(v)),
    },
    Spec {
        name: "loglevel",
        form: "error|warn|info|debug|trace",
        default: "info",
        help: "The least urgent log line that is printed.",
        set: |o, v| put(&mut o.log_level, log_level(v)),
    },
    Spec {
        name: "ip",
        form: "off|dhcp|A.B.C.D/M[,GATEWAY]",
        default: "off",
        help: "The host's IPv4 address: none, from DHCP, or fixed with prefix length and optional router.",
        set: |o, v| put(&mut o.ip, ip(v)),
    },
    Spec {
        name: "nic",
        form: "auto|MAC|BB:DD.F",
        default: "auto",
        help: "The network card that the host uses, by its Ethernet address or its place on PCI. `auto`: the first in PCI \
               order whose link comes up within 4 s (10 Gbit/s: 12 s); where none does, the first.",
        set: |o, v| put(&mut o.nic, NicChoice::parse(v)),
    },
    Spec {
        name: "idle",
        form: "hlt|poll",
        default: "hlt",
        help: "What an idle host CPU does. `poll` keeps two emulated hosts at about the same speed.",
        set: |o, v| put(&mut o.idle, one_of(v, &[("hlt", Idle::Hlt), ("poll", Idle::Poll)])),
    },
    Spec {
        name: "panic",
        form: "halt|reboot|debug-exit",
        default: "halt",
        help: "What follows a panic of the host once it is printed; `debug-exit` ends an emulator.",
        set: |o, v| put(&mut o.panic, panic_action(v)),
    },
    Spec {
        name: "mitigations",
        form: "auto|off",
        default: "auto",
        help: "Guards against speculative execution on VM entry and exit, as this CPU needs them, or none.",
        set: |o, v| put(&mut o.mitigations, one_of(v, &[("auto", true), ("off", false)])),
    },
    Spec {
        name: "iommu",
        form: "auto|off",
        default: "auto",
        help: "Lets devices reach the network card's buffers only, where the host has VT-d; `off` trusts them all: for \
               firmware whose tables are wrong.",
        set: |o, v| put(&mut o.iommu, one_of(v, &[("auto", true), ("off", false)])),
    },
    Spec {
        name: "aesni",
        form: "on|off",
        default: "on",
        help: "`off` takes AES-NI from this host by MSR 13C where firmware has not locked it, until the next reset: for a \
               pool with CPUs that lack it.",
        set: |o, v| put(&mut o.aesni, one_of(v, &[("on", true), ("off", false)])),
    },
    Spec {
        name: "slice-timer",
        form: "auto|preemption|apic",
        default: "auto",
        help: "What brings the CPU back from a guest that does not give it up: the VMX-preemption timer, or the local APIC's. \
               `auto` takes the first but on CPUs where it is broken (all Nehalem Xeons, some later ones) or not lent.",
        set: |o, v| put(&mut o.slice_timer, slice_timer(v)),
    },
    Spec {
        name: "apicv",
        form: "auto|on|no-posted|off",
        default: "auto",
        help: "APIC-register virtualization and virtual-interrupt delivery: EOI and self-IPIs of guests do not exit. `auto` \
               uses them where the CPU has them and masks interrupts as it should, which is tried out at boot; `on` does not \
               mind what came out, `off` never does. Where the CPU has posted interrupts and IPI \
               virtualization, they are used with it: interrupts for a guest that runs, and its IPIs, do not make it exit. \
               `no-posted` is `auto` without them.",
        set: |o, v| put(&mut o.apicv, apicv(v)),
    },
    Spec {
        name: "check",
        form: "off|entry",
        default: "off",
        help: "`entry` judges each VM entry by the rules of the SDM (26.2, 26.3) before the CPU does, and stops the VM with \
               the rule that it breaks: for emulators, which check few of them, and for bug reports. Exits cost more.",
        set: |o, v| put(&mut o.check_entry, one_of(v, &[("off", false), ("entry", true)])),
    },
    Spec {
        name: "migrate",
        form: "off|listen[:PORT]",
        default: "off",
        help: "Takes links from other hosts, for migration and pool, on a TCP port (4444 unless named). Needs a pool key, \
               or `insecure`.",
        set: |o, v| put(&mut o.migrate_port, migrate(v)),
    },
    Spec {
        name: "manage",
        form: "off|on",
        default: "off",
        help: "Takes console commands over links: `flexctl --host`. On the port of `migrate=`, or on 4444 where this host \
               takes no migrations.",
        set: |o, v| put(&mut o.manage, one_of(v, &[("off", false), ("on", true)])),
    },
    Spec {
        name: "accept",
        form: "MIB (0 to 1048576)",
        default: "",
        help: "The most guest memory that this host takes by migration: that of all VMs together that came and are still \
               here. Without it, all that is free.",
        set: |o, v| put(&mut o.accept_mib, value::decimal(v, 0, 1 << 20).map(Some)),
    },
    Spec {
        name: "key",
        form: "HEX64",
        default: "",
        help: "The pool key: 64 hexadecimal digits from `flexctl keygen`, the same on all hosts of the pool. Whoever has it \
               is root on every one of them, and what comes by TFTP can be read on the boot network.",
        set: |o, v| put(&mut o.key, Secret::from_hex(v).map(Some)),
    },
    Spec {
        name: "hostkey",
        form: "HEX64",
        default: "",
        help: "This host's own key, 64 random hexadecimal digits. Without it each boot makes a new one, which the others \
               refuse until they are told `pool keys forget`.",
        set: |o, v| put(&mut o.host_key, Secret::from_hex(v).map(Some)),
    },
    Spec {
        name: "seed",
        form: "HEX64",
        default: "",
        help: "32 fresh random bytes for this boot, never used before. Needed where the CPU has no RDRAND or RDSEED.",
        set: |o, v| put(&mut o.seed, Secret::from_hex(v).map(Some)),
    },
    Spec {
        name: "insecure",
        form: "",
        default: "",
        help: "Links without a key: neither authenticated nor encrypted, and only with hosts that are insecure, too.",
        set: |o, _| {
            o.insecure = true;
            Some(())
        },
    },
    Spec {
        name: "selftest",
        form: "",
        default: "",
        help: "Checks the host before any VM is made, and prints a report to send with a question: docs/selftest.md.",
        set: |o, _| {
            o.selftest = true;
            Some(())
        },
    },
    Spec {
        name: "pool",
        form: "NAME",
        default: "",
        help: "Forms a pool of that name with other hosts: new VMs get the level that all members can give.",
        set: |o, v| put(&mut o.pool, value::name(v).map(Some)),
    },
    Spec {
        name: "peers",
        form: "A.B.C.D[:PORT][,...]",
        default: "",
        help: "Hosts of the pool, up to 16; one that is a member leads to all others. The port is 4444 unless given. The \
               host's own address may be among them.",
        set: |o, v| put(&mut o.peers, peers(v)),
    },
    Spec {
        name: "name",
        form: "NAME",
        default: "",
        help: "The host's name in its pool: letters a-z, digits and `-`; without it, `host-` and the MAC address.",
        set: |o, v| put(&mut o.name, value::name(v).map(Some)),
    },
    Spec {
        name: "pool-wait",
        form: "SECONDS (0 to 600)",
        default: "5",
        help: "How long VMs without a level wait at the start for all `peers` to answer; then they start at what is known.",
        set: |o, v| put(&mut o.pool_wait_s, value::decimal(v, 0, 600)),
    },
    Spec {
        name: "max-file",
        form: "MIB (0 to 1048576)",
        default: "512",
        help: "The longest kernel or module that goes along with a VM to another host or comes with one: a host that has it can boot the VM anew. What is longer stays behind, `vm reset` then fetches it from its URL, if there was one.",
        set: |o, v| put(&mut o.max_file_mib, value::decimal(v, 0, 1 << 20)),
    },
    Spec {
        name: "com1",
        form: "host|vm:NAME",
        default: "host",
        help: "Gives COM1 of the host to COM1 of a VM. Refused while the host's console is there.",
        set: |o, v| put(&mut o.com1, serial_use(v)),
    },
    Spec {
        name: "com2",
        form: "host|vm:NAME",
        default: "host",
        help: "Gives COM2 of the host to COM1 of a VM. Refused while the host's console is there.",
        set: |o, v| put(&mut o.com2, serial_use(v)),
    },
];

impl OptionSet for HostOptions {
    const REPEATED: &'static [&'static str] = &["console"];

    fn append(&mut self, more: Self) -> Option<()> {
        uart::add(&mut self.consoles, &more.consoles)
    }
}

/// Whether a UART has an I/O port in common with the one at `port`.
fn overlaps(uart: Uart, port: u16) -> bool {
    matches!(uart, Uart::Io(base) if base.abs_diff(port) < 8)
}

impl HostOptions {
    /// Parses the boot line. Whatever is wrong with it becomes a warning and changes nothing; the host comes up.
    #[must_use]
    pub fn parse(line: &str) -> (Self, Vec<Warning>) {
        Self::with_config(line, &[])
    }

    /// The boot line and, for what it does not give, the configuration files, the first first. Whatever is wrong with them
    /// becomes a warning that says where it stands, and changes nothing.
    #[must_use]
    pub fn with_config(line: &str, files: &[ConfigFile]) -> (Self, Vec<Warning>) {
        let mut options = Self::default();
        let mut warnings = Vec::new();
        for file in files.iter().rev() {
            let mut seen = Vec::new();
            for (number, line) in &file.options {
                let words = &mut Words::from_first(line);
                table::apply_words(TABLE, words, &mut options, &mut seen, |error| {
                    warnings.push(Warning { from: format!("{} line {number}", file.name), error });
                });
            }
            for (number, _) in file.rows() {
                let error = OptionError::ModuleRow;
                warnings.push(Warning { from: format!("{} line {number}", file.name), error });
            }
        }
        table::apply(TABLE, line, &mut options, |error| {
            warnings.push(Warning { from: BOOT_LINE.into(), error });
        });
        let Self { consoles, com1, com2, .. } = &mut options;
        for (name, port, owner) in [("com1", COM1_PORT, com1), ("com2", COM2_PORT, com2)] {
            let taken = match consoles.as_slice() {
                [] => port == COM1_PORT,
                some => some.iter().any(|console| overlaps(console.uart, port)),
            };
            if let (SerialUse::Vm(vm), true) = (&owner, taken) {
                let value = format!("vm:{vm}");
                warnings.push(Warning {
                    from: BOOT_LINE.into(),
                    error: OptionError::ConsolePort { name, value },
                });
                *owner = SerialUse::Host;
            }
        }
        (options, warnings)
    }

    /// Takes the secrets out: who uses them up erases them.
    pub fn take_secrets(&mut self) -> Secrets {
        Secrets { key: self.key.take(), host_key: self.host_key.take(), seed: self.seed.take() }
    }

    /// Every option with the value in force. `sources` are lines with what each is called, the strongest first.
    #[must_use]
    pub fn in_force(sources: &[(&'static str, &str)]) -> Vec<InForce> {
        let given: Vec<_> = sources.iter().map(|(from, line)| (*from, table::given(TABLE, line))).collect();
        let value = |spec: &Spec<Self>| {
            let by = |(from, words): &(&'static str, Vec<(&'static str, String)>)| {
                words.iter().find(|(name, _)| *name == spec.name).map(|(_, value)| (*from, value.clone()))
            };
            given.iter().find_map(by)
        };
        let row = |spec: &'static Spec<Self>| {
            let (from, value) = value(spec).unwrap_or(("default", spec.default.into()));
            InForce { name: spec.name, value, from }
        };
        TABLE.iter().map(row).collect()
    }

    /// The command line that gives what `options` say, those that are not defaults, and what was `changed` since the
    /// start: names with their values, an empty one for what is to be left out. A secret stands as `...`.
    #[must_use]
    pub fn line_for(options: &[InForce], changed: &[(&'static str, String)]) -> String {
        let mut line = String::new();
        for spec in TABLE {
            let given = options.iter().find(|option| option.name == spec.name && option.from != "default");
            let now = changed.iter().find(|(name, _)| *name == spec.name).map(|(_, value)| value);
            let Some(value) = now.or(given.map(|option| &option.value)).filter(|v| !v.is_empty()) else {
                continue;
            };
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(spec.name);
            if !spec.form.is_empty() {
                let quote = if value.contains(' ') { "\"" } else { "" };
                line.extend(["=", quote, value, quote]);
            }
        }
        line
    }

    /// The rows of the boot line's table.
    #[must_use]
    pub fn table() -> &'static [Spec<Self>] {
        TABLE
    }
}

fn put<T>(to: &mut T, value: Option<T>) -> Option<()> {
    *to = value?;
    Some(())
}

pub(crate) fn one_of<T: Clone>(value: &str, of: &[(&str, T)]) -> Option<T> {
    of.iter().find(|(name, _)| *name == value).map(|(_, meaning)| meaning.clone())
}

fn log_level(value: &str) -> Option<LogLevel> {
    use LogLevel::{Debug, Error, Info, Trace, Warn};
    one_of(value, &[("error", Error), ("warn", Warn), ("info", Info), ("debug", Debug), ("trace", Trace)])
}

fn ip(value: &str) -> Option<IpConfig> {
    match value {
        "off" => Some(IpConfig::Off),
        "dhcp" => Some(IpConfig::Dhcp),
        fixed => {
            let (network, gateway) = fixed.split_once(',').map_or((fixed, None), |(n, g)| (n, Some(g)));
            let (address, prefix) = network.split_once('/')?;
            Some(IpConfig::Static {
                address: value::unicast(address)?,
                prefix: u8::try_from(value::decimal(prefix, 1, 32)?).ok()?,
                gateway: gateway.map(|text| value::unicast(text).ok_or(())).transpose().ok()?,
            })
        }
    }
}

fn panic_action(value: &str) -> Option<PanicAction> {
    use PanicAction::{DebugExit, Halt, Reboot};
    one_of(value, &[("halt", Halt), ("reboot", Reboot), ("debug-exit", DebugExit)])
}

fn slice_timer(value: &str) -> Option<Option<SliceTimer>> {
    use SliceTimer::{Apic, Preemption};
    one_of(value, &[("auto", None), ("preemption", Some(Preemption)), ("apic", Some(Apic))])
}

fn apicv(value: &str) -> Option<Apicv> {
    use Apicv::{Auto, NoPosted, Off, On};
    one_of(value, &[("auto", Auto), ("on", On), ("no-posted", NoPosted), ("off", Off)])
}

fn migrate(value: &str) -> Option<Option<u16>> {
    match value {
        "off" => Some(None),
        "listen" => Some(Some(4444)),
        _ => {
            let port = value::decimal(value.strip_prefix("listen:")?, 1, 65_535)?;
            u16::try_from(port).ok().map(Some)
        }
    }
}

fn peers(list: &str) -> Option<Vec<SocketAddrV4>> {
    let peer = |text: &str| {
        let (address, port) = text.split_once(':').unwrap_or((text, "4444"));
        Some(SocketAddrV4::new(value::unicast(address)?, value::decimal(port, 1, 65_535)? as u16))
    };
    let peers: Vec<_> = list.split(',').map(peer).collect::<Option<_>>()?;
    (peers.len() <= MAX_PEERS).then_some(peers)
}

fn serial_use(value: &str) -> Option<SerialUse> {
    match value {
        "host" => Some(SerialUse::Host),
        _ => value::name(value.strip_prefix("vm:")?).map(SerialUse::Vm),
    }
}
