//! The lines of boot modules: which VM a module describes or belongs to.

use alloc::format;
use alloc::string::{String, ToString};

use vm_types::{OnReset, Topology};

use crate::error::{OptionError, Refused};
use crate::host::one_of;
use crate::table::{self, OptionSet, Spec};
use crate::value;
use crate::words::Words;

/// Most vCPUs a VM can have.
pub const MAX_VCPUS: u32 = vm_types::MAX_VCPUS;
/// Most memory a VM can have, in MiB.
pub const MAX_MEM_MIB: u32 = 1 << 20;

/// A VM as its kernel's module line describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmOptions {
    /// `vm=`: the VM's name.
    pub name: String,
    /// `mem=`: RAM in MiB.
    pub mem_mib: u32,
    /// `level=`: the CPU level's name; `None` for what this host or its pool can give.
    pub level: Option<String>,
    /// `phys-bits=`: physical address width in bits; `None` for the least of level, pool and host.
    pub phys_bits: Option<u8>,
    /// `vcpus=`
    pub vcpus: u32,
    /// `topology=`, where it is another than [`Topology::flat`]
    pub topology: Option<Topology>,
    /// `pci=`: there is a PCI bus.
    pub pci: bool,
    /// `rng=`: there is an entropy device on that bus.
    pub rng: bool,
    /// `debug-exit`: a write to port 0xF4 ends the VM with that code.
    pub debug_exit: bool,
    /// `on-reset=`: what follows when the guest resets its machine.
    pub on_reset: OnReset,
    /// `paused`: made, but started only by `vm start`.
    pub paused: bool,
    /// The guest's command line: everything behind `-- `, verbatim.
    pub args: String,
}

impl Default for VmOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            mem_mib: 256,
            level: None,
            phys_bits: None,
            vcpus: 1,
            topology: None,
            pci: false,
            rng: false,
            debug_exit: false,
            on_reset: OnReset::Restart,
            paused: false,
            args: String::new(),
        }
    }
}

pub(crate) const VM_TABLE: &[Spec<VmOptions>] = &[
    Spec {
        name: "vm",
        form: "NAME",
        default: "",
        help: "Makes this module the kernel of a VM of that name.",
        set: |o, v| value::name(v).map(|name| o.name = name),
    },
    Spec {
        name: "mem",
        form: "MIB (1 to 1048576)",
        default: "256",
        help: "RAM in MiB.",
        set: |o, v| value::decimal(v, 1, MAX_MEM_MIB).map(|mib| o.mem_mib = mib),
    },
    Spec {
        name: "level",
        form: "LEVEL",
        default: "",
        help: "CPU level the guest sees, e.g. `haswell`; without it, all that this host, or each member of its pool, can give.",
        set: |o, v| value::name(v).map(|level| o.level = Some(level)),
    },
    Spec {
        name: "phys-bits",
        form: "BITS (32 to 52)",
        default: "",
        help: "Physical address width the guest sees, for a VM that is to move to a host with fewer bits or needs more than its level has; without it, the least of level, pool and host.",
        set: |o, v| value::decimal(v, 32, 52).map(|bits| o.phys_bits = Some(bits as u8)),
    },
    Spec {
        name: "vcpus",
        form: "N (1 to 64)",
        default: "1",
        help: "Number of virtual CPUs. More than one want a host CPU with unrestricted guest (Westmere and later).",
        set: |o, v| value::decimal(v, 1, MAX_VCPUS).map(|count| o.vcpus = count),
    },
    Spec {
        name: "topology",
        form: "SOCKETS:CORES:THREADS",
        default: "",
        help: "How the vCPUs are laid out: packages, cores in each, threads in each core, together as many as `vcpus=` says; without it one package of cores with a thread each. Cores are a power of two where there are several packages, threads where there are several cores or packages.",
        set: |o, v| Topology::parse(v).map(|topology| o.topology = Some(topology)),
    },
    Spec {
        name: "pci",
        form: "on|off",
        default: "off",
        help: "Whether the VM has a PCI bus: an i440FX bridge and its companions.",
        set: |o, v| one_of(v, &[("on", true), ("off", false)]).map(|pci| o.pci = pci),
    },
    Spec {
        name: "rng",
        form: "on|off",
        default: "off",
        help: "Whether the VM has an entropy device (virtio-rng) on its PCI bus, which `pci=on` gives it.",
        set: |o, v| one_of(v, &[("on", true), ("off", false)]).map(|rng| o.rng = rng),
    },
    Spec {
        name: "debug-exit",
        form: "",
        default: "",
        help: "Lets the guest end itself with a result code by a write to I/O port 0xf4.",
        set: |o, _| {
            o.debug_exit = true;
            Some(())
        },
    },
    Spec {
        name: "on-reset",
        form: "restart|stop",
        default: "restart",
        help: "What follows when the guest resets its machine (port 0xcf9, keyboard controller, ACPI, triple fault): it boots anew, from the second time within 10 s on after 1, 2, 4 to 64 s, or it is over.",
        set: |o, v| OnReset::ALL.into_iter().find(|on| on.name() == v).map(|on| o.on_reset = on),
    },
    Spec {
        name: "paused",
        form: "",
        default: "",
        help: "Makes the VM without starting it; `vm start NAME` does.",
        set: |o, _| {
            o.paused = true;
            Some(())
        },
    },
];

