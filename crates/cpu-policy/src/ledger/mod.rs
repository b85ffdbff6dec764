//! The ledger of one guest on one host: for everything that the guest was not told of, what keeps it from it, and
//! what does not. It is made of the same [`Enforcement`] that is written into the VMCS, and of the same limits of
//! CR4, XCR0, IA32_EFER and MSRs that the handlers of exits ask.

mod change;
mod control;
mod lever;
mod means;
mod show;
mod wire;

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::feature::{FEATURES, Feature, FeatureSet, Kind, Place};
use crate::host::HostPolicy;
use crate::policy::GuestPolicy;
use lever::levers;

pub use change::Change;
pub use control::{Control, Enforcement, Word};
pub use means::Means;
pub use wire::{Companion, LedgerError, MAX_COMPANION, MAX_LEDGER_ENCODED, MAX_LEDGER_ROWS, MAX_SEEN};

/// One thing that a guest was not told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LedgerRow {
    /// The feature by its SDM name, or the value.
    pub name: Cow<'static, str>,
    /// A value: what the guest was told, and what the host has.
    pub values: Option<(u64, u64)>,
    /// What keeps it from the guest.
    pub means: Means,
    /// What of it works all the same; mostly nothing.
    pub remains: Cow<'static, str>,
}

impl LedgerRow {
    /// True where the guest can use it, or a part of it.
    #[must_use]
    pub fn is_hole(&self) -> bool {
        !self.means.holds() || !self.remains.is_empty()
    }

    /// The means in words; a value that is not hidden does not work, it shows.
    #[must_use]
    pub fn says(&self) -> String {
        match self.means {
            Means::AdvertisedOnly if self.values.is_some() => "the host's SHOWS".into(),
            means => means.to_string(),
        }
    }

    /// Where the feature is enumerated; None for a value, and for a feature that this version does not know.
    #[must_use]
    pub fn feature(&self) -> Option<Feature> {
        let row = FEATURES.iter().find(|row| row.name == self.name)?;
        Some(row.feature).filter(|_| self.values.is_none())
    }
}

/// Everything that a guest was not told of, with what keeps it from it on a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ledger {
    /// The guest's level.
    pub level: String,
    /// Version of the level.
    pub level_version: u16,
    /// The host's CPU: its brand string.
    pub cpu: String,
    /// CPUID.1:EAX of the host.
    pub signature: u32,
    /// The rows, features in the order of their table, then values.
    pub rows: Vec<LedgerRow>,
}

impl Ledger {
    /// The ledger of a guest on a host.
    #[must_use]
    pub fn new(guest: &GuestPolicy, host: &HostPolicy) -> Self {
        let choice = Enforcement::on(guest.features(), host);
        let mut rows: Vec<LedgerRow> = hidden(guest.features())
            .iter()
            .map(|feature| {
                let (means, remains) = means(feature, guest, host, &choice);
                LedgerRow { name: feature.name().into(), values: None, means, remains: remains.into() }
            })
            .collect();
        rows.extend(values(guest, host));
        Self {
            level: guest.level_name().into(),
            level_version: guest.level_version(),
            cpu: host.cpu().brand(),
            signature: host.signature,
            rows,
        }
    }

    /// What the guest can use though it was not told of it: never silent.
    pub fn holes(&self) -> impl Iterator<Item = &LedgerRow> {
        self.rows.iter().filter(|row| row.is_hole())
    }
}

/// Leaves that only a feature of leaf 1 or 7 opens: MONITOR, PERFMON, RDT-M, RDT-A, SGX, PT, KL, ARCH_LBR, AMX-TILE,
/// HRESET, ARCHPERFMONEXT, AVX10, the asymmetric RDT-M and RDT-A, APX_F.
const PARTS: [u32; 15] =
    [5, 0xa, 0xf, 0x10, 0x12, 0x14, 0x19, 0x1c, 0x1e, 0x20, 0x23, 0x24, 0x27, 0x28, 0x29];
/// The VMX capability MSRs.
const VMX_PARTS: core::ops::RangeInclusive<u32> = 0x480..=0x493;

/// The gains that a guest with these features was not told of. What follows from its own registers is none; and a
/// part of a feature that has a row goes with that.
fn hidden(told: FeatureSet) -> FeatureSet {
    FeatureSet::matching(|feature| {
        let info = feature.info();
        let of_another = match info.place {
            Place::Cpuid { leaf, .. } => PARTS.contains(&leaf),
            Place::Msr(index) => VMX_PARTS.contains(&index),
        };
        let part = of_another && info.needs.iter().any(|whole| !told.contains(*whole));
        !matches!(info.kind, Kind::Derived | Kind::Restriction) && !told.contains(feature) && !part
    })
}

fn means(
    feature: Feature,
    guest: &GuestPolicy,
    host: &HostPolicy,
    choice: &Enforcement,
) -> (Means, &'static str) {
    if !feature.emulated() && !host.raw.contains(feature) {
        return (Means::Absent, "");
    }
    let (levers, remains) = levers(feature);
    match levers.iter().find_map(|lever| lever.pull(guest, choice)) {
        Some(means) => (means, remains),
        None if feature.emulated() => (Means::NotProvided, ""),
        None => (Means::AdvertisedOnly, ""),
    }
}

/// What is no feature bit and shows through.
fn values(guest: &GuestPolicy, host: &HostPolicy) -> [LedgerRow; 5] {
    let row = |name: &'static str, told: u64, has: u64, otherwise| LedgerRow {
        name: name.into(),
        values: Some((told, has)),
        means: if told == has { Means::Same } else { otherwise },
        remains: "".into(),
    };
    let saves = |loss: Feature| [guest.has(loss), host.raw.contains(loss)].map(|lost| u64::from(!lost));
    let [told_selectors, has_selectors] = saves(Feature::ZeroFcsFds);
    let [told_pointer, has_pointer] = saves(Feature::FdpExcptnOnly);
    // The reserved bits of guest page tables are checked against the CPU's own width; DAZ came before 64-bit mode.
    [
        row("MAXPHYADDR", guest.phys_bits().into(), host.phys_bits.into(), Means::AdvertisedOnly),
        row("linear address width", guest.linear_bits().into(), host.linear_bits.into(), Means::Cr4(12)),
        row("MXCSR_MASK", MXCSR_MASK, MXCSR_MASK, Means::AdvertisedOnly),
        row("x87 FCS and FDS saved", told_selectors, has_selectors, Means::AdvertisedOnly),
        row("x87 FDP of every instruction", told_pointer, has_pointer, Means::AdvertisedOnly),
    ]
}

/// MXCSR_MASK of every Intel CPU with 64-bit mode (SDM 1 11.6.6); no lever would hide another one.
const MXCSR_MASK: u64 = 0xffff;
