//! Which MSRs a guest has, what they read and which values they take: an allow-list; any other raises #GP.

use alloc::boxed::Box;
use alloc::vec::Vec;

use x86::msr::{self, TSC_DEADLINE};

use crate::feature::{ARCH_CAPABILITIES, Feature, FeatureSet, PLATFORM_INFO, Place};

/// First x2APIC register.
const X2APIC_FIRST: u32 = 0x800;
/// Number of x2APIC registers (SDM 3A 11.12.1.2).
const X2APIC_COUNT: u32 = 0x40;
const XSS: u32 = 0xda0;

/// An MSR that is more than a constant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MsrKind {
    /// IA32_TIME_STAMP_COUNTER.
    Tsc,
    /// IA32_TSC_ADJUST.
    TscAdjust,
    /// IA32_TSC_DEADLINE.
    TscDeadline,
    /// IA32_TSC_AUX.
    TscAux,
    /// IA32_APIC_BASE.
    ApicBase,
    /// An x2APIC register; the MMIO offset is 16 times this number.
    X2apic(u8),
    /// IA32_SYSENTER_CS.
    SysenterCs,
    /// IA32_SYSENTER_ESP.
    SysenterEsp,
    /// IA32_SYSENTER_EIP.
    SysenterEip,
    /// IA32_PAT.
    Pat,
    /// IA32_MTRR_PHYSBASE n (2n) and PHYSMASK n (2n + 1): plain storage.
    MtrrVariable(u8),
    /// The eleven fixed-range MTRRs, in ascending order of address: plain storage.
    MtrrFixed(u8),
    /// IA32_MTRR_DEF_TYPE: plain storage.
    MtrrDefType,
    /// IA32_EFER.
    Efer,
    /// IA32_STAR.
    Star,
    /// IA32_LSTAR.
    Lstar,
    /// IA32_CSTAR.
    Cstar,
    /// IA32_FMASK.
    Fmask,
    /// IA32_FS_BASE.
    FsBase,
    /// IA32_GS_BASE.
    GsBase,
    /// IA32_KERNEL_GS_BASE.
    KernelGsBase,
    /// MSR_MISC_FEATURES_ENABLES; bit 0 turns CPUID faulting on.
    MiscFeatures,
    /// IA32_SPEC_CTRL.
    SpecCtrl,
    /// IA32_PRED_CMD, write-only.
    PredCmd,
    /// IA32_FLUSH_CMD, write-only.
    FlushCmd,
}

impl MsrKind {
    /// True where RDMSR raises #GP(0).
    #[must_use]
    pub const fn write_only(self) -> bool {
        matches!(self, Self::PredCmd | Self::FlushCmd)
    }
}

/// The bits of IA32_SPEC_CTRL that a guest with these features may set (SDM 4 table 2-2); 0: it has no such MSR.
#[must_use]
pub fn spec_ctrl_bits(features: FeatureSet) -> u64 {
    const BITS: &[(Feature, u64)] = &[
        (Feature::IbrsIbpb, 1 << 0),
        (Feature::Stibp, 1 << 1),
        (Feature::Ssbd, 1 << 2),
        (Feature::IpredCtrl, 0b11 << 3),
        (Feature::RrsbaCtrl, 0b11 << 5),
        (Feature::Psfd, 1 << 7),
        (Feature::DdpdU, 1 << 8),
        (Feature::BhiCtrl, 1 << 10),
    ];
    if !features.contains(Feature::IbrsIbpb) {
        return 0;
    }
    BITS.iter().filter(|(feature, _)| features.contains(*feature)).fold(0, |bits, (_, bit)| bits | bit)
}

/// How an MSR may be handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MsrClass {
    /// May be left to the hardware: it belongs to the guest while that runs, and checks its values itself.
    Passthrough,
    /// The hypervisor keeps it.
    Emulated,
    /// Never changes while the guest lives.
    Constant,
}

/// Which values WRMSR takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Valid {
    Any,
    /// No other bits than these.
    Mask(u64),
    /// The bits of IA32_SPEC_CTRL that come with the features.
    SpecCtrl,
    /// A linear address.
    Canonical,
    /// Eight memory types, UC- among them.
    Pat,
    /// Eight memory types.
    Types,
    MtrrBase,
    MtrrMask,
    MtrrDefType,
    ApicBase,
    Efer,
    /// None at all.
    ReadOnly,
    /// What it holds already; these bits do not matter. The write has no effect.
    SameBut(u64),
}

