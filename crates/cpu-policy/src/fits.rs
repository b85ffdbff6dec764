//! The comparison of what a guest needs with what a host gives.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::baseline::Baseline;
use crate::feature::{Feature, FeatureSet, Polarity};
use crate::host::{HostPolicy, VENDOR};
use crate::level::{LEVELS, LINEAR_BITS, Level};
use crate::policy::GuestPolicy;
use crate::xsave::{component_name, xcr0_of};

/// One thing that stands between a guest and a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Obstacle {
    /// The host is another vendor's.
    Vendor([u8; 12]),
    /// VMX of the host has no extended page tables, without which no VM runs yet.
    NoEpt,
    /// The host cannot give this feature.
    Missing(Feature),
    /// What is known of the host does not tell whether it can give this feature.
    Unknown(Feature),
    /// The host has this loss and the guest was not told.
    Restriction(Feature),
    /// The guest was told a wider physical address than the host has.
    PhysBits {
        /// Bits that the guest was told.
        guest: u8,
        /// Bits that the host has.
        host: u8,
    },
    /// The same of linear addresses.
    LinearBits {
        /// Bits that the guest was told.
        guest: u8,
        /// Bits that the host has.
        host: u8,
    },
    /// The host lacks this bit of XCR0, or lays the component out in its own way.
    Xsave(u8),
}

/// Said of what neither is there nor is missing, as far as is known.
const UNKNOWN: &str = "not known from this dump";

impl Obstacle {
    /// What is said after a list of such obstacles, whose text is a bare name; None where the text says it all.
    fn predicate(&self) -> Option<&'static str> {
        match self {
            Self::Missing(_) | Self::Xsave(_) => Some("missing"),
            Self::Unknown(_) => Some(UNKNOWN),
            _ => None,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Vendor(vendor) => {
                f.write_str("CPU vendor ")?;
                vendor.iter().try_for_each(|byte| write!(f, "{}", byte.escape_ascii()))
            }
            Self::NoEpt => f.write_str("VMX without EPT, so that no VM runs there yet"),
            Self::Missing(feature) | Self::Unknown(feature) => write!(f, "{feature}"),
            Self::Restriction(feature) => write!(f, "{feature} set here and not announced to the guest"),
            Self::PhysBits { guest, host } => {
                write!(f, "CPUID.80000008:EAX[7:0] physical address width {guest}, host {host}")
            }
            Self::LinearBits { guest, host } => {
                write!(f, "CPUID.80000008:EAX[15:8] linear address width {guest}, host {host}")
            }
            Self::Xsave(bit) => write!(f, "CPUID.D.0:EAX[{bit}] {} state", component_name(bit)),
        }
    }
}

/// Why a guest cannot run on a host, or may not: everything that stands in the way, and the level that would do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misfit {
    /// What stands in the way, never empty.
    pub obstacles: Vec<Obstacle>,
    /// The highest level that the host can give and that a guest asks for no more with than it has.
    pub cure: Option<&'static Level>,
}

impl Misfit {
    /// The features that the host cannot give.
    pub fn missing(&self) -> impl Iterator<Item = Feature> {
        self.obstacles.iter().filter_map(|obstacle| match obstacle {
            Obstacle::Missing(feature) => Some(*feature),
            _ => None,
        })
    }

    /// True where nothing is known to stand in the way: the guest may fit, and what is known of the host does not tell.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.obstacles.iter().all(|obstacle| matches!(obstacle, Obstacle::Unknown(_)))
    }

    /// What to do: `start the VM at level haswell with phys-bits=39`.
    #[must_use]
    pub fn advice(&self) -> String {
        let Some(level) = self.cure else {
            return "this host can give no level that the VM could start at".into();
        };
        let width = self.obstacles.iter().find_map(|obstacle| match obstacle {
            Obstacle::PhysBits { host, .. } => Some(format!(" with phys-bits={host}")),
            _ => None,
        });
        format!("start the VM at level {}{}", level.name, width.unwrap_or_default())
    }
}

/// One line: what is missing, what is not known, the other obstacles, the advice. It stays below 1 KiB for any level on
/// any host from Nehalem on.
impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for predicate in ["missing", UNKNOWN] {
            let mut separator = "";
            for bare in self.obstacles.iter().filter(|o| o.predicate() == Some(predicate)) {
                write!(f, "{separator}{bare}")?;
                separator = ", ";
            }
            if !separator.is_empty() {
                write!(f, " {predicate}; ")?;
            }
        }
        for obstacle in self.obstacles.iter().filter(|obstacle| obstacle.predicate().is_none()) {
            write!(f, "{obstacle}; ")?;
        }
        f.write_str(&self.advice())
    }
}

impl core::error::Error for Misfit {}

/// What a guest needs of a host.
pub(crate) struct Needs {
    pub(crate) features: FeatureSet,
    /// 0 for a level: the width is the VM's.
    pub(crate) phys_bits: u8,
    pub(crate) linear_bits: u8,
    pub(crate) xcr0: u64,
}

