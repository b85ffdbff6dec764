//! Hosts as the Intel models of Bochs 2.7 enumerate themselves in 64-bit mode with 40 physical address bits.
#![allow(dead_code, reason = "each test file uses a part")]

use cpu_policy::{GuestPolicy, HostPolicy, LEVELS, Level, Shape};
use vm_types::Topology;

/// The registers of one model that features are read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dump {
    pub(crate) model: &'static str,
    pub(crate) vendor: &'static [u8; 12],
    pub(crate) max_leaf: u32,
    /// EAX, ECX, EDX.
    pub(crate) leaf1: [u32; 3],
    /// EAX.
    pub(crate) leaf6: u32,
    /// EBX, ECX, EDX of sub-leaf 0.
    pub(crate) leaf7: [u32; 3],
    /// EAX, EDX of sub-leaf 1, EDX of sub-leaf 2; there are none where all are 0.
    pub(crate) leaf7_later: [u32; 3],
    pub(crate) xcr0: u32,
    /// EAX.
    pub(crate) leaf_d1: u32,
    /// True where sub-leaf 9 of leaf D is empty although XCR0 has PKRU.
    pub(crate) no_pkru_leaf: bool,
    /// ECX, EDX.
    pub(crate) ext1: [u32; 2],
    /// EDX.
    pub(crate) ext7: u32,
    /// EBX.
    pub(crate) ext8: u32,
    pub(crate) phys_bits: u8,
    /// High half of IA32_VMX_PROCBASED_CTLS2.
    pub(crate) controls2: u32,
    pub(crate) arch_capabilities: u64,
}

const RDTSCP: u32 = 1 << 3;
const INVPCID: u32 = 1 << 12;
const XSAVES: u32 = 1 << 20;

const BASE: Dump = Dump {
    model: "",
    vendor: b"GenuineIntel",
    max_leaf: 0xd,
    leaf1: [0; 3],
    leaf6: 0x77,
    leaf7: [0; 3],
    leaf7_later: [0; 3],
    xcr0: 0,
    leaf_d1: 0,
    no_pkru_leaf: true,
    ext1: [1, 0x2810_0800],
    ext7: 0x100,
    ext8: 0,
    phys_bits: 40,
    controls2: RDTSCP,
    arch_capabilities: 0,
};

pub(crate) const PENRYN: Dump = Dump {
    model: "core2_penryn_t9600",
    leaf1: [0x0001_067a, 0x0408_e3fd, 0xbfeb_fbff],
    leaf6: 3,
    xcr0: 3,
    ext1: [1, 0x2010_0800],
    ext7: 0,
    controls2: 0,
    ..BASE
};
pub(crate) const LYNNFIELD: Dump = Dump {
    model: "corei5_lynnfield_750",
    max_leaf: 0xb,
    leaf1: [0x0001_06e5, 0x0098_e3fd, 0xbfeb_fbff],
    leaf6: 3,
    ..BASE
};
pub(crate) const ARRANDALE: Dump = Dump {
    model: "corei5_arrandale_m520",
    max_leaf: 0xb,
    leaf1: [0x0002_0652, 0x0298_e3ff, 0xbfeb_fbff],
    leaf6: 7,
    ..BASE
};
pub(crate) const SANDY_BRIDGE: Dump = Dump {
    model: "corei7_sandy_bridge_2600k",
    leaf1: [0x0002_06a7, 0x17ba_e3ff, 0xbfeb_fbff],
    xcr0: 7,
    leaf_d1: 1,
    ..BASE
};
pub(crate) const IVY_BRIDGE: Dump = Dump {
    model: "corei7_ivy_bridge_3770k",
    leaf1: [0x0003_06a9, 0x77ba_e3ff, 0xbfeb_fbff],
    leaf7: [0x281, 0, 0],
    ..SANDY_BRIDGE
};
pub(crate) const HASWELL: Dump = Dump {
    model: "corei7_haswell_4770",
    leaf1: [0x0003_06c3, 0x77fa_f3ff, 0xbfeb_fbff],
    leaf7: [0x27ab, 0, 0],
    ext1: [0x21, 0x2c10_0800],
    controls2: RDTSCP | INVPCID,
    ..SANDY_BRIDGE
};
pub(crate) const BROADWELL: Dump = Dump {
    model: "broadwell_ult",
    max_leaf: 0x14,
    leaf1: [0x0003_06d4, 0x77fa_f3ff, 0xbfeb_fbff],
    leaf7: [0x001c_27ab, 0, 0],
    ext1: [0x121, 0x2c10_0800],
    ..HASWELL
};
pub(crate) const SKYLAKE_X: Dump = Dump {
    model: "corei7_skylake_x",
    max_leaf: 0x16,
    leaf1: [0x0005_0654, 0x77fa_f3bf, 0xbfeb_fbff],
    leaf7: [0xd19f_27eb, 0, 0],
    xcr0: 0xe7,
    leaf_d1: 0xf,
    controls2: RDTSCP | INVPCID | XSAVES,
    ..BROADWELL
};
pub(crate) const CANNON_LAKE: Dump = Dump {
    model: "corei3_cnl",
    leaf1: [0x0006_0663, 0x77fa_f3bf, 0xbfeb_fbff],
    leaf6: 0x2ff7,
    leaf7: [0xf0bf_27eb, 0xe, 0],
    xcr0: 0x2e7,
    ..SKYLAKE_X
};
pub(crate) const ICE_LAKE: Dump = Dump {
    model: "corei7_icelake_u",
    max_leaf: 0x1b,
    leaf1: [0x0007_06e5, 0x77fa_f3bf, 0xbfeb_fbff],
    leaf7: [0xf0bf_27eb, 0x0040_5f4e, 0xbc00_0110],
    ..CANNON_LAKE
};
pub(crate) const TIGER_LAKE: Dump = Dump {
    model: "tigerlake",
    leaf1: [0x0008_06c1, 0x77fa_f3bf, 0xbfeb_fbff],
    leaf7: [0xf1bf_27eb, 0x0040_5fce, 0xfc10_0510],
    ..ICE_LAKE
};

