//! One MSR: what it does to CPUID, found by trying.

use crate::Cpu;
use crate::leaf::{Leaf, Leaves};

/// What an MSR turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// RDMSR raises #GP: it is not there.
    Missing,
    /// It masks this leaf, as an AND.
    Masks(Leaf),
    /// WRMSR raises #GP.
    Refused,
    /// A write is lost: it reads as before, or as anything but what was written.
    Ignored {
        /// What it read after the write.
        reads: u64,
    },
    /// It keeps what is written, and CPUID does not follow.
    Idle,
    /// CPUID changed in a way that no single AND mask explains: not used.
    Strange,
    /// It is not documented for this CPU and does not read as a mask: not written.
    Untouched,
}

/// An MSR as it was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Its index.
    pub msr: u32,
    /// What it held, 0 if missing; it holds that again.
    pub value: u64,
    /// What it turned out to be.
    pub finding: Finding,
    /// It and CPUID are as before. False is a broken CPU or emulator: nothing more can be done about it here.
    pub restored: bool,
}

/// Tries one MSR. With `documented` false it is written only if it reads as all ones.
pub(crate) fn probe(cpu: &mut impl Cpu, msr: u32, documented: bool) -> Probe {
    let Some(value) = cpu.rdmsr(msr) else {
        return Probe { msr, value: 0, finding: Finding::Missing, restored: true };
    };
    if !documented && value != u64::MAX {
        return Probe { msr, value, finding: Finding::Untouched, restored: true };
    }
    let before = Leaves::read(cpu);
    let marks = marks(&before);
    // A register without any of the marks cannot be what masks them; setting them tells whether it keeps anything.
    let trial = if value & marks == 0 { value | marks } else { value & !marks };
    let finding = if !cpu.wrmsr(msr, trial) {
        Finding::Refused
    } else {
        let (reads, after) = (cpu.rdmsr(msr), Leaves::read(cpu));
        match effect(&before, &after, trial) {
            Effect::On(leaf) => Finding::Masks(leaf),
            Effect::Strange => Finding::Strange,
            Effect::None if reads == Some(trial) => Finding::Idle,
            Effect::None => Finding::Ignored { reads: reads.unwrap_or(0) },
        }
    };
    let same = cpu.rdmsr(msr) == Some(value);
    let restored =
        (same || cpu.wrmsr(msr, value) && cpu.rdmsr(msr) == Some(value)) && Leaves::read(cpu) == before;
    Probe { msr, value, finding, restored }
}

/// A visible bit of each half of each leaf, except those that a mask leaves alone.
fn marks(leaves: &Leaves) -> u64 {
    Leaf::ALL.into_iter().fold(0, |marks, leaf| {
        let visible = leaves.get(leaf) & !leaf.always();
        let (low, high) = (visible & 0xffff_ffff, visible >> 32 << 32);
        marks | (low & low.wrapping_neg()) | (high & high.wrapping_neg())
    })
}

enum Effect {
    None,
    On(Leaf),
    Strange,
}

/// Which leaf lost exactly what `trial` hides.
fn effect(before: &Leaves, after: &Leaves, trial: u64) -> Effect {
    let mut changed = Leaf::ALL.into_iter().filter(|leaf| before.get(*leaf) != after.get(*leaf));
    match (changed.next(), changed.next()) {
        (None, _) => Effect::None,
        (Some(leaf), None) if after.get(leaf) == before.get(leaf) & (trial | leaf.always()) => {
            Effect::On(leaf)
        }
        _ => Effect::Strange,
    }
}
