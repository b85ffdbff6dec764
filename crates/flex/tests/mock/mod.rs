//! A CPU made of data.
#![allow(dead_code)] // each test file uses its own part

use std::collections::BTreeMap;

use flex::{Cpu, Leaf, Leaves};

/// How an MSR of the mock behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Behaviour {
    /// An AND mask over a leaf.
    Mask(Leaf),
    /// Keeps what is written.
    Plain,
    /// WRMSR raises #GP.
    ReadOnly,
    /// WRMSR is lost.
    Deaf,
    /// Lays itself over two leaves, as no CPU does.
    Both(Leaf, Leaf),
    /// Adds what it should hide.
    Or(Leaf),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mock {
    pub(crate) leaves: BTreeMap<(u32, u32), [u32; 4]>,
    pub(crate) msrs: BTreeMap<u32, (u64, Behaviour)>,
    /// What an MSR that is not listed reads, writes ignored; else #GP.
    pub(crate) lenient: Option<u64>,
    /// IA32_MISC_ENABLE bit 22 limits the leaves to this one.
    pub(crate) limit: u32,
    /// OSXSAVE follows CR4, not the mask.
    pub(crate) osxsave: bool,
    /// WRMSRs done.
    pub(crate) writes: usize,
    /// This WRMSR (from 1) and all later ones raise #GP.
    pub(crate) broken_from: usize,
}

pub(crate) const MISC_ENABLE: u32 = 0x1a0;
const LIMIT: u64 = 1 << 22;

impl Mock {
    /// An Intel CPU of this leaf 1 signature, with everything that the masks cover.
    pub(crate) fn new(signature: u32) -> Self {
        let word = |s: &[u8; 4]| u32::from_le_bytes(*s);
        let leaves = [
            ((0, 0), [0xd, word(b"Genu"), word(b"ntel"), word(b"ineI")]),
            ((1, 0), [signature, 0, 0x17be_e3ff, 0xbfeb_fbff]),
            ((7, 0), [0; 4]),
            ((0xd, 0), [7, 0x340, 0x340, 0]),
            ((0xd, 1), [1, 0, 0, 0]),
            ((0x8000_0000, 0), [0x8000_0008, 0, 0, 0]),
            ((0x8000_0001, 0), [0, 0, 1, 0x2c10_0800]),
        ];
        Self {
            leaves: leaves.into_iter().collect(),
            msrs: BTreeMap::from([(MISC_ENABLE, (1, Behaviour::Plain))]),
            lenient: None,
            limit: 0xd,
            osxsave: true,
            writes: 0,
            broken_from: usize::MAX,
        }
    }

    pub(crate) fn with(mut self, msr: u32, value: u64, behaviour: Behaviour) -> Self {
        self.msrs.insert(msr, (value, behaviour));
        self
    }

    pub(crate) fn penryn() -> Self {
        Self::new(0x1067a).with(0x478, u64::MAX, Behaviour::Mask(Leaf::Basic))
    }

    pub(crate) fn nehalem() -> Self {
        Self::new(0x106a5).with(0x130, u64::MAX, Behaviour::Mask(Leaf::Basic)).with(
            0x131,
            u64::MAX,
            Behaviour::Mask(Leaf::Extended),
        )
    }

    /// `xen`: 0x133 masks leaf 80000001H and 0x134 leaf DH.1; else the other way round.
    pub(crate) fn sandy_bridge(xen: bool) -> Self {
        let (second, third) = if xen { (Leaf::Extended, Leaf::Xsave) } else { (Leaf::Xsave, Leaf::Extended) };
        Self::new(0x206d7)
            .with(0x132, u64::MAX, Behaviour::Mask(Leaf::Basic))
            .with(0x133, u64::MAX, Behaviour::Mask(second))
            .with(0x134, u64::MAX, Behaviour::Mask(third))
    }

    pub(crate) fn ivy_bridge() -> Self {
        Self::new(0x306e4).with(flex::PLATFORM_INFO, 1 << 31 | 24 << 8, Behaviour::ReadOnly).with(
            flex::MISC_FEATURES_ENABLES,
            0,
            Behaviour::Plain,
        )
    }

    pub(crate) fn limited(mut self, to: u32) -> Self {
        self.limit = to;
        self.with(MISC_ENABLE, 1 | LIMIT, Behaviour::Plain)
    }

    fn is_limited(&self) -> bool {
        self.msrs.get(&MISC_ENABLE).is_some_and(|(value, _)| value & LIMIT != 0)
    }

    /// The values of all MSRs.
    pub(crate) fn values(&self) -> Vec<(u32, u64)> {
        self.msrs.iter().map(|(msr, (value, _))| (*msr, *value)).collect()
    }

    /// What it shows in the leaves that are masked.
    pub(crate) fn shows(&self) -> Leaves {
        Leaves::read(&mut self.clone())
    }
}

/// Writes a mask-shaped value into the registers of a leaf.
pub(crate) fn put(regs: &mut [u32; 4], leaf: Leaf, value: u64) {
    let (low, high) = leaf.registers();
    regs[low as usize] = value as u32;
    if let Some(high) = high {
        regs[high as usize] = (value >> 32) as u32;
    }
}

impl Cpu for Mock {
    fn rdmsr(&mut self, index: u32) -> Option<u64> {
        self.msrs.get(&index).map(|(value, _)| *value).or(self.lenient)
    }

    fn wrmsr(&mut self, index: u32, value: u64) -> bool {
        self.writes += 1;
        if self.writes >= self.broken_from {
            return false;
        }
        match self.msrs.get_mut(&index) {
            None => self.lenient.is_some(),
            Some((_, Behaviour::ReadOnly)) => false,
            Some((_, Behaviour::Deaf)) => true,
            Some((held, _)) => {
                *held = value;
                true
            }
        }
    }

    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let highest = if self.is_limited() { self.limit } else { 0xd };
        if leaf < 0x8000_0000 && leaf > highest {
            return self.leaves[&(highest, 0)];
        }
        let mut regs = self.leaves.get(&(leaf, subleaf)).copied().unwrap_or_default();
        if leaf == 0 {
            regs[0] = highest;
        }
        let Some(at) = Leaf::ALL.into_iter().find(|l| l.input() == (leaf, subleaf)) else { return regs };
        let (low, high) = at.registers();
        let raw = u64::from(regs[low as usize]) | high.map_or(0, |reg| u64::from(regs[reg as usize])) << 32;
        let mut shown = raw;
        for (value, behaviour) in self.msrs.values() {
            match *behaviour {
                Behaviour::Mask(leaf) if leaf == at => shown &= value,
                Behaviour::Both(a, b) if a == at || b == at => shown &= value,
                Behaviour::Or(leaf) if leaf == at => shown |= (!value & 1) << 5,
                _ => {}
            }
        }
        if at == Leaf::Basic {
            // The CPU puts these in behind the mask.
            shown = shown & !(1 << 27) | u64::from(self.osxsave) << 27 | raw & 1 << 41;
        }
        put(&mut regs, at, shown);
        regs
    }
}