/// Facts of public dumps of Xeons, with OSXSAVE and OSPKE off; TSX as noted.
pub(crate) const XEON_ICE_LAKE: Dump = Dump {
    model: "Xeon Gold 6354, TSX off",
    max_leaf: 0x1b,
    leaf1: [0x0006_06a6, 0x77fe_fbff, 0xbfeb_fbff],
    leaf7: [0xf3bf_b7ef, 0x4041_7f4e, 0xbc04_0412],
    leaf7_later: [0, 0, 1],
    ext1: [0x121, 0x2c10_0800],
    ext8: 1 << 9,
    phys_bits: 46,
    arch_capabilities: 0x0002_a1eb,
    no_pkru_leaf: false,
    ..CANNON_LAKE
};
pub(crate) const XEON_SAPPHIRE_RAPIDS: Dump = Dump {
    model: "Xeon Gold 5418N, TSX off",
    max_leaf: 0x20,
    leaf1: [0x0008_06f8, 0x77fe_fbff, 0xbfeb_fbff],
    leaf7: [0xf3bf_b7ef, 0xfb41_7fee, 0xffdd_4432],
    leaf7_later: [0x1c30, 0, 0x17],
    xcr0: 0x6_02e7,
    leaf_d1: 0x1f,
    arch_capabilities: 0x4000_0000_0008_e1eb,
    ..XEON_ICE_LAKE
};
pub(crate) const XEON_GRANITE_RAPIDS: Dump = Dump {
    model: "Xeon 6, TSX on",
    leaf1: [0x000a_06d1, 0x77fe_fbff, 0xbfeb_fbff],
    leaf7: [0xf3bf_bfef, 0xfb41_7fee, 0xffdd_4432],
    leaf7_later: [0x0020_1c30, 1 << 14 | 1 << 19, 0x3f],
    phys_bits: 52,
    arch_capabilities: 0x4000_0000_0d08_e1eb,
    ..XEON_SAPPHIRE_RAPIDS
};

pub(crate) const DUMPS: &[Dump] = &[
    PENRYN,
    LYNNFIELD,
    ARRANDALE,
    SANDY_BRIDGE,
    IVY_BRIDGE,
    HASWELL,
    BROADWELL,
    SKYLAKE_X,
    CANNON_LAKE,
    ICE_LAKE,
    TIGER_LAKE,
];

