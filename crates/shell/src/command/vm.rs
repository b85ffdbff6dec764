//! `vm`.

use vm_types::{OnReset, Topology};

use super::Output;

/// What `vm` does. A `&str` is the VM's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VmCommand<'a> {
    /// List VMs.
    List(ListOptions, Output),
    /// Show one VM.
    Show(&'a str, Output),
    /// Start a VM that was described but never ran, or boot one anew that is over.
    Start(&'a str),
    /// Make a VM of files that a server has.
    Create(CreateOptions<'a>),
    /// Stop a VM's vCPUs at an instruction boundary.
    Pause(&'a str),
    /// Let a paused VM go on.
    Resume(&'a str),
    /// Press the VM's power button and wait for the guest to power off.
    Stop {
        /// The VM.
        vm: &'a str,
        /// Seconds to wait; [`DEFAULT_STOP_S`] where not given.
        timeout_s: Option<u64>,
    },
    /// Boot a VM anew, as its reset button would.
    Reset {
        /// The VM.
        vm: &'a str,
        /// Wanted while its guest is not over.
        force: bool,
        /// CPU level from then on, or `pool` for what a new VM would get; as it is where not given.
        level: Option<&'a str>,
    },
    /// Give a VM another name.
    Rename {
        /// The VM.
        vm: &'a str,
        /// Its name from now on.
        to: &'a str,
    },
    /// Stop a VM at once and free what it holds.
    Destroy {
        /// The VM.
        vm: &'a str,
        /// Wanted while it holds a guest.
        force: bool,
    },
    /// Count VM exits by reason.
    Exits {
        /// The VM.
        vm: &'a str,
        /// One vCPU; all where not given.
        vcpu: Option<u32>,
        /// Turn the measurement of ticks on or off; none prints the counts.
        timed: Option<bool>,
        /// How to print them.
        output: Output,
    },
    /// Print the registers of its vCPUs.
    Regs {
        /// The VM.
        vm: &'a str,
        /// One vCPU; all where not given.
        vcpu: Option<u32>,
        /// How to print them.
        output: Output,
    },
    /// Send a vCPU an NMI.
    Nmi {
        /// The VM.
        vm: &'a str,
        /// Which vCPU.
        vcpu: u32,
    },
    /// Have another CPU of the host run a vCPU.
    Pin {
        /// The VM.
        vm: &'a str,
        /// Which vCPU.
        vcpu: u32,
        /// Which CPU.
        cpu: u32,
    },
    /// Let the host choose again which CPU runs a vCPU.
    Unpin {
        /// The VM.
        vm: &'a str,
        /// Which vCPU.
        vcpu: u32,
    },
    /// Dump its memory.
    Memory {
        /// The VM.
        vm: &'a str,
        /// Where.
        at: MemoryAt,
        /// Bytes, 1 to [`MAX_DUMP`].
        length: u64,
        /// How to print them.
        output: Output,
    },
    /// Walk the frame pointers of its vCPUs.
    Stack {
        /// The VM.
        vm: &'a str,
        /// One vCPU; all where not given.
        vcpu: Option<u32>,
        /// How to print them.
        output: Output,
    },
    /// Print the lines of the log that name it.
    Log {
        /// Which.
        vm: &'a str,
        /// Times are in UTC.
        utc: bool,
        /// How to print them.
        output: Output,
    },
}

/// Which VMs are listed, in which order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ListOptions {
    /// Only those in this state.
    pub state: Option<&'static str>,
    /// The order.
    pub sort: ListSort,
}

/// The states that a VM can be in, as the console names them.
pub const VM_STATES: [&str; 10] = [
    "running",
    "paused",
    "stopped",
    "leaving",
    "incoming",
    "given",
    "unknown",
    "making",
    "resetting",
    "ending",
];

/// What VMs are listed by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ListSort {
    /// The order in which they came to this host.
    #[default]
    Arrival,
    /// Their names.
    Name,
    /// The CPU time that they take, the most first.
    Cpu,
    /// Their memory, the most first.
    Mem,
    /// How long they have been there, the longest first.
    Uptime,
}

impl ListSort {
    /// All orders.
    pub const ALL: [Self; 5] = [Self::Arrival, Self::Name, Self::Cpu, Self::Mem, Self::Uptime];

    /// The word for it on the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::Name => "name",
            Self::Cpu => "cpu",
            Self::Mem => "mem",
            Self::Uptime => "uptime",
        }
    }
}

/// What a new VM is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateOptions<'a> {
    /// Its name.
    pub name: &'a str,
    /// URL of its kernel.
    pub kernel: &'a str,
    /// URL of its initrd, or of the one module of a Multiboot guest.
    pub initrd: Option<&'a str>,
    /// RAM in MiB; the host's default where not given.
    pub mem_mib: Option<u32>,
    /// Its command line.
    pub cmdline: &'a str,
    /// CPU level; what the host or its pool can give where there is none.
    pub level: Option<&'a str>,
    /// Physical address width in bits; the least of level, pool and host where none is given.
    pub phys_bits: Option<u8>,
    /// vCPUs; the host's default where not given.
    pub vcpus: Option<u32>,
    /// How they are laid out; one package of cores where not given. Whoever makes the VM judges it with their number.
    pub topology: Option<Topology>,
    /// SHA-256 that the kernel's file must have.
    pub sha256: Option<[u8; 32]>,
    /// The same of the initrd's.
    pub initrd_sha256: Option<[u8; 32]>,
    /// It is made, and not started.
    pub paused: bool,
    /// The guest can end itself with a code.
    pub debug_exit: bool,
    /// What follows when it resets its machine; the host's default where not given.
    pub on_reset: Option<OnReset>,
}

impl CreateOptions<'_> {
    pub(crate) const NONE: Self = Self {
        name: "",
        kernel: "",
        initrd: None,
        mem_mib: None,
        cmdline: "",
        level: None,
        phys_bits: None,
        vcpus: None,
        topology: None,
        sha256: None,
        initrd_sha256: None,
        paused: false,
        debug_exit: false,
        on_reset: None,
    };
}

/// Seconds that `vm stop` waits.
pub const DEFAULT_STOP_S: u64 = 60;
/// Most bytes that `vm mem` prints at a time.
pub const MAX_DUMP: u64 = 4096;
/// Bytes that it prints where no length is given.
pub const DEFAULT_DUMP: u64 = 64;

/// A place in a guest's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryAt {
    /// Guest-physical.
    Physical(u64),
    /// Virtual, through the page tables of the first vCPU.
    Virtual(u64),
}
