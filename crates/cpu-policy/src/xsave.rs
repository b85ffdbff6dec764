//! XSAVE state components: SDM volume 1, chapter 13.

use crate::feature::{Feature, FeatureSet};

/// Bytes of the legacy region and the header, which every XSAVE area begins with.
const HEADER_END: u32 = 576;

/// XCR0 bits of x87 and SSE state.
pub(crate) const X87: u64 = 1;
pub(crate) const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const AVX512: u64 = 0b111 << 5;

/// What bits of MXCSR a guest may set: FXSAVE's MXCSR_MASK of every Intel CPU with 64-bit mode. It cannot be hidden,
/// and need not be.
pub const MXCSR_MASK: u32 = 0xffff;

/// A state component behind the header (CPUID.D, sub-leaf 2 and up).
#[derive(Debug)]
pub struct Component {
    /// Bit in XCR0 or IA32_XSS, and sub-leaf of CPUID.D.
    pub bit: u8,
    /// The SDM's name.
    pub name: &'static str,
    /// Bytes.
    pub size: u32,
    /// Offset in the standard format, in bytes; Intel CPUs agree on it. 0 for one of IA32_XSS, which only the compacted
    /// format has.
    pub offset: u32,
    /// The compacted format puts it on a multiple of 64 bytes.
    pub align64: bool,
    /// IA32_XFD can turn it off.
    pub xfd: bool,
    /// The feature that it comes with.
    pub feature: Feature,
}

const fn component(bit: u8, name: &'static str, size: u32, offset: u32, feature: Feature) -> Component {
    Component { bit, name, size, offset, align64: false, xfd: false, feature }
}

impl Component {
    /// True for a component of IA32_XSS.
    #[must_use]
    pub const fn supervisor(&self) -> bool {
        self.offset == 0
    }
}

/// The components that guests may have, by bit.
pub static COMPONENTS: &[Component] = &[
    component(2, "AVX", 256, 576, Feature::Avx),
    component(5, "opmask", 64, 1088, Feature::Avx512f),
    component(6, "ZMM_Hi256", 512, 1152, Feature::Avx512f),
    component(7, "Hi16_ZMM", 1024, 1664, Feature::Avx512f),
    component(9, "PKRU", 8, 2688, Feature::Pku),
];

/// The components that no guest has, by bit: their features are not virtualised.
pub static HIDDEN_COMPONENTS: &[Component] = &[
    component(3, "BNDREGS", 64, 960, Feature::Mpx),
    component(4, "BNDCSR", 64, 1024, Feature::Mpx),
    component(8, "PT", 128, 0, Feature::Pt),
    component(10, "PASID", 8, 0, Feature::Enqcmd),
    component(11, "CET_U", 16, 0, Feature::CetSs),
    component(12, "CET_S", 24, 0, Feature::CetSs),
    component(13, "HDC", 8, 0, Feature::Hdc),
    component(14, "UINTR", 48, 0, Feature::Uintr),
    component(15, "LBR", 808, 0, Feature::ArchLbr),
    component(16, "HWP", 8, 0, Feature::Hwp),
    Component { align64: true, ..component(17, "XTILECFG", 64, 2752, Feature::AmxTile) },
    Component { align64: true, xfd: true, ..component(18, "XTILEDATA", 8192, 2816, Feature::AmxTile) },
    // Where BNDREGS and BNDCSR were, which no CPU has beside it.
    component(19, "APX", 128, 960, Feature::ApxF),
];

/// The name of a state component.
pub(crate) fn component_name(bit: u8) -> &'static str {
    match bit {
        0 => "x87",
        1 => "SSE",
        _ => {
            let mut known = COMPONENTS.iter().chain(HIDDEN_COMPONENTS);
            known.find(|c| c.bit == bit).map_or("unknown", |c| c.name)
        }
    }
}

/// The XCR0 bits that a guest with these features may set; 0 without XSAVE.
pub(crate) fn xcr0_of(features: FeatureSet) -> u64 {
    if !features.contains(Feature::Xsave) {
        return 0;
    }
    let bits =
        COMPONENTS.iter().filter(|c| features.contains(c.feature)).fold(0, |bits, c| bits | 1 << c.bit);
    X87 | SSE | bits
}

/// True for a value that XSETBV takes on a CPU that has all its components: x87 set, AVX with SSE, AVX-512
/// whole and with AVX (SDM volume 1, 13.3).
#[must_use]
pub const fn xcr0_legal(xcr0: u64) -> bool {
    xcr0 & X87 != 0
        && (xcr0 & AVX == 0 || xcr0 & SSE != 0)
        && (xcr0 & AVX512 == 0 || xcr0 & AVX512 == AVX512 && xcr0 & AVX != 0)
}

/// The largest part of `xcr0` that is legal; 0 where there is none with x87 and SSE state.
pub(crate) const fn legal_part(mut xcr0: u64) -> u64 {
    if xcr0 & (X87 | SSE) != X87 | SSE {
        return 0;
    }
    if xcr0 & AVX == 0 || xcr0 & AVX512 != AVX512 {
        xcr0 &= !AVX512;
    }
    xcr0
}

/// Bytes of an XSAVE area in the standard format with these components.
#[must_use]
pub fn standard_size(xcr0: u64) -> u32 {
    let enabled = COMPONENTS.iter().filter(|c| xcr0 & 1 << c.bit != 0);
    enabled.map(|c| c.offset + c.size).max().unwrap_or(HEADER_END)
}

/// Bytes of an XSAVE area in the compacted format with these components.
#[must_use]
pub fn compacted_size(xcr0: u64) -> u32 {
    let enabled = COMPONENTS.iter().filter(|c| xcr0 & 1 << c.bit != 0);
    enabled.fold(HEADER_END, |end, c| c.size + if c.align64 { end.next_multiple_of(64) } else { end })
}