impl Dump {
    pub(crate) fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let text = |at: usize| u32::from_le_bytes(self.vendor[at..at + 4].try_into().unwrap());
        match leaf {
            0 => [self.max_leaf, text(0), text(8), text(4)],
            // Like hardware: garbage of another leaf above the highest.
            _ if leaf < 0x8000_0000 && leaf > self.max_leaf => [0xffff_ffff; 4],
            1 => [self.leaf1[0], 0x0001_0800, self.leaf1[1], self.leaf1[2]],
            6 => [self.leaf6, 2, 9, 0],
            7 => self.leaf7(subleaf),
            0xd => self.xsave(subleaf),
            0x8000_0000 => [0x8000_0008, 0, 0, 0],
            0x8000_0001 => [0, 0, self.ext1[0], self.ext1[1]],
            0x8000_0007 => [0, 0, 0, self.ext7],
            0x8000_0008 => [0x3000 | u32::from(self.phys_bits), self.ext8, 0, 0],
            _ => [0; 4],
        }
    }

    fn leaf7(&self, subleaf: u32) -> [u32; 4] {
        let ([ebx, ecx, edx], [eax1, edx1, edx2]) = (self.leaf7, self.leaf7_later);
        match subleaf {
            0 => [if self.leaf7_later == [0; 3] { 0 } else { 2 }, ebx, ecx, edx],
            1 => [eax1, 0, 0, edx1],
            2 => [0, 0, 0, edx2],
            _ => [0; 4],
        }
    }

    fn xsave(&self, subleaf: u32) -> [u32; 4] {
        let has = |regs| if self.xcr0 & 1 << subleaf != 0 { regs } else { [0; 4] };
        match subleaf {
            0 => [self.xcr0, 0x240, 0xa80, 0],
            1 => [self.leaf_d1, 0xa80, 0, 0],
            2 => has([256, 576, 0, 0]),
            5 => has([64, 1088, 0, 0]),
            6 => has([512, 1152, 0, 0]),
            7 => has([1024, 1664, 0, 0]),
            9 if !self.no_pkru_leaf => has([8, 2688, 0, 0]),
            17 => has([64, 2752, 2, 0]),
            18 => has([8192, 2816, 6, 0]),
            _ => [0; 4],
        }
    }

    pub(crate) fn msr(&self, index: u32) -> Option<u64> {
        match index {
            0x480 => Some(1),
            // Secondary controls may be used.
            0x481..=0x484 => Some(1 << 63),
            0x48b => Some(u64::from(self.controls2) << 32),
            0x10a => Some(self.arch_capabilities),
            _ => None,
        }
    }

    pub(crate) fn policy(&self) -> HostPolicy {
        HostPolicy::from_reader(|leaf, subleaf| self.cpuid(leaf, subleaf), |index| self.msr(index))
    }
}

/// A host that has all that any level asks for: Granite Rapids with the HLE of older ones, the AVX-512 of the Xeon Phi
/// and what Diamond Rapids and Clearwater Forest bring.
pub(crate) fn big_host() -> HostPolicy {
    let [ebx, ecx, edx] = XEON_GRANITE_RAPIDS.leaf7;
    let [eax1, edx1, edx2] = XEON_GRANITE_RAPIDS.leaf7_later;
    Dump {
        leaf7: [ebx | 1 << 4 | 0b11 << 26, ecx | 1, edx],
        leaf7_later: [eax1 | 0b111 | 1 << 7 | 1 << 23 | 1 << 31, edx1 | 0b11 << 4 | 1 << 10, edx2],
        arch_capabilities: XEON_GRANITE_RAPIDS.arch_capabilities | 1 << 20,
        ..XEON_GRANITE_RAPIDS
    }
    .policy()
}

pub(crate) const SHAPE: Shape =
    Shape { topology: Topology::flat(1), tsc_hz: 20_000_000, apic_hz: 100_000_000, phys_bits: None };

pub(crate) fn level(name: &str) -> &'static Level {
    Level::by_name(name).unwrap_or_else(|| panic!("level {name}"))
}

pub(crate) fn render(name: &str) -> GuestPolicy {
    GuestPolicy::render(level(name), SHAPE, &big_host()).unwrap()
}

/// The line of generations and their variants with TSX.
pub(crate) fn generations() -> impl Iterator<Item = &'static Level> {
    let line = [
        "merom",
        "penryn",
        "nehalem",
        "westmere",
        "sandybridge",
        "ivybridge",
        "haswell",
        "broadwell",
        "skylake-server",
        "cascadelake",
        "cooperlake",
        "icelake-server",
        "sapphirerapids",
        "emeraldrapids",
        "graniterapids",
    ];
    LEVELS.iter().copied().filter(move |level| line.contains(&level.name.trim_end_matches("-tsx")))
}
