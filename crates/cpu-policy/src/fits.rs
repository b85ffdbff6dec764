//! The comparison of what a guest needs with what a host gives.

use alloc::vec::Vec;
use core::fmt;

use crate::baseline::Baseline;
use crate::feature::{Feature, FeatureSet, Polarity};
use crate::host::HostPolicy;
use crate::level::Level;
use crate::policy::GuestPolicy;
use crate::render::VENDOR;
use crate::xsave::{component_name, xcr0_of};

/// One thing that stands between a guest and a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Obstacle {
    /// The host is another vendor's.
    Vendor([u8; 12]),
    /// The host cannot give this feature.
    Missing(Feature),
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

impl Obstacle {
    /// True for something that the host does not have, whose text is its bare name.
    fn is_lack(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Xsave(_))
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Vendor(vendor) => {
                f.write_str("CPU vendor ")?;
                vendor.iter().try_for_each(|byte| write!(f, "{}", byte.escape_ascii()))
            }
            Self::Missing(feature) => write!(f, "{feature}"),
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

/// Why a guest cannot run on a host: everything that stands in the way, and the level that would do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misfit {
    /// What stands in the way, never empty.
    pub obstacles: Vec<Obstacle>,
    /// The highest level that the host can give and that asks for no more than the guest has.
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
}

/// One line: what is missing, the other obstacles, the cure. It stays below 1 KiB for any level on any host from
/// Nehalem on.
impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for lack in self.obstacles.iter().filter(|obstacle| obstacle.is_lack()) {
            write!(f, "{separator}{lack}")?;
            separator = ", ";
        }
        if !separator.is_empty() {
            f.write_str(" missing; ")?;
        }
        for obstacle in self.obstacles.iter().filter(|obstacle| !obstacle.is_lack()) {
            write!(f, "{obstacle}; ")?;
        }
        match self.cure {
            Some(level) => write!(f, "start the VM at level {}", level.name),
            None => f.write_str("this host can give no level that the VM could start at"),
        }
    }
}

impl core::error::Error for Misfit {}

/// What a guest needs of a host.
pub(crate) struct Needs {
    pub(crate) features: FeatureSet,
    pub(crate) phys_bits: u8,
    pub(crate) linear_bits: u8,
    pub(crate) xcr0: u64,
}

impl Needs {
    pub(crate) fn of_level(level: &Level) -> Self {
        let features = level.features();
        Self { features, phys_bits: level.phys_bits, linear_bits: 48, xcr0: xcr0_of(features) }
    }

    pub(crate) fn of_baseline(baseline: &Baseline) -> Self {
        let features = baseline.guest_features();
        Self { features, phys_bits: baseline.phys_bits(), linear_bits: 48, xcr0: xcr0_of(features) }
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
pub(crate) fn obstacles(needs: &Needs, host: &HostPolicy) -> Vec<Obstacle> {
    obstacles_within(needs, host, host.max())
}

/// All obstacles on a host that serves the features `offered`.
fn obstacles_within(needs: &Needs, host: &HostPolicy, offered: FeatureSet) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if host.vendor != *VENDOR {
        found.push(Obstacle::Vendor(host.vendor));
    }
    let gains = needs.features.of_polarity(Polarity::Capability);
    found.extend(gains.difference(offered).iter().map(Obstacle::Missing));
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
    let lacking = if host.xcr0 == 0 { 0 } else { needs.xcr0 & !host.xcr0 };
    found.extend((0..64).filter(|bit| lacking & 1 << bit != 0).map(Obstacle::Xsave));
    found
}

/// The verdict on `needs`.
pub(crate) fn verdict(needs: &Needs, host: &HostPolicy, offered: FeatureSet) -> Result<(), Misfit> {
    let obstacles = obstacles_within(needs, host, offered);
    if obstacles.is_empty() {
        return Ok(());
    }
    let within = |level: &Level| {
        let gains = level.features().of_polarity(Polarity::Capability);
        gains.is_subset(needs.features) && self::obstacles(&Needs::of_level(level), host).is_empty()
    };
    Err(Misfit { obstacles, cure: Level::highest(within) })
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
