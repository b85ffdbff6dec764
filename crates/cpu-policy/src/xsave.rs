//! XSAVE state components: SDM volume 1, chapter 13.

use crate::feature::{Feature, FeatureSet};

/// Bytes of the legacy region and the header, which every XSAVE area begins with.
const HEADER_END: u32 = 576;

/// XCR0 bits of x87 and SSE state.
pub(crate) const X87: u64 = 1;
pub(crate) const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const AVX512: u64 = 0b111 << 5;

/// A state component behind the header that the hypervisor saves for guests.
#[derive(Debug)]
pub struct Component {
    /// Bit in XCR0, and sub-leaf of CPUID.D.
    pub bit: u8,
    /// The SDM's name.
    pub name: &'static str,
    /// Bytes.
    pub size: u32,
    /// Offset in the standard format, in bytes; Intel CPUs agree on it.
    pub offset: u32,
    /// The compacted format puts it on a multiple of 64 bytes.
    pub align64: bool,
    /// The feature that it comes with.
    pub feature: Feature,
}

const fn component(bit: u8, name: &'static str, size: u32, offset: u32, feature: Feature) -> Component {
    Component { bit, name, size, offset, align64: false, feature }
}

/// The components that guests may have, by bit. MPX, PT, CET, AMX are not virtualised.
pub static COMPONENTS: &[Component] = &[
    component(2, "AVX", 256, 576, Feature::Avx),
    component(5, "opmask", 64, 1088, Feature::Avx512f),
    component(6, "ZMM_Hi256", 512, 1152, Feature::Avx512f),
    component(7, "Hi16_ZMM", 1024, 1664, Feature::Avx512f),
    component(9, "PKRU", 8, 2688, Feature::Pku),
];

/// The name of an XCR0 bit that a guest may have.
pub(crate) fn component_name(bit: u8) -> &'static str {
    match bit {
        0 => "x87",
        1 => "SSE",
        _ => COMPONENTS.iter().find(|c| c.bit == bit).map_or("unknown", |c| c.name),
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