/// A row of the allow-list.
#[derive(Debug)]
pub struct MsrRule {
    /// First MSR.
    pub first: u32,
    /// Number of MSRs.
    pub count: u32,
    /// The SDM's name.
    pub name: &'static str,
    /// How it may be handled.
    pub class: MsrClass,
    /// The feature that it comes with.
    pub needs: Option<Feature>,
    kind: Option<MsrKind>,
    valid: Valid,
}

const fn kept(first: u32, name: &'static str, kind: MsrKind, needs: Feature, valid: Valid) -> MsrRule {
    MsrRule { first, count: 1, name, class: MsrClass::Emulated, needs: Some(needs), kind: Some(kind), valid }
}

const fn many(
    first: u32,
    count: u32,
    name: &'static str,
    kind: MsrKind,
    needs: Feature,
    valid: Valid,
) -> MsrRule {
    MsrRule { count, ..kept(first, name, kind, needs, valid) }
}

const fn pass(first: u32, name: &'static str, kind: MsrKind, needs: Feature, valid: Valid) -> MsrRule {
    MsrRule { class: MsrClass::Passthrough, ..kept(first, name, kind, needs, valid) }
}

const fn fixed(first: u32, name: &'static str, needs: Option<Feature>, valid: Valid) -> MsrRule {
    MsrRule { first, count: 1, name, class: MsrClass::Constant, needs, kind: None, valid }
}

