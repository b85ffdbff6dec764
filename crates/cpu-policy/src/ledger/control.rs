//! The execution controls that decide over features (SDM 3C 24.6.2), and which of them a VM gets.

use core::fmt;

use crate::feature::{Feature, FeatureSet};
use crate::host::{Controls, HostPolicy};

/// A word of processor-based execution controls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// Primary.
    Primary = 1,
    /// Secondary.
    Secondary = 2,
    /// Tertiary.
    Tertiary = 3,
}

/// One execution control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// Its word.
    pub word: Word,
    /// Its bit there.
    pub bit: u8,
}

const fn primary(bit: u8) -> Control {
    Control { word: Word::Primary, bit }
}

const fn secondary(bit: u8) -> Control {
    Control { word: Word::Secondary, bit }
}

const fn tertiary(bit: u8) -> Control {
    Control { word: Word::Tertiary, bit }
}

#[allow(missing_docs, reason = "the SDM names them, and so does NAMES")]
impl Control {
    pub const MWAIT_EXITING: Self = primary(10);
    pub const MONITOR_EXITING: Self = primary(29);
    pub const ENABLE_RDTSCP: Self = secondary(3);
    pub const RDRAND_EXITING: Self = secondary(11);
    pub const ENABLE_INVPCID: Self = secondary(12);
    pub const ENCLS_EXITING: Self = secondary(15);
    pub const RDSEED_EXITING: Self = secondary(16);
    pub const ENABLE_XSAVES: Self = secondary(20);
    pub const ENABLE_USER_WAIT: Self = secondary(26);
    pub const ENABLE_PCONFIG: Self = secondary(27);
    pub const ENCLV_EXITING: Self = secondary(28);
    pub const LOADIWKEY_EXITING: Self = tertiary(0);
    pub const ENABLE_MSR_LIST: Self = tertiary(6);
}

/// The controls, by the names that the SDM gives them.
static NAMES: &[(Control, &str)] = &[
    (Control::MWAIT_EXITING, "MWAIT exiting"),
    (Control::MONITOR_EXITING, "MONITOR exiting"),
    (Control::ENABLE_RDTSCP, "enable RDTSCP"),
    (Control::RDRAND_EXITING, "RDRAND exiting"),
    (Control::ENABLE_INVPCID, "enable INVPCID"),
    (Control::ENCLS_EXITING, "ENCLS exiting"),
    (Control::RDSEED_EXITING, "RDSEED exiting"),
    (Control::ENABLE_XSAVES, "enable XSAVES/XRSTORS"),
    (Control::ENABLE_USER_WAIT, "enable user wait and pause"),
    (Control::ENABLE_PCONFIG, "enable PCONFIG"),
    (Control::ENCLV_EXITING, "ENCLV exiting"),
    (Control::LOADIWKEY_EXITING, "LOADIWKEY exiting"),
    (Control::ENABLE_MSR_LIST, "enable MSR-list instructions"),
];

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(control, _)| control == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "control {} of word {}", self.bit, self.word as u8),
        }
    }
}

/// Controls without which an instruction raises #UD: set where the guest has the feature.
static ENABLES: &[(Control, Feature)] = &[
    (Control::ENABLE_RDTSCP, Feature::Rdtscp),
    (Control::ENABLE_INVPCID, Feature::Invpcid),
    (Control::ENABLE_XSAVES, Feature::Xsaves),
    (Control::ENABLE_USER_WAIT, Feature::Waitpkg),
    (Control::ENABLE_PCONFIG, Feature::Pconfig),
    (Control::ENABLE_MSR_LIST, Feature::Msrlist),
];

/// Controls that make an instruction exit, which is answered with #UD: set where the guest lacks the feature.
static EXITS: &[(Control, Feature)] = &[
    (Control::MWAIT_EXITING, Feature::Monitor),
    (Control::MONITOR_EXITING, Feature::Monitor),
    (Control::RDRAND_EXITING, Feature::Rdrand),
    (Control::RDSEED_EXITING, Feature::Rdseed),
    (Control::ENCLS_EXITING, Feature::Sgx),
    (Control::ENCLV_EXITING, Feature::Sgx),
    (Control::LOADIWKEY_EXITING, Feature::Kl),
];

/// IA32_TSX_CTRL: RTM_DISABLE and TSX_CPUID_CLEAR.
const TSX_OFF: u64 = 0b11;

/// What is written for a VM so that what its policy hides does not work. [`crate::Ledger`] reads the same value:
/// neither can say anything that the other does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Enforcement {
    /// Primary controls that are 1.
    pub primary: u32,
    /// Secondary controls that are 1.
    pub secondary: u32,
    /// Tertiary controls that are 1.
    pub tertiary: u64,
    /// IA32_TSX_CTRL while the VM runs; None on a CPU without it.
    pub tsx_ctrl: Option<u64>,
}

impl Enforcement {
    /// The choice for a guest with these features on a CPU that allows these controls to be 1. `tsx_ctrl`: whether
    /// it has IA32_TSX_CTRL.
    #[must_use]
    pub fn choose(guest: FeatureSet, may: &Controls, tsx_ctrl: bool) -> Self {
        let mut choice = Self::default();
        let enables = ENABLES.iter().filter(|(_, feature)| guest.contains(*feature));
        let exits = EXITS.iter().filter(|(_, feature)| !guest.contains(*feature));
        for (control, _) in enables.chain(exits) {
            match control.word {
                Word::Primary => choice.primary |= 1 << control.bit & may.primary,
                Word::Secondary => choice.secondary |= 1 << control.bit & may.secondary,
                Word::Tertiary => choice.tertiary |= 1 << control.bit & may.tertiary,
            }
        }
        choice.tsx_ctrl = tsx_ctrl.then(|| if guest.contains(Feature::Rtm) { 0 } else { TSX_OFF });
        choice
    }

    /// The choice for a guest with these features on this host. Where the host's VMX capabilities are not known (a
    /// dump of CPUID alone), none of the controls that cause exits is counted on.
    #[must_use]
    pub fn on(guest: FeatureSet, host: &HostPolicy) -> Self {
        Self::choose(guest, &host.controls().unwrap_or_default(), host.raw.contains(Feature::TsxCtrl))
    }

    /// True where this control is 1.
    #[must_use]
    pub const fn has(&self, control: Control) -> bool {
        let word = match control.word {
            Word::Primary => self.primary as u64,
            Word::Secondary => self.secondary as u64,
            Word::Tertiary => self.tertiary,
        };
        word >> control.bit & 1 != 0
    }

    /// True where RTM is off by IA32_TSX_CTRL.
    #[must_use]
    pub const fn tsx_off(&self) -> bool {
        matches!(self.tsx_ctrl, Some(value) if value & TSX_OFF == TSX_OFF)
    }
}
