//! Whether a guest can go to a host and come back, and whether a level or a pool's level fits.

use alloc::vec::Vec;
use core::fmt;

use crate::baseline::Baseline;
use crate::fits::{Misfit, Needs, Obstacle, verdict};
use crate::host::HostPolicy;
use crate::level::{LEVELS, Level};
use crate::policy::GuestPolicy;

/// Whether a guest can go to a host, and from there to where it came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoundTrip {
    /// The way there.
    pub there: Result<(), Misfit>,
    /// The way back, to the host that the guest is on now.
    pub back: Result<(), Misfit>,
}

impl GuestPolicy {
    /// Whether this guest can go from `home` to `target`, and back again.
    #[must_use]
    pub fn round_trip(&self, home: &HostPolicy, target: &HostPolicy) -> RoundTrip {
        RoundTrip { there: self.fits(target), back: self.fits(home) }
    }
}

impl HostPolicy {
    /// Names of the levels of which what is known of this host does not tell, oldest first.
    #[must_use]
    pub fn unknown_levels(&self) -> Vec<&'static str> {
        let unknown = |level: &&&'static Level| level.fits(self).is_err_and(|misfit| misfit.is_unknown());
        LEVELS.iter().filter(unknown).map(|level| level.name).collect()
    }
}

impl Level {
    /// Whether `host` can give a guest this level, which was asked for by name: all of it is in the max set.
    ///
    /// # Errors
    /// Everything that stands in the way.
    pub fn fits(&self, host: &HostPolicy) -> Result<(), Misfit> {
        verdict(&Needs::of_level(self), host, host.max())
    }
}

impl Baseline {
    /// Whether `host` can give a new guest this level.
    ///
    /// # Errors
    /// Everything that stands in the way.
    pub fn starts_on(&self, host: &HostPolicy) -> Result<(), Misfit> {
        verdict(&Needs::of_baseline(self), host, host.features)
    }

    /// Whether a guest at this level can come to `host`.
    ///
    /// # Errors
    /// Everything that stands in the way.
    pub fn fits(&self, host: &HostPolicy) -> Result<(), Misfit> {
        verdict(&Needs::of_baseline(self), host, host.max())
    }
}

impl RoundTrip {
    /// True where neither way is barred.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.there.is_ok() && self.back.is_ok()
    }

    /// The verdict as members of a JSON object.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn json(&self, object: &mut json::Object<'_>) -> fmt::Result {
        object.field("fits", self.fits())?;
        for (name, way) in [("there", &self.there), ("back", &self.back)] {
            object.object(name, |o| json_verdict(way, o))?;
        }
        Ok(())
    }
}

/// Whether a guest fits; None where what is known of the host does not tell.
#[must_use]
pub fn fits(verdict: &Result<(), Misfit>) -> Option<bool> {
    match verdict {
        Ok(()) => Some(true),
        Err(misfit) if misfit.is_unknown() => None,
        Err(_) => Some(false),
    }
}

/// A verdict as members of a JSON object.
///
/// # Errors
/// Those of the writer.
pub fn json_verdict(verdict: &Result<(), Misfit>, object: &mut json::Object<'_>) -> fmt::Result {
    object.field("fits", fits(verdict))?;
    match verdict {
        Ok(()) => Ok(()),
        Err(misfit) => misfit.json(object),
    }
}

impl Misfit {
    /// What stands in the way and the cure, as members of a JSON object.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn json(&self, object: &mut json::Object<'_>) -> fmt::Result {
        let known = |unknown: bool| {
            let all = self.obstacles.iter();
            all.filter(move |o| matches!(o, Obstacle::Unknown(_)) == unknown).map(json::Shown)
        };
        object.array("obstacles", |a| a.items(known(false)))?;
        object.array("unknown", |a| a.items(known(true)))?;
        object.field("cure", self.cure.map(|level| level.name))
    }
}

/// Two lines: `there: fits` or what stands in the way; the same of `back`.
impl fmt::Display for RoundTrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, way) in [("there", &self.there), ("back", &self.back)] {
            match way {
                Ok(()) => writeln!(f, "{name:<6} fits")?,
                Err(misfit) if misfit.is_unknown() => writeln!(f, "{name:<6} may fit: {misfit}")?,
                Err(misfit) => writeln!(f, "{name:<6} does not fit: {misfit}")?,
            }
        }
        Ok(())
    }
}
