//! The leaves of a level for one VM.

use alloc::vec::Vec;
use vm_types::Topology;

use crate::feature::{Feature, FeatureSet, Reg};
use crate::host::VENDOR;
use crate::level::{LINEAR_BITS, Level};
use crate::policy::Shape;
use crate::table::Row;
use crate::xsave::{COMPONENTS, standard_size, xcr0_of};

/// First hypervisor leaf.
const HYPERVISOR: u32 = 0x4000_0000;
/// The leaf with the clock rates, as VMware and KVM have it.
const TIMING: u32 = 0x4000_0010;
/// What EBX, ECX, EDX of the first hypervisor leaf spell.
const SIGNATURE: &[u8; 12] = b"FlexvisorFVX";
/// CLFLUSH line in units of 8 bytes, for leaf 1.
const CLFLUSH: u32 = 8;
/// TLB descriptors of leaf 2; FF refers to leaf 4 for caches.
const LEAF2: [u32; 4] = [0x7603_6301, 0x00f0_b5ff, 0, 0x00c3_0000];
const MAX_EXTENDED: u32 = 0x8000_0008;

struct Leaves(Vec<Row>);

impl Leaves {
    fn put(&mut self, leaf: u32, subleaf: u32, regs: [u32; 4]) {
        self.0.push(Row { leaf, subleaf, regs });
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    (0..4).fold(0, |word, i| word | u32::from(bytes.get(at + i).copied().unwrap_or(0)) << (8 * i))
}

/// All rows, sorted.
pub(crate) fn rows(level: &Level, features: FeatureSet, shape: &Shape) -> Vec<Row> {
    let mut out = Leaves(Vec::new());
    basic(&mut out, level, features, shape);
    hypervisor(&mut out, shape);
    extended(&mut out, level, features, shape);
    out.0
}

fn basic(out: &mut Leaves, level: &Level, features: FeatureSet, shape: &Shape) {
    out.put(0, 0, [level.max_leaf, word(VENDOR, 0), word(VENDOR, 8), word(VENDOR, 4)]);
    let topology = &shape.topology;
    let htt = u32::from(topology.per_socket() > 1) << 28;
    out.put(
        1,
        0,
        [
            level.signature,
            CLFLUSH << 8 | topology.per_socket() << 16,
            features.cpuid(1, 0, Reg::Ecx),
            features.cpuid(1, 0, Reg::Edx) | htt,
        ],
    );
    out.put(2, 0, LEAF2);
    let [of_core, of_socket] = sharing(topology);
    let last = level.caches.iter().map(|cache| cache.level).max();
    for (index, cache) in level.caches.iter().enumerate() {
        let sharing = if Some(cache.level) == last { of_socket } else { of_core };
        let eax = cache.kind as u32 | u32::from(cache.level) << 5 | 1 << 8 | sharing | core_ids(topology);
        out.put(4, index as u32, [eax, (cache.ways - 1) << 22 | 63, cache.sets - 1, cache.edx]);
    }
    let [eax, ecx] = [Reg::Eax, Reg::Ecx].map(|reg| features.cpuid(6, 0, reg));
    out.put(6, 0, [eax, 0, ecx, 0]);
    let last = if (1..3).any(|sub| all(features, 7, sub) != [0; 4]) { 2 } else { 0 };
    for subleaf in 0..=last {
        let mut regs = all(features, 7, subleaf);
        if subleaf == 0 {
            regs[0] = last;
        }
        out.put(7, subleaf, regs);
    }
    if level.max_leaf >= 0xb {
        out.0.extend(topology_rows(0xb, topology));
    }
    if features.contains(Feature::Xsave) {
        xsave(out, features);
    }
    if level.max_leaf >= 0x15 {
        let (num, den) = tsc_ratio(shape.tsc_hz, shape.apic_hz);
        out.put(0x15, 0, [den, num, shape.apic_hz, 0]);
    }
    if level.max_leaf >= 0x16 {
        let mhz = (shape.tsc_hz / 1_000_000).min(0xffff) as u32;
        out.put(0x16, 0, [mhz, mhz, (shape.apic_hz / 1_000_000).min(0xffff), 0]);
    }
    if level.max_leaf >= 0x1f {
        out.0.extend(topology_rows(0x1f, topology));
    }
}

fn all(features: FeatureSet, leaf: u32, subleaf: u32) -> [u32; 4] {
    [Reg::Eax, Reg::Ebx, Reg::Ecx, Reg::Edx].map(|reg| features.cpuid(leaf, subleaf, reg))
}

/// Leaf B or 1F: threads of a core, then of a package (SDM 3A 9.9.1). What is above a level's bits is the next one's number.
pub(crate) const fn topology_rows(leaf: u32, topology: &Topology) -> [Row; 2] {
    const SMT: u32 = 1 << 8;
    const CORE: u32 = 2 << 8;
    let thread = [topology.thread_bits(), topology.threads, SMT, 0];
    let core = [topology.socket_shift(), topology.per_socket(), CORE, 0];
    [Row { leaf, subleaf: 0, regs: thread }, Row { leaf, subleaf: 1, regs: core }]
}

/// Bits 31:26 of EAX of leaf 4: the last number that a core of a package can have in APIC ids.
pub(crate) const fn core_ids(topology: &Topology) -> u32 {
    let bits = topology.socket_shift() - topology.thread_bits();
    ((1 << bits) - 1) << 26
}

/// Bits 25:14 of the same, for a cache of one core and for one of the package: the last APIC id of those that share it.
pub(crate) fn sharing(topology: &Topology) -> [u32; 2] {
    let last = |bits: u32| ((1 << bits) - 1) << 14;
    [last(topology.thread_bits()), last(topology.socket_shift())]
}

/// Leaf D for exactly the components allowed (SDM volume 1, 13.2).
pub(crate) fn xsave_rows(features: FeatureSet) -> Vec<Row> {
    let mut out = Leaves(Vec::new());
    if features.contains(Feature::Xsave) {
        xsave(&mut out, features);
    }
    out.0
}

fn xsave(out: &mut Leaves, features: FeatureSet) {
    let xcr0 = xcr0_of(features);
    let max = standard_size(xcr0);
    out.put(0xd, 0, [xcr0 as u32, max, max, (xcr0 >> 32) as u32]);
    out.put(0xd, 1, [features.cpuid(0xd, 1, Reg::Eax), 0, 0, 0]);
    let top = 64 - xcr0.leading_zeros();
    for bit in 2..top {
        let component = COMPONENTS.iter().find(|c| u32::from(c.bit) == bit && xcr0 & 1 << bit != 0);
        let regs = component.map_or([0; 4], |c| [c.size, c.offset, u32::from(c.align64) << 1, 0]);
        out.put(0xd, bit, regs);
    }
}

fn hypervisor(out: &mut Leaves, shape: &Shape) {
    out.put(HYPERVISOR, 0, [TIMING, word(SIGNATURE, 0), word(SIGNATURE, 4), word(SIGNATURE, 8)]);
    let khz = u32::try_from(shape.tsc_hz / 1000).unwrap_or(u32::MAX);
    out.put(TIMING, 0, [khz, shape.apic_hz / 1000, 0, 0]);
}

fn extended(out: &mut Leaves, level: &Level, features: FeatureSet, shape: &Shape) {
    out.put(0x8000_0000, 0, [MAX_EXTENDED, 0, 0, 0]);
    out.put(0x8000_0001, 0, all(features, 0x8000_0001, 0));
    let brand = level.brand();
    for part in 0..3u32 {
        let at = 16 * part as usize;
        out.put(0x8000_0002 + part, 0, [0, 4, 8, 12].map(|offset| word(brand.as_bytes(), at + offset)));
    }
    let l2 = level.caches.iter().find(|cache| cache.level == 2);
    let ecx = l2.map_or(0, |l2| (l2.ways * l2.sets / 16) << 16 | associativity(l2.ways) << 12 | 64);
    out.put(0x8000_0006, 0, [0, 0, ecx, 0]);
    out.put(0x8000_0007, 0, all(features, 0x8000_0007, 0));
    let [_, ebx, ..] = all(features, 0x8000_0008, 0);
    let phys = u32::from(shape.phys_bits.unwrap_or(level.phys_bits));
    out.put(0x8000_0008, 0, [phys | u32::from(LINEAR_BITS) << 8, ebx, 0, 0]);
}

/// The code of CPUID.80000006:ECX\[15:12\]; 20 and 24 ways have none, and go by that of 16 as on silicon.
const fn associativity(ways: u32) -> u32 {
    match ways {
        1 => 1,
        2 => 2,
        4 => 4,
        8 => 6,
        16..32 => 8,
        _ => 0,
    }
}

/// Numerator and denominator of TSC rate over crystal rate (leaf 15), as near as fits: Linux multiplies the
/// crystal's kHz by the numerator in 32 bits.
pub(crate) fn tsc_ratio(tsc_hz: u64, crystal_hz: u32) -> (u32, u32) {
    let limit = u64::from(u32::MAX) / (u64::from(crystal_hz) / 1000).max(1);
    let (mut older, mut last) = ((0u64, 1u64), (1u64, 0u64));
    let (mut n, mut d) = (tsc_hz, u64::from(crystal_hz));
    while d != 0 {
        let mut times = n / d;
        // Beyond the limit the largest intermediate fraction is taken; from half of the quotient on it is nearer.
        let room = (limit.saturating_sub(older.0) / last.0.max(1))
            .min(u64::from(u32::MAX).saturating_sub(older.1) / last.1.max(1));
        let cut = times > room;
        if cut {
            if last.1 != 0 && 2 * room < times {
                break;
            }
            times = room;
        }
        (older, last) = (last, (times * last.0 + older.0, times * last.1 + older.1));
        if cut {
            break;
        }
        (n, d) = (d, n % d);
    }
    (last.0 as u32, last.1 as u32)
}
