//! The TSC: how fast it counts where no timer can be asked, and whether the CPUs of a machine count in step.

/// Where a rate comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// What the hypervisor below says: leaf 0x4000_0010, kHz.
    Hypervisor,
    /// The crystal's rate and the ratio to it: leaf 0x15.
    Crystal,
    /// The base frequency in MHz, leaf 0x16: not exact, but within what Intel calls the marketed frequency.
    Base,
}

impl core::fmt::Display for Source {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Hypervisor => "CPUID leaf 0x40000010",
            Self::Crystal => "CPUID leaf 0x15",
            Self::Base => "CPUID leaf 0x16",
        })
    }
}

/// EAX, EBX, ECX and EDX.
type Leaf = [u32; 4];

/// Ticks a second as CPUID tells it, the most exact source first. None where it says nothing: then nobody knows, and no
/// figure is made up.
pub fn by_cpuid(cpuid: impl Fn(u32) -> Leaf) -> Option<(u64, Source)> {
    const HYPERVISOR: u32 = 0x4000_0000;
    let [last, ..] = cpuid(0);
    let leaf = |number: u32| if number <= last { cpuid(number) } else { [0; 4] };
    let hypervisor = cpuid(1)[2] >> 31 != 0;
    if hypervisor && (HYPERVISOR + 0x10..HYPERVISOR + 0x1_0000).contains(&cpuid(HYPERVISOR)[0]) {
        let khz = u64::from(cpuid(HYPERVISOR + 0x10)[0]);
        if khz != 0 {
            return Some((khz * 1000, Source::Hypervisor));
        }
    }
    let [denominator, numerator, crystal, _] = leaf(0x15).map(u64::from);
    if denominator != 0 && numerator != 0 && crystal != 0 {
        return Some((crystal * numerator / denominator, Source::Crystal));
    }
    let mhz = u64::from(leaf(0x16)[0] & 0xffff);
    (mhz != 0).then_some((mhz * 1_000_000, Source::Base))
}

/// Whether the TSC counts at one rate in every power state: CPUID.80000007:EDX.8.
pub fn is_invariant(cpuid: impl Fn(u32) -> Leaf) -> bool {
    cpuid(0x8000_0000)[0] >= 0x8000_0007 && cpuid(0x8000_0007)[3] & 1 << 8 != 0
}

/// By how much another CPU's TSC is ahead, from readings that go to and fro: before its reading, and after it, each lies
/// between two of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ahead {
    least: i64,
    most: i64,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { least: i64::MIN, most: i64::MAX }
    }
}

impl Ahead {
    /// The other CPU read `theirs` after this one had read `before` and before it read `after`.
    pub fn reading(&mut self, before: u64, theirs: u64, after: u64) {
        self.least = self.least.max(theirs.wrapping_sub(after).cast_signed());
        self.most = self.most.min(theirs.wrapping_sub(before).cast_signed());
    }

    /// Ticks that the other CPU is ahead (behind, below 0); 0 where the readings do not tell it from that, which is as good as
    /// any program can see. `None` where they contradict each other: the TSCs count at different rates.
    pub fn ticks(&self) -> Option<i64> {
        match (self.least, self.most) {
            (least, most) if least > most => None,
            (least, most) if least <= 0 && most >= 0 => Some(0),
            (least, most) => Some(least.midpoint(most)),
        }
    }

    /// How well it is known: half the shortest way to and fro.
    pub const fn doubt(&self) -> u64 {
        self.most.abs_diff(self.least) / 2
    }
}

/// What to write to IA32_TSC_ADJUST, which holds `adjust`, so that a TSC that is `ahead` ticks ahead is no more.
pub const fn adjusted(adjust: u64, ahead: i64) -> u64 {
    adjust.wrapping_sub(ahead.cast_unsigned())
}
