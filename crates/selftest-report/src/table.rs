//! The checks.

/// A check: a line of the report.
#[derive(PartialEq, Eq, Debug)]
pub struct Check {
    /// Its name, of small letters and `-`.
    pub name: &'static str,
    /// What holds where it passed.
    pub holds: &'static str,
    /// What to do where it failed.
    pub cure: &'static str,
    /// Why it runs at boot only, and not while the host does its work.
    pub at_boot: Option<&'static str>,
}

const fn check(name: &'static str, holds: &'static str, cure: &'static str) -> Check {
    Check { name, holds, cure, at_boot: None }
}

impl Check {
    const fn at_boot(mut self, why: &'static str) -> Self {
        self.at_boot = Some(why);
        self
    }
}

/// Why a check is left to the boot.
const MEMORY: &str = "memory changes hands meanwhile";
const PORT: &str = "it would hold the port that the answer goes to";
const CARD: &str = "it takes the card off the network, and its connections with it";
const TYPES: &str = "a look at all memory holds CPU 0 too long, and nothing changes them later";
const LEVELS: &str = "all at once hold CPU 0 too long, and `cpu levels` shows them";
const GUEST: &str = "its guest would share a CPU with VMs, and hold CPU 0";

const REPORT: &str = "a fault of Flexvisor or of the machine: send this report";
const FIRMWARE: &str = "update the firmware; if it stays, send this report to its vendor";

/// Every check, in the order of the report.
pub static CHECKS: [Check; 27] = [
    check("faults", "faulting RDMSR, WRMSR and memory reads are recovered from", REPORT),
    check(
        "cpus",
        "every CPU that the firmware's tables call enabled has come up",
        "switch Execute Disable and x2APIC on in firmware set-up, or take the CPU named out of use there",
    ),
    check(
        "clock",
        "the TSC's rate is known, and what CPUID says of it agrees within 1 %",
        "switch the PIT or the ACPI timer on in firmware set-up",
    ),
    check(
        "tsc-invariant",
        "the TSC counts at one rate in every power state",
        "switch C-states off in firmware set-up; under a hypervisor, let it lend `invtsc`",
    ),
    check(
        "tsc-in-step",
        "all CPUs' TSCs agree as far as a program can see; IA32_TSC_ADJUST of each",
        FIRMWARE,
    ),
    check("timer", "each CPU's APIC timer fires within 10 % of its time by the TSC", REPORT),
    check("ipi", "every other CPU answers an interrupt; the slowest answer", REPORT),
    check("nmi", "an NMI comes, is counted, and the next one comes too", REPORT),
    check(
        "machine-check",
        "banks are on and empty on every CPU; recovery and local machine checks where they are",
        "errors in the banks are the hardware's: see `mce:` in the log and replace the part",
    ),
    check("memory-types", "MTRRs and PAT are the same on every CPU, and all RAM is write-back", FIRMWARE).at_boot(TYPES),
    check("frames", "memory is aligned, zeroed, given once, kept, and given back whole", REPORT).at_boot(MEMORY),
    check(
        "clearing",
        "what clearing 1 GiB of memory takes, by 16 MiB of each NUMA node that the firmware's SRAT names",
        "below 1 GB/s: look for a DIMM channel that is empty, or RAM that is not write-back",
    ).at_boot(MEMORY),
    check("heap", "blocks do not overlap and are given back whole", REPORT).at_boot(MEMORY),
    check(
        "entropy",
        "there is randomness for keys",
        "give 32 random bytes by `seed=`: this CPU has neither RDRAND nor RDSEED",
    ),
    check(
        "serial",
        "the console's ports take what is written",
        "check baud rate and port of `console=`; a port without a cable must not assert flow control",
    ).at_boot(PORT),
    check(
        "network",
        "what card there is, and its link",
        "see docs/hardware.md for the cards that are driven, and the log for why this one is not",
    ),
    check(
        "network-loop",
        "frames that the card sends to itself, inside its MAC, come back unchanged; not every card offers that",
        "look for `iommu:` in the log, try the card in another slot or another card, and send this report",
    ).at_boot(CARD),
    check(
        "iommu",
        "the remapping units translate and have noted no fault",
        "switch VT-d on in firmware set-up, or boot with iommu=off",
    ),
    check(
        "vmx",
        "VMX is on in every CPU, with the same abilities",
        "switch VT-x on in firmware set-up, for every CPU",
    ),
    check("levels", "CPU levels that this host can give", "see `cpu check LEVEL` for what is missing")
        .at_boot(LEVELS),
    check(
        "slice-timer",
        "a guest that spins, interrupts off, comes back within 10 % of its time by the timer that was chosen; whether the CPU is on the list of those whose preemption timer is broken",
        "where it was the preemption timer, boot with slice-timer=apic; in any case send this report: the list may lack this CPU",
    ).at_boot(GUEST),
    check(
        "controls",
        "each VMX control that is used does what the SDM says, tried one by one by a guest that does a thing for each",
        REPORT,
    )
    .at_boot(GUEST),
    check(
        "guest",
        "a small guest makes 200 exits each by CPUID, RDMSR, I/O and MMIO under every control that is used, and gets the right answers; what each exit costs",
        REPORT,
    ).at_boot(GUEST),
    check("dirty-pml", "dirty tracking by PML notices all 512 pages that the guest writes", REPORT).at_boot(GUEST),
    check("dirty-ad", "the same by accessed and dirty flags", REPORT).at_boot(GUEST),
    check("dirty-wp", "the same by write protection", REPORT).at_boot(GUEST),
    check("state", "a vCPU's state put back is the one that was taken", REPORT).at_boot(GUEST),
];

/// The check of that name.
pub fn find(name: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.name == name)
}
