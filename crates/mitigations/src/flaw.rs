//! The flaws that are judged.

use core::fmt;

/// A flaw of speculative execution, or one that a hypervisor meets by the same means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Flaw {
    /// Rogue data cache load: a program reads its kernel's memory.
    Meltdown,
    /// L1 terminal fault: a guest reads what the first-level cache holds.
    L1tf,
    /// Microarchitectural data sampling: fill buffers, store buffers, load ports.
    Mds,
    /// TSX asynchronous abort: the same buffers through an aborted transaction.
    Taa,
    /// Processor MMIO stale data: fill buffers through accesses to devices.
    MmioStaleData,
    /// Register file data sampling, of Atom cores.
    Rfds,
    /// Bounds check bypass: a table is read past its end before the check is decided.
    SpectreV1,
    /// Branch target injection.
    SpectreV2,
    /// Return addresses that a guest leaves in the return stack buffer.
    Rsb,
    /// The first return after an exit, before the barrier of enhanced IBRS takes effect.
    Pbrsb,
    /// Branch history injection, past enhanced IBRS.
    Bhi,
    /// Return predictions from other predictors once the return stack buffer is empty.
    Retbleed,
    /// Indirect target selection: indirect branches in the lower half of a cache line.
    Its,
    /// Speculative store bypass.
    Ssb,
    /// Special register buffer data sampling: what RDRAND and RDSEED gave others.
    Srbds,
    /// Gather data sampling: vector registers through gather instructions.
    Gds,
    /// Machine check on a page-size change under execution (iTLB multihit).
    PageSizeChange,
}

impl Flaw {
    /// All, in the order of reports.
    pub const ALL: [Self; 17] = [
        Self::Meltdown,
        Self::L1tf,
        Self::Mds,
        Self::Taa,
        Self::MmioStaleData,
        Self::Rfds,
        Self::SpectreV1,
        Self::SpectreV2,
        Self::Rsb,
        Self::Pbrsb,
        Self::Bhi,
        Self::Retbleed,
        Self::Its,
        Self::Ssb,
        Self::Srbds,
        Self::Gds,
        Self::PageSizeChange,
    ];

    /// One word, stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meltdown => "meltdown",
            Self::L1tf => "l1tf",
            Self::Mds => "mds",
            Self::Taa => "taa",
            Self::MmioStaleData => "mmio-stale-data",
            Self::Rfds => "rfds",
            Self::SpectreV1 => "spectre-v1",
            Self::SpectreV2 => "spectre-v2",
            Self::Rsb => "rsb",
            Self::Pbrsb => "pbrsb",
            Self::Bhi => "bhi",
            Self::Retbleed => "retbleed",
            Self::Its => "its",
            Self::Ssb => "ssb",
            Self::Srbds => "srbds",
            Self::Gds => "gds",
            Self::PageSizeChange => "page-size-change",
        }
    }

    /// The CVE that stands for it; the RSB has none of its own.
    #[must_use]
    pub const fn cve(self) -> &'static str {
        match self {
            Self::Meltdown => "CVE-2017-5754",
            Self::L1tf => "CVE-2018-3646",
            Self::Mds => "CVE-2018-12130",
            Self::Taa => "CVE-2019-11135",
            Self::MmioStaleData => "CVE-2022-21166",
            Self::Rfds => "CVE-2023-28746",
            Self::SpectreV1 => "CVE-2017-5753",
            Self::SpectreV2 | Self::Rsb => "CVE-2017-5715",
            Self::Pbrsb => "CVE-2022-26373",
            Self::Bhi => "CVE-2022-0001",
            Self::Retbleed => "CVE-2022-29901",
            Self::Its => "CVE-2024-28956",
            Self::Ssb => "CVE-2018-3639",
            Self::Srbds => "CVE-2020-0543",
            Self::Gds => "CVE-2022-40982",
            Self::PageSizeChange => "CVE-2018-12207",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of flaws.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlawSet(u32);

impl FlawSet {
    /// The set of those listed.
    #[must_use]
    pub const fn of(flaws: &[Flaw]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < flaws.len() {
            bits |= 1 << flaws[i] as u32;
            i += 1;
        }
        Self(bits)
    }

    /// What is in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the flaws of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// True where the flaw is in.
    #[must_use]
    pub const fn contains(self, flaw: Flaw) -> bool {
        self.0 & 1 << flaw as u32 != 0
    }
}