/// The allow-list, by MSR (SDM 4, table 2-2).
pub static RULES: &[MsrRule] = &[
    kept(0x10, "IA32_TIME_STAMP_COUNTER", MsrKind::Tsc, Feature::Tsc, Valid::Any),
    fixed(0x17, "IA32_PLATFORM_ID", None, Valid::ReadOnly),
    kept(0x1b, "IA32_APIC_BASE", MsrKind::ApicBase, Feature::Apic, Valid::ApicBase),
    kept(0x3b, "IA32_TSC_ADJUST", MsrKind::TscAdjust, Feature::TscAdjust, Valid::Any),
    kept(msr::SPEC_CTRL, "IA32_SPEC_CTRL", MsrKind::SpecCtrl, Feature::IbrsIbpb, Valid::SpecCtrl),
    kept(msr::PRED_CMD, "IA32_PRED_CMD", MsrKind::PredCmd, Feature::IbrsIbpb, Valid::Mask(1)),
    fixed(0x8b, "IA32_BIOS_SIGN_ID", None, Valid::SameBut(!0)),
    fixed(PLATFORM_INFO, "MSR_PLATFORM_INFO", None, Valid::ReadOnly),
    fixed(0xfe, "IA32_MTRRCAP", Some(Feature::Mtrr), Valid::ReadOnly),
    fixed(ARCH_CAPABILITIES, "IA32_ARCH_CAPABILITIES", Some(Feature::ArchCapabilities), Valid::ReadOnly),
    kept(0x10b, "IA32_FLUSH_CMD", MsrKind::FlushCmd, Feature::L1dFlush, Valid::Mask(1)),
    kept(0x140, "MSR_MISC_FEATURES_ENABLES", MsrKind::MiscFeatures, Feature::CpuidFaulting, Valid::Mask(1)),
    pass(0x174, "IA32_SYSENTER_CS", MsrKind::SysenterCs, Feature::Sep, Valid::Mask(0xffff_ffff)),
    pass(0x175, "IA32_SYSENTER_ESP", MsrKind::SysenterEsp, Feature::Sep, Valid::Canonical),
    pass(0x176, "IA32_SYSENTER_EIP", MsrKind::SysenterEip, Feature::Sep, Valid::Canonical),
    fixed(0x179, "IA32_MCG_CAP", Some(Feature::Mca), Valid::ReadOnly),
    fixed(0x17a, "IA32_MCG_STATUS", Some(Feature::Mca), Valid::SameBut(0)),
    fixed(0x1a0, "IA32_MISC_ENABLE", None, Valid::SameBut(FAST_STRINGS)),
    fixed(0x1d9, "IA32_DEBUGCTL", None, Valid::SameBut(LBR_BTF)),
    many(0x200, 16, "IA32_MTRR_PHYSBASE0", MsrKind::MtrrVariable(0), Feature::Mtrr, Valid::MtrrBase),
    many(0x250, 1, "IA32_MTRR_FIX64K_00000", MsrKind::MtrrFixed(0), Feature::Mtrr, Valid::Types),
    many(0x258, 2, "IA32_MTRR_FIX16K_80000", MsrKind::MtrrFixed(1), Feature::Mtrr, Valid::Types),
    many(0x268, 8, "IA32_MTRR_FIX4K_C0000", MsrKind::MtrrFixed(3), Feature::Mtrr, Valid::Types),
    pass(msr::PAT, "IA32_PAT", MsrKind::Pat, Feature::Pat, Valid::Pat),
    kept(0x2ff, "IA32_MTRR_DEF_TYPE", MsrKind::MtrrDefType, Feature::Mtrr, Valid::MtrrDefType),
    kept(TSC_DEADLINE, "IA32_TSC_DEADLINE", MsrKind::TscDeadline, Feature::TscDeadline, Valid::Any),
    many(X2APIC_FIRST, X2APIC_COUNT, "x2APIC", MsrKind::X2apic(0), Feature::X2apic, Valid::Any),
    fixed(XSS, "IA32_XSS", Some(Feature::Xsaves), Valid::SameBut(0)),
    kept(msr::EFER, "IA32_EFER", MsrKind::Efer, Feature::Lm, Valid::Efer),
    pass(msr::STAR, "IA32_STAR", MsrKind::Star, Feature::Syscall, Valid::Any),
    pass(msr::LSTAR, "IA32_LSTAR", MsrKind::Lstar, Feature::Syscall, Valid::Canonical),
    pass(msr::CSTAR, "IA32_CSTAR", MsrKind::Cstar, Feature::Syscall, Valid::Canonical),
    pass(msr::FMASK, "IA32_FMASK", MsrKind::Fmask, Feature::Syscall, Valid::Mask(0xffff_ffff)),
    pass(msr::FS_BASE, "IA32_FS_BASE", MsrKind::FsBase, Feature::Lm, Valid::Canonical),
    pass(msr::GS_BASE, "IA32_GS_BASE", MsrKind::GsBase, Feature::Lm, Valid::Canonical),
    pass(msr::KERNEL_GS_BASE, "IA32_KERNEL_GS_BASE", MsrKind::KernelGsBase, Feature::Lm, Valid::Canonical),
    pass(msr::TSC_AUX, "IA32_TSC_AUX", MsrKind::TscAux, Feature::Rdtscp, Valid::Mask(0xffff_ffff)),
];

const FAST_STRINGS: u64 = 1;
const LBR_BTF: u64 = 0b11;
/// IA32_MISC_ENABLE: fast strings on, BTS and PEBS unavailable.
const MISC_ENABLE: u64 = FAST_STRINGS | 1 << 11 | 1 << 12;
/// IA32_MTRRCAP: eight variable ranges, fixed ranges, write-combining.
const MTRRCAP: u64 = 8 | 1 << 8 | 1 << 10;
/// Microcode revision 1, in the high half.
const BIOS_SIGN_ID: u64 = 1 << 32;

/// What RDMSR does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MsrRead {
    /// Answers this.
    Value(u64),
    /// The hypervisor knows the value.
    Emulate(MsrKind),
    /// Raises #GP(0).
    Gp,
}

/// What WRMSR does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MsrWrite {
    /// Nothing.
    Ignore,
    /// The value is legal for this MSR: the hypervisor carries it out.
    Emulate(MsrKind),
    /// Raises #GP(0).
    Gp,
}

/// The values of a guest's constant MSRs, by MSR.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MsrValues(pub Vec<(u32, u64)>);

