//! Control-register bits that a feature brings.

use crate::feature::{Feature, FeatureSet};

/// CR4 bits that a guest may set, by the feature that brings each (SDM 3A 2.5). VMXE and SMXE are never in.
pub static CR4_BITS: &[(u8, Feature)] = &[
    (0, Feature::Vme),
    (1, Feature::Vme),
    (2, Feature::Tsc),
    (3, Feature::De),
    (4, Feature::Pse),
    (5, Feature::Pae),
    (6, Feature::Mce),
    (7, Feature::Pge),
    (8, Feature::Mmx),
    (9, Feature::Fxsr),
    (10, Feature::Sse),
    (11, Feature::Umip),
    (12, Feature::La57),
    (16, Feature::Fsgsbase),
    (17, Feature::Pcid),
    (18, Feature::Xsave),
    (20, Feature::Smep),
    (21, Feature::Smap),
    (22, Feature::Pku),
    (23, Feature::CetSs),
    (24, Feature::Pks),
];

/// IA32_EFER bits that a guest may set, by the feature that brings each: SCE, LME, LMA, NXE.
pub static EFER_BITS: &[(u8, Feature)] =
    &[(0, Feature::Syscall), (8, Feature::Lm), (10, Feature::Lm), (11, Feature::Nx)];

/// The bits that `features` brings.
pub(crate) fn allowed(bits: &[(u8, Feature)], features: FeatureSet) -> u64 {
    bits.iter().filter(|(_, feature)| features.contains(*feature)).fold(0, |mask, (bit, _)| mask | 1 << bit)
}
