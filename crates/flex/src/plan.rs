//! Masks for a set of features: worked out, written, taken back.

use alloc::vec::Vec;

use cpu_policy::{FEATURES, FeatureInfo, FeatureSet, Kind, Place, Polarity};

use crate::Cpu;
use crate::leaf::Leaf;
use crate::survey::Survey;

/// One mask to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Write {
    /// The MSR.
    pub msr: u32,
    /// The leaf that it masks.
    pub leaf: Leaf,
    /// The mask.
    pub value: u64,
}

/// What masks can do about a wanted set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The masks, in ascending order of leaf.
    pub writes: Vec<Write>,
    /// Features that the masks hide.
    pub hidden: FeatureSet,
    /// Features that are not wanted and stay visible: nothing masks their leaf.
    pub exposed: FeatureSet,
    /// Features that are wanted and that the CPU does not show: a mask can hide, never add.
    pub absent: FeatureSet,
}

/// Works out the masks under which code outside VMX sees no feature but the wanted ones. A bit that has no name is
/// hidden where it can be. Reads CPUID, writes nothing.
pub fn plan(cpu: &mut impl Cpu, survey: &Survey, wanted: FeatureSet) -> Plan {
    let mut writes = Vec::new();
    for leaf in Leaf::ALL {
        if let Some(mask) = survey.mask(leaf) {
            // What the firmware hid stays hidden.
            let value = mask.value & (leaf.of(wanted) | leaf.of(follows()) | leaf.always());
            writes.push(Write { msr: mask.msr, leaf, value });
        }
    }
    let shown = shown(cpu);
    let unwanted = shown.difference(wanted);
    let masked = |row: &FeatureInfo| writes.iter().any(|write| write.leaf.holds(row.place));
    let hidden =
        FeatureSet::matching(|f| unwanted.contains(f) && masked(f.info()) && f.info().kind != Kind::Derived);
    let leftover = |row: &FeatureInfo| row.kind != Kind::Derived && !masked(row);
    let exposed = FeatureSet::matching(|f| unwanted.contains(f) && leftover(f.info()));
    let enumerated =
        |row: &FeatureInfo| matches!(row.place, Place::Cpuid { .. }) && row.kind != Kind::Derived;
    let absent = FeatureSet::matching(|f| wanted.contains(f) && !shown.contains(f) && enumerated(f.info()));
    Plan { writes, hidden, exposed, absent }
}

/// Bits that follow from registers or topology: no set has them, and they are no features to hide.
fn follows() -> FeatureSet {
    FeatureSet::of_kind(Kind::Derived)
}

/// The gains that CPUID shows.
fn shown(cpu: &mut impl Cpu) -> FeatureSet {
    let mut set = FeatureSet::EMPTY;
    let highest = [0, 0x8000_0000].map(|base| cpu.cpuid(base, 0)[0]);
    for row in FEATURES {
        let Place::Cpuid { leaf, subleaf, reg } = row.place else { continue };
        let within = leaf <= highest[usize::from(leaf >> 31 != 0)];
        let gain = row.feature.polarity() == Polarity::Capability;
        if gain && within && cpu.cpuid(leaf, subleaf)[reg as usize] >> row.bit & 1 != 0 {
            set.insert(row.feature);
        }
    }
    set
}

/// What masks held before, to go back to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[must_use = "the masks stay until they are reverted"]
pub struct Applied(Vec<(u32, u64)>);

impl Applied {
    /// The MSRs written and what each held.
    #[must_use]
    pub fn before(&self) -> &[(u32, u64)] {
        &self.0
    }
}

/// Why a plan was not carried out. What had been written is taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ApplyError {
    /// RDMSR raises #GP.
    #[error("mask MSR {0:#x} cannot be read")]
    Unreadable(u32),
    /// WRMSR raises #GP, or the value does not stay.
    #[error("mask MSR {msr:#x} does not take {value:#x}")]
    Refused {
        /// The MSR.
        msr: u32,
        /// The mask.
        value: u64,
    },
    /// The MSR took the mask, and CPUID shows bits that it hides, or lacks some that it does not.
    #[error("under {value:#x} in mask MSR {msr:#x} CPUID shows {shows:#x} instead of {expected:#x}")]
    NoEffect {
        /// The MSR.
        msr: u32,
        /// The mask.
        value: u64,
        /// The leaf as CPUID answers, ECX (or EAX) in the low half.
        shows: u64,
        /// As it should.
        expected: u64,
    },
}

/// Writes the masks of a plan on this CPU and checks by CPUID that they hold.
///
/// # Errors
/// The MSR at fault and its value; all masks are as before then, as far as the CPU takes them back.
pub fn apply(cpu: &mut impl Cpu, plan: &Plan) -> Result<Applied, ApplyError> {
    let mut done = Applied::default();
    for write in &plan.writes {
        if let Err(error) = write_one(cpu, *write, &mut done) {
            let _ = revert(cpu, &done);
            return Err(error);
        }
    }
    Ok(done)
}

fn write_one(cpu: &mut impl Cpu, write: Write, done: &mut Applied) -> Result<(), ApplyError> {
    let Write { msr, leaf, value } = write;
    let held = cpu.rdmsr(msr).ok_or(ApplyError::Unreadable(msr))?;
    let before = leaf.read(cpu);
    done.0.push((msr, held));
    if !cpu.wrmsr(msr, value) || cpu.rdmsr(msr) != Some(value) {
        return Err(ApplyError::Refused { msr, value });
    }
    // A mask that was narrower than the new one hid bits that nobody here has seen: they are not judged.
    let (shows, judged) = (leaf.read(cpu), held | !value | leaf.always());
    let expected = before & (value | leaf.always());
    if (shows ^ expected) & judged != 0 {
        return Err(ApplyError::NoEffect { msr, value, shows, expected });
    }
    Ok(())
}

/// Puts back what the masks held, the last one written first.
///
/// # Errors
/// The MSRs that did not take it.
pub fn revert(cpu: &mut impl Cpu, applied: &Applied) -> Result<(), Vec<u32>> {
    let mut stuck = Vec::new();
    for (msr, value) in applied.0.iter().rev() {
        if !cpu.wrmsr(*msr, *value) || cpu.rdmsr(*msr) != Some(*value) {
            stuck.push(*msr);
        }
    }
    if stuck.is_empty() { Ok(()) } else { Err(stuck) }
}