impl MsrValues {
    /// The values for a new guest.
    #[must_use]
    pub fn new(features: FeatureSet, tsc_hz: u64) -> Self {
        let constant = |rule: &&MsrRule| rule.class == MsrClass::Constant && rule.offered(features);
        let value = |rule: &MsrRule| match rule.first {
            0x8b => BIOS_SIGN_ID,
            PLATFORM_INFO => {
                // Ratios of TSC to the 100 MHz bus: maximum and minimum.
                let ratio = (tsc_hz / 100_000_000).clamp(1, 0xff);
                ratio << 8 | ratio << 40 | features.bits(Place::Msr(PLATFORM_INFO))
            }
            0xfe => MTRRCAP,
            ARCH_CAPABILITIES => features.bits(Place::Msr(ARCH_CAPABILITIES)),
            0x1a0 => MISC_ENABLE,
            _ => 0,
        };
        Self(RULES.iter().filter(constant).map(|rule| (rule.first, value(rule))).collect())
    }

    /// The value of a constant MSR.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<u64> {
        self.0.iter().find(|(at, _)| *at == index).map(|(_, value)| *value)
    }
}

impl MsrRule {
    /// True where a guest with these features has it.
    #[must_use]
    pub fn offered(&self, features: FeatureSet) -> bool {
        self.needs.is_none_or(|feature| features.contains(feature))
    }

    fn kind(&self, offset: u32) -> Option<MsrKind> {
        let n = offset as u8;
        self.kind.map(|kind| match kind {
            MsrKind::MtrrVariable(first) => MsrKind::MtrrVariable(first + n),
            MsrKind::MtrrFixed(first) => MsrKind::MtrrFixed(first + n),
            MsrKind::X2apic(first) => MsrKind::X2apic(first + n),
            kind => kind,
        })
    }
}

/// One MSR that the guest has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Active {
    index: u32,
    read: MsrRead,
    write: MsrWrite,
    valid: Valid,
}

/// A power of two.
const SLOTS: usize = 2048;

/// The slot of an MSR: no other one of [`RULES`] has it, those of [`is_busy`] apart. Whatever the guest asks for, its low
/// bits lie within the table: there is no check that a CPU could guess wrongly (Spectre v1).
#[inline(always)]
const fn slot(index: u32) -> usize {
    (index ^ index >> 21) as usize & (SLOTS - 1)
}

/// Whether it is of the two busiest kinds, which have no slot.
const fn is_busy(index: u32) -> bool {
    index.wrapping_sub(X2APIC_FIRST) < X2APIC_COUNT || index == TSC_DEADLINE
}

/// The MSRs of one guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MsrPolicy {
    /// For each slot 0, or one more than an index into `active`.
    slots: Box<[u8; SLOTS]>,
    active: Vec<Active>,
    x2apic: bool,
    tsc_deadline: bool,
    features: FeatureSet,
    values: MsrValues,
    phys_bits: u8,
    linear_bits: u8,
    efer: u64,
}

impl MsrPolicy {
    pub(crate) fn new(
        features: FeatureSet,
        values: MsrValues,
        phys_bits: u8,
        linear_bits: u8,
        efer: u64,
    ) -> Self {
        let (mut slots, mut active) = (Box::new([0; SLOTS]), Vec::new());
        for rule in RULES.iter().filter(|rule| rule.offered(features)) {
            for offset in 0..rule.count {
                let index = rule.first + offset;
                if is_busy(index) {
                    continue;
                }
                let (read, write) = match rule.kind(offset) {
                    Some(kind) if kind.write_only() => (MsrRead::Gp, MsrWrite::Emulate(kind)),
                    Some(kind) => (MsrRead::Emulate(kind), MsrWrite::Emulate(kind)),
                    None => (MsrRead::Value(values.get(index).unwrap_or(0)), MsrWrite::Ignore),
                };
                let valid = match rule.valid {
                    Valid::MtrrBase if offset % 2 == 1 => Valid::MtrrMask,
                    Valid::SpecCtrl => Valid::Mask(spec_ctrl_bits(features)),
                    valid => valid,
                };
                active.push(Active { index, read, write, valid });
                slots[slot(index)] = active.len() as u8;
            }
        }
        let [x2apic, tsc_deadline] = [Feature::X2apic, Feature::TscDeadline].map(|f| features.contains(f));
        Self { slots, active, x2apic, tsc_deadline, features, values, phys_bits, linear_bits, efer }
    }