impl Needs {
    pub(crate) fn of_level(level: &Level) -> Self {
        let features = level.features();
        Self { features, phys_bits: 0, linear_bits: LINEAR_BITS, xcr0: xcr0_of(features) }
    }

    pub(crate) fn of_baseline(baseline: &Baseline) -> Self {
        let features = baseline.guest_features();
        let phys_bits = baseline.phys_bits();
        Self { features, phys_bits, linear_bits: baseline.linear_bits(), xcr0: xcr0_of(features) }
    }

    fn of_guest(guest: &GuestPolicy) -> Self {
        Self {
            features: guest.features(),
            phys_bits: guest.phys_bits(),
            linear_bits: guest.linear_bits(),
            xcr0: guest.xcr0_allowed(),
        }
    }
}

/// All obstacles to a guest that asks for just this, in the order of the feature table.
fn obstacles(needs: &Needs, host: &HostPolicy) -> Vec<Obstacle> {
    obstacles_within(needs, host, host.max())
}

/// All obstacles on a host that serves the features `offered`.
fn obstacles_within(needs: &Needs, host: &HostPolicy, offered: FeatureSet) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if host.vendor != *VENDOR {
        found.push(Obstacle::Vendor(host.vendor));
    }
    let gains = needs.features.of_polarity(Polarity::Capability);
    let mut lacking = gains.difference(offered);
    if !lacking.is_empty() {
        lacking = lacking.difference(host.true_anyway(needs.features));
    }
    let lack = |feature| {
        if host.is_unknown(feature) { Obstacle::Unknown(feature) } else { Obstacle::Missing(feature) }
    };
    found.extend(lacking.iter().map(lack));
    let told = |loss: Feature| {
        needs.features.contains(loss) || loss.implied_by().is_some_and(|more| needs.features.contains(more))
    };
    found.extend(host.restrictions().iter().filter(|loss| !told(*loss)).map(Obstacle::Restriction));
    if needs.phys_bits > host.phys_bits {
        found.push(Obstacle::PhysBits { guest: needs.phys_bits, host: host.phys_bits });
    }
    if needs.linear_bits > host.linear_bits {
        found.push(Obstacle::LinearBits { guest: needs.linear_bits, host: host.linear_bits });
    }
    // A host without XSAVE lacks that feature, which says it all.
    let states = if host.xcr0 == 0 { 0 } else { needs.xcr0 & !host.xcr0 };
    found.extend((0..64).filter(|bit| states & 1 << bit != 0).map(Obstacle::Xsave));
    found
}

/// The verdict on `needs`.
pub(crate) fn verdict(needs: &Needs, host: &HostPolicy, offered: FeatureSet) -> Result<(), Misfit> {
    let obstacles = obstacles_within(needs, host, offered);
    if obstacles.is_empty() {
        return Ok(());
    }
    let given = |level| self::obstacles(&Needs::of_level(level), host).is_empty();
    Err(Misfit { obstacles, cure: Level::highest_within(needs.features, given) })
}

impl HostPolicy {
    /// The levels that this host can give, oldest first: those within its max set, as a level is asked for by name.
    pub fn levels(&self) -> impl Iterator<Item = &'static Level> {
        LEVELS.iter().copied().filter(|level| obstacles(&Needs::of_level(level), self).is_empty())
    }

    /// The highest level that this host can give; of levels with the same features the oldest.
    #[must_use]
    pub fn best_level(&self) -> Option<&'static Level> {
        Level::highest(|level| obstacles(&Needs::of_level(level), self).is_empty())
    }

    /// Names of the levels that this host can give, oldest first.
    #[must_use]
    pub fn level_names(&self) -> Vec<&'static str> {
        self.levels().map(|level| level.name).collect()
    }

    /// A verdict on a VM that is to run here, and not only to be told of this CPU: VMX must have what runs it.
    ///
    /// # Errors
    /// Those of `verdict`, after what VMX lacks.
    pub fn runs(&self, verdict: Result<(), Misfit>) -> Result<(), Misfit> {
        if self.has_ept() {
            return verdict;
        }
        let others = verdict.err().map_or_else(Vec::new, |misfit| misfit.obstacles);
        let obstacles = core::iter::once(Obstacle::NoEpt).chain(others).collect();
        Err(Misfit { obstacles, cure: None })
    }
}

impl GuestPolicy {
    /// Whether this guest, as it was rendered, can come to `host`, which takes more than it gives to a new guest:
    /// its max set.
    ///
    /// # Errors
    /// Everything that stands in the way.
    pub fn fits(&self, host: &HostPolicy) -> Result<(), Misfit> {
        verdict(&Needs::of_guest(self), host, host.max())
    }

    /// Whether `host` can give a new guest all this.
    ///
    /// # Errors
    /// Everything that stands in the way.
    pub fn starts_on(&self, host: &HostPolicy) -> Result<(), Misfit> {
        verdict(&Needs::of_guest(self), host, host.features)
    }
}
