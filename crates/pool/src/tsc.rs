//! How a host gives a guest the TSC that it was promised.

use core::fmt;

use vm_types::Megahertz;

/// A host whose own rate is this close to the guest's needs no scaling: what NTP corrects.
pub const TOLERANCE_PPM: u64 = 250;

/// A host's TSC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tsc {
    /// Ticks a second.
    pub hz: u64,
    /// It can show guests another rate (SDM 3C 26.6.5).
    pub scaling: bool,
}

/// The means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TscMeans {
    /// The host's own rate; only the value is moved.
    Offset,
    /// Another rate.
    Scaling,
    /// None: the rates differ and this host cannot scale.
    Refused,
}

impl Tsc {
    /// By which means it gives a guest a TSC of `hz`.
    #[must_use]
    pub const fn means(&self, hz: u64) -> TscMeans {
        if self.hz.abs_diff(hz) <= hz / 1_000_000 * TOLERANCE_PPM {
            TscMeans::Offset
        } else if self.scaling {
            TscMeans::Scaling
        } else {
            TscMeans::Refused
        }
    }
}

impl TscMeans {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offset => "offset",
            Self::Scaling => "scaling",
            Self::Refused => "refused",
        }
    }
}

/// `2600.000000 MHz` or `2600.000000 MHz, scaling`.
impl fmt::Display for Tsc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Megahertz(self.hz), if self.scaling { ", scaling" } else { "" })
    }
}
