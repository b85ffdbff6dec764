//! What the SDM says of leaves.

/// True for a leaf whose answer depends on ECX (SDM 2A "CPUID").
pub(crate) const fn is_indexed(leaf: u32) -> bool {
    matches!(
        leaf,
        4 | 7 | 0xb | 0xd | 0xf | 0x10 | 0x12 | 0x14 | 0x17 | 0x18 | 0x1a | 0x1b | 0x1d | 0x1e | 0x1f
    )
}