pub(crate) const FOR_TABLE: &[Spec<String>] = &[Spec {
    name: "for",
    form: "NAME",
    default: "",
    help: "Gives this module to the VM of that name, described by an earlier module: Linux's initrd, or a module of \
           a Multiboot guest.",
    set: |o, v| value::name(v).map(|name| *o = name),
}];

impl OptionSet for VmOptions {}

impl OptionSet for String {}

impl VmOptions {
    /// Parses the line of a VM's kernel.
    ///
    /// # Errors
    /// The first fault of the line, by option and value.
    pub fn parse(line: &str) -> Result<Self, OptionError> {
        let mut options = Self::default();
        options.args = strictly(VM_TABLE, line, &mut options)?.to_string();
        if options.name.is_empty() {
            return Err(OptionError::Missing { name: "vm" });
        }
        if options.rng && !options.pci {
            return Err(OptionError::Needs { name: "rng", value: "on", needs: "pci=on" });
        }
        options.topology().check(options.vcpus).map_err(OptionError::Topology)?;
        // Saying what holds without saying it is no other VM.
        options.topology = options.topology.filter(|topology| *topology != Topology::flat(options.vcpus));
        Ok(options)
    }

    /// How its vCPUs are laid out.
    #[must_use]
    pub fn topology(&self) -> Topology {
        self.topology.unwrap_or(Topology::flat(self.vcpus))
    }

    /// The options as words of a line that makes the same VM under another name: without name, `paused` and command line,
    /// and without what is said by saying nothing.
    #[must_use]
    pub fn words(&self) -> String {
        let plain = Self::default();
        let mut line = format!("mem={}", self.mem_mib);
        let mut say = |word: Option<String>| {
            if let Some(word) = word {
                line.push(' ');
                line.push_str(&word);
            }
        };
        say(self.level.as_ref().map(|level| format!("level={level}")));
        say(self.phys_bits.map(|bits| format!("phys-bits={bits}")));
        say((self.vcpus != plain.vcpus).then(|| format!("vcpus={}", self.vcpus)));
        say(self.topology.map(|topology| format!("topology={topology}")));
        say(self.pci.then(|| "pci=on".into()));
        say(self.rng.then(|| "rng=on".into()));
        say(self.debug_exit.then(|| "debug-exit".into()));
        say((self.on_reset != plain.on_reset).then(|| format!("on-reset={}", self.on_reset.name())));
        line
    }

    /// The rows of the VM line's table.
    #[must_use]
    pub fn table() -> &'static [Spec<Self>] {
        VM_TABLE
    }
}

/// The word on the line of the module that holds the pool key.
const POOL_KEY: &str = "pool-key";

/// The word on the line of a module that holds host options.
const CONFIG: &str = "config";

/// The word on the line of the module that holds what a loader found wrong.
const LOADER_ERRORS: &str = "loader-errors";

/// What a boot module is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ModuleRole {
    /// The kernel of a VM.
    Vm(VmOptions),
    /// Belongs to a VM: its initrd or module.
    For {
        /// The VM's name.
        name: String,
        /// Everything behind `-- `, verbatim: the module's string for a Multiboot guest.
        rest: String,
    },
    /// Holds the pool key: 64 hexadecimal digits.
    PoolKey,
    /// A file of host options, by the name that warnings call it.
    Config(String),
    /// Text of a loader: a line for each thing that it found wrong.
    LoaderErrors,
    /// None of these.
    Other,
}

impl ModuleRole {
    /// Parses any module's line; the option that decides, `vm=` or `for=`, may stand anywhere before `--`.
    ///
    /// # Errors
    /// The VM that the line names and why it cannot start.
    pub fn parse(line: &str) -> Result<Self, Refused> {
        if let Some(vm) = value_of("vm", line) {
            return VmOptions::parse(line).map(Self::Vm).map_err(|error| Refused { vm, error });
        }
        let Some(vm) = value_of("for", line) else {
            if Words::new(line).any(|word| word.text == POOL_KEY) {
                return Ok(Self::PoolKey);
            }
            if Words::new(line).any(|word| word.text == LOADER_ERRORS) {
                return Ok(Self::LoaderErrors);
            }
            let config = Words::new(line).find_map(|word| match word.split() {
                (CONFIG, name) => Some(name.unwrap_or(CONFIG).to_string()),
                _ => None,
            });
            return Ok(config.map_or(Self::Other, Self::Config));
        };
        let mut name = String::new();
        match strictly(FOR_TABLE, line, &mut name) {
            Ok(rest) => Ok(Self::For { name, rest: rest.to_string() }),
            Err(error) => Err(Refused { vm, error }),
        }
    }
}

/// The value that `line` gives option `name` first.
fn value_of(name: &str, line: &str) -> Option<String> {
    Words::new(line).find_map(|word| match word.split() {
        (found, Some(value)) if found == name => Some(value.to_string()),
        _ => None,
    })
}

/// Applies a line and fails with its first fault.
fn strictly<'a, T: OptionSet>(
    table: &'static [Spec<T>],
    line: &'a str,
    to: &mut T,
) -> Result<&'a str, OptionError> {
    let mut first = None;
    let rest = table::apply(table, line, to, |error| {
        first.get_or_insert(error);
    });
    first.map_or(Ok(rest), Err)
}
