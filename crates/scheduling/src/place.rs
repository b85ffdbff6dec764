//! On which CPU of the host a vCPU lives.
//!
//! CPU 0 keeps console, network and migrations, and takes guests only where nobody else can. The others get them one for each
//! core first. A thread has its core for itself then; two busy threads of a core slow each other down, and CPU 0 is always busy.

/// How an APIC id is put together: the thread's number lowest, the core's above it, the package's on top (SDM 3A 9.9.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApicIds {
    /// Where the core's number begins.
    pub core_shift: u32,
    /// Where the package's begins.
    pub package_shift: u32,
}

impl ApicIds {
    /// What CPUID says of them, `cpuid` by leaf and subleaf: leaf 1FH or 0BH, and before these were there leaves 1 and 4
    /// (SDM 3A 9.9.2, 9.9.3).
    #[must_use]
    pub fn of(cpuid: impl Fn(u32, u32) -> [u32; 4]) -> Self {
        let [max_leaf, ..] = cpuid(0, 0);
        let listed =
            |leaf: u32| if max_leaf >= leaf { Self::listed(|subleaf| cpuid(leaf, subleaf)) } else { None };
        listed(0x1f).or_else(|| listed(0xb)).unwrap_or_else(|| Self::counted(max_leaf, cpuid))
    }

    /// By the levels of leaf 1FH or 0BH: each says where the number of the next one begins.
    fn listed(level: impl Fn(u32) -> [u32; 4]) -> Option<Self> {
        const LEVELS: u32 = 8;
        const THREADS: u32 = 1;
        let mut ids = None;
        for [shift, cpus, kind, _] in (0..LEVELS).map(level) {
            let (shift, kind) = (shift & 0x1f, kind >> 8 & 0xff);
            if kind == 0 || cpus & 0xffff == 0 {
                break;
            }
            let core_shift = ids.map_or(if kind == THREADS { shift } else { 0 }, |ids: Self| ids.core_shift);
            ids = Some(Self { core_shift, package_shift: shift });
        }
        ids
    }

    /// By how many CPUs a package has, and how many cores.
    fn counted(max_leaf: u32, cpuid: impl Fn(u32, u32) -> [u32; 4]) -> Self {
        const HTT: u32 = 1 << 28;
        let [_, ebx, _, edx] = cpuid(1, 0);
        let cpus = if edx & HTT == 0 { 1 } else { ebx >> 16 & 0xff };
        let cores = if max_leaf >= 4 { (cpuid(4, 0)[0] >> 26) + 1 } else { 1 };
        let bits = |count: u32| count.max(1).next_power_of_two().trailing_zeros();
        Self { core_shift: bits(cpus).saturating_sub(bits(cores)), package_shift: bits(cpus) }
    }

    /// The core with that CPU, unlike any other of the host's.
    const fn core(self, apic_id: u32) -> u32 {
        apic_id >> self.core_shift
    }

    const fn package(self, apic_id: u32) -> u32 {
        apic_id >> self.package_shift
    }
}

/// A CPU of the host, as a place for vCPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Its local APIC's id.
    pub apic_id: u32,
    /// It is in VMX operation.
    pub vmx: bool,
    /// vCPUs that live there.
    pub vcpus: u32,
    /// Those among them that are of the VM for which a place is looked for.
    pub own: u32,
}

/// Whether the CPU with that index takes guests, where nobody has said so of a single vCPU.
#[must_use]
pub fn takes_guests(places: &[Place], index: usize) -> bool {
    let can = |index: usize| places.get(index).is_some_and(|place| place.vmx);
    can(index) && (index != 0 || !(1..places.len()).any(can))
}

/// The CPU on which the next vCPU lives: where fewest do, then where fewest of its own VM do, since they wait for each other.
/// Among equals not beside CPU 0, then on the core with the least to do, then in the package where its VM is. None where
/// no CPU is in VMX operation.
#[must_use]
pub fn next(places: &[Place], ids: ApicIds) -> Option<usize> {
    let core = |place: &Place| ids.core(place.apic_id);
    let package = |place: &Place| ids.package(place.apic_id);
    let beside_cpu_0 = |place: &Place| places.first().is_some_and(|first| core(first) == core(place));
    let on_core = |place: &Place| {
        let others = places.iter().filter(|other| core(other) == core(place));
        others.map(|other| u64::from(other.vcpus)).sum::<u64>()
    };
    let elsewhere =
        |place: &Place| !places.iter().any(|other| other.own > 0 && package(other) == package(place));
    let able = places.iter().enumerate().filter(|(index, _)| takes_guests(places, *index));
    able.min_by_key(|(_, place)| {
        (place.vcpus, place.own, beside_cpu_0(place), on_core(place), elsewhere(place))
    })
    .map(|(index, _)| index)
}