    /// The busiest MSRs, by comparison alone.
    #[inline(always)]
    fn busy(&self, index: u32) -> Option<MsrKind> {
        let register = index.wrapping_sub(X2APIC_FIRST);
        if register < X2APIC_COUNT {
            return self.x2apic.then_some(MsrKind::X2apic(register as u8));
        }
        (index == TSC_DEADLINE && self.tsc_deadline).then_some(MsrKind::TscDeadline)
    }

    #[inline(always)]
    fn find(&self, index: u32) -> Option<&Active> {
        let at = self.slots[slot(index)];
        self.active.get(usize::from(at).wrapping_sub(1)).filter(|msr| msr.index == index)
    }

    /// What RDMSR of `index` does.
    #[must_use]
    #[inline(always)]
    pub fn read(&self, index: u32) -> MsrRead {
        match self.busy(index) {
            Some(kind) => MsrRead::Emulate(kind),
            None => self.find(index).map_or(MsrRead::Gp, |msr| msr.read),
        }
    }

    /// What WRMSR of `value` to `index` does.
    #[must_use]
    #[inline(always)]
    pub fn write(&self, index: u32, value: u64) -> MsrWrite {
        if let Some(kind) = self.busy(index) {
            return MsrWrite::Emulate(kind);
        }
        match self.find(index) {
            Some(msr) if self.valid(msr, value) => msr.write,
            _ => MsrWrite::Gp,
        }
    }

    #[inline(always)]
    fn valid(&self, msr: &Active, value: u64) -> bool {
        let address = || !(u64::MAX << self.phys_bits.min(63)) & !0xfff;
        match msr.valid {
            Valid::Any => true,
            Valid::Mask(mask) => value & !mask == 0,
            Valid::SpecCtrl => value & !spec_ctrl_bits(self.features) == 0,
            Valid::Canonical => {
                let unused = 64 - u32::from(self.linear_bits.clamp(1, 64));
                ((value << unused).cast_signed() >> unused).cast_unsigned() == value
            }
            Valid::Pat => value.to_le_bytes().iter().all(|kind| is_type(*kind) || *kind == 7),
            Valid::Types => value.to_le_bytes().iter().all(|kind| is_type(*kind)),
            Valid::MtrrBase => value & !(address() | 0xff) == 0 && is_type(value as u8),
            Valid::MtrrMask => value & !(address() | 1 << 11) == 0,
            Valid::MtrrDefType => value & !0xcff == 0 && is_type(value as u8),
            Valid::ApicBase => {
                let extended = if self.x2apic { 1 << 10 } else { 0 };
                let legal = value & !(address() | 1 << 11 | extended | 1 << 8) == 0;
                legal && (value & extended == 0 || value & 1 << 11 != 0)
            }
            Valid::Efer => value & !self.efer == 0,
            Valid::ReadOnly => false,
            Valid::SameBut(mask) => matches!(msr.read, MsrRead::Value(held) if (held ^ value) & !mask == 0),
        }
    }

    /// The MSRs that may be left to the hardware while this guest runs.
    pub fn passthrough(&self) -> impl Iterator<Item = u32> {
        let rules = RULES.iter().filter(|rule| rule.class == MsrClass::Passthrough);
        rules.filter(|rule| rule.offered(self.features)).map(|rule| rule.first)
    }

    /// The values of the constant MSRs.
    #[must_use]
    pub fn values(&self) -> &MsrValues {
        &self.values
    }
}

/// A memory type: UC, WC, WT, WP, WB.
const fn is_type(kind: u8) -> bool {
    matches!(kind, 0 | 1 | 4 | 5 | 6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    #[test]
    fn each_has_a_slot_of_its_own() {
        let mut taken = BTreeMap::new();
        for rule in RULES {
            for index in (rule.first..rule.first + rule.count).filter(|index| !is_busy(*index)) {
                let other = taken.insert(slot(index), index);
                assert!(other.is_none_or(|other| other == index), "{index:#x} has the slot of {other:#x?}");
            }
        }
        // Their numbers fit a byte, with one for none.
        assert!((50..256).contains(&taken.len()), "{}", taken.len());
    }
}
