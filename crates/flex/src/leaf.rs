//! The CPUID registers that a mask MSR may be laid over.

use core::fmt;

use cpu_policy::{FeatureSet, Place, Reg};

use crate::Cpu;

/// A leaf that some generation masks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Leaf {
    /// CPUID.1, ECX in the mask's low half and EDX in its high half.
    Basic,
    /// CPUID.80000001H, the same.
    Extended,
    /// CPUID.DH.1, EAX in the low half.
    Xsave,
}

impl Leaf {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Basic, Self::Extended, Self::Xsave];

    /// EAX and ECX on input.
    #[must_use]
    pub const fn input(self) -> (u32, u32) {
        match self {
            Self::Basic => (1, 0),
            Self::Extended => (0x8000_0001, 0),
            Self::Xsave => (0xd, 1),
        }
    }

    /// The registers under the mask: its low half's, its high half's.
    #[must_use]
    pub const fn registers(self) -> (Reg, Option<Reg>) {
        match self {
            Self::Basic | Self::Extended => (Reg::Ecx, Some(Reg::Edx)),
            Self::Xsave => (Reg::Eax, None),
        }
    }

    /// Bits that a mask must leave at 1: OSXSAVE and APIC, which the CPU copies from elsewhere, and the halves that
    /// mask nothing.
    #[must_use]
    pub const fn always(self) -> u64 {
        const OSXSAVE: u64 = 1 << 27;
        const APIC: u64 = 1 << (32 + 9);
        match self {
            Self::Basic => OSXSAVE | APIC,
            Self::Extended => APIC, // AMD's copy of leaf 1, reserved at Intel's
            Self::Xsave => 0xffff_ffff_0000_0000,
        }
    }

    /// What CPUID answers now, laid out as in a mask.
    pub fn read(self, cpu: &mut impl Cpu) -> u64 {
        let (leaf, subleaf) = self.input();
        let [highest, ..] = cpu.cpuid(leaf & 0x8000_0000, 0);
        if highest < leaf || highest ^ leaf > 0xffff {
            return 0; // a leaf above the highest answers as another one does
        }
        let regs = cpu.cpuid(leaf, subleaf);
        let (low, high) = self.registers();
        u64::from(regs[low as usize]) | high.map_or(0, |reg| u64::from(regs[reg as usize])) << 32
    }

    /// The bits that a set of features has here, laid out as in a mask.
    #[must_use]
    pub fn of(self, features: FeatureSet) -> u64 {
        let (leaf, subleaf) = self.input();
        let (low, high) = self.registers();
        let bits = |reg| u64::from(features.cpuid(leaf, subleaf, reg));
        bits(low) | high.map_or(0, bits) << 32
    }

    /// True for a place that is under this leaf's mask.
    #[must_use]
    pub fn holds(self, place: Place) -> bool {
        let (at, sub) = self.input();
        let (low, high) = self.registers();
        matches!(place, Place::Cpuid { leaf, subleaf, reg }
            if (leaf, subleaf) == (at, sub) && (reg == low || Some(reg) == high))
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic => "CPUID.1:ECX,EDX",
            Self::Extended => "CPUID.80000001H:ECX,EDX",
            Self::Xsave => "CPUID.DH.1:EAX",
        })
    }
}

/// What CPUID answers in each leaf, laid out as in a mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leaves(pub [u64; 3]);

impl Leaves {
    /// Asks CPUID.
    pub fn read(cpu: &mut impl Cpu) -> Self {
        Self(Leaf::ALL.map(|leaf| leaf.read(cpu)))
    }

    /// One leaf.
    #[must_use]
    pub const fn get(&self, leaf: Leaf) -> u64 {
        self.0[leaf as usize]
    }
}
