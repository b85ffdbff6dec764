//! All that a CPU offers.

use alloc::vec::Vec;

use crate::Cpu;
use crate::faulting::{self, Faulting};
use crate::generation::{Generation, Signature};
use crate::leaf::{Leaf, Leaves};
use crate::limit::{self, LeafLimit};
use crate::probe::{Finding, Probe, probe};

/// What one CPU offers, and how it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survey {
    /// Which CPU it is.
    pub signature: Signature,
    /// Its generation.
    pub generation: Generation,
    /// It runs under a hypervisor, which answers in the MSRs' place (CPUID.1:ECX[31]).
    pub nested: bool,
    /// What an MSR that no CPU has reads as, where it does not raise #GP: an emulator that lets every MSR pass, so that
    /// what MSRs read says nothing about a CPU.
    pub unknown_reads: Option<u64>,
    /// The firmware's limit of CPUID leaves. It was lifted for the survey and is as before.
    pub limit: LeafLimit,
    /// The leaves that masks may cover, as the CPU shows them.
    pub leaves: Leaves,
    /// Each MSR that was tried, in ascending order.
    pub probes: Vec<Probe>,
    /// CPUID faulting.
    pub faulting: Faulting,
    /// Everything is as it was before.
    pub restored: bool,
}

impl Survey {
    /// The MSR that masks a leaf, and what it holds.
    #[must_use]
    pub fn mask(&self, leaf: Leaf) -> Option<&Probe> {
        self.probes.iter().find(|probe| probe.finding == Finding::Masks(leaf) && probe.restored)
    }

    /// True where something can be masked.
    #[must_use]
    pub fn masks(&self) -> bool {
        Leaf::ALL.into_iter().any(|leaf| self.mask(leaf).is_some())
    }
}

/// Asks the CPU that this runs on. Writes the MSRs that its generation may have, and puts each back at once.
pub fn survey(cpu: &mut impl Cpu) -> Survey {
    const HYPERVISOR: u32 = 1 << 31;
    /// The last of those that no CPU will ever have (SDM 4, table 2-2: 40000000H to 400000FFH).
    const RESERVED: u32 = 0x4000_00ff;
    let signature = Signature::read(cpu);
    let generation = Generation::of(signature);
    let [_, _, ecx, _] = cpu.cpuid(1, 0);
    let nested = ecx & HYPERVISOR != 0;
    let unknown_reads = cpu.rdmsr(RESERVED);
    if generation == Generation::Foreign {
        return Survey {
            signature,
            generation,
            nested,
            unknown_reads,
            limit: LeafLimit::Off,
            leaves: Leaves::read(cpu),
            probes: Vec::new(),
            faulting: Faulting::Absent,
            restored: true,
        };
    }
    let limit = limit::unlock_leaves(cpu);
    let leaves = Leaves::read(cpu);
    let documented = generation.documented();
    let probes: Vec<Probe> = generation.candidates().iter().map(|msr| probe(cpu, *msr, documented)).collect();
    let (faulting, switch_back) = faulting::probe(cpu);
    let locked = limit::lock_again(cpu, limit);
    let restored = probes.iter().all(|probe| probe.restored) && switch_back && locked;
    Survey { signature, generation, nested, unknown_reads, limit, leaves, probes, faulting, restored }
}
