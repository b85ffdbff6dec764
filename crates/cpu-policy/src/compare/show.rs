//! A subject as text and as JSON.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::Subject;
use super::verdict::fits;
use crate::feature::{FEATURES, Feature, FeatureSet, Polarity};
use crate::fits::Obstacle;
use crate::host::HostPolicy;
use crate::level::{LEVELS, Level};

/// Columns of a list of names.
const COLUMNS: usize = 79;
/// Names of what a level lacks that a line has at most.
const MOST_NAMES: usize = 8;

/// Facts, then the features by the register that enumerates them.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.name, self.kind)?;
        for fact in &self.facts {
            writeln!(f, "  {:<24} {}", fact.name, fact.value)?;
        }
        let mut last = None;
        for row in FEATURES {
            if last != Some(row.place) {
                last = Some(row.place);
                let names: Vec<&str> =
                    self.features.iter().filter(|x| x.info().place == row.place).map(Feature::name).collect();
                names_of(f, &format!("{}", row.place), &names)?;
            }
        }
        let losses: Vec<&str> =
            self.features.of_polarity(Polarity::Restriction).iter().map(Feature::name).collect();
        names_of(f, "of these are losses", &losses)?;
        let emulated: Vec<&str> = self.features.iter().filter(|x| x.emulated()).map(Feature::name).collect();
        names_of(f, "may exceed the hardware", &emulated)
    }
}

/// A heading and a list below it, broken into lines; nothing for an empty list.
fn names_of(f: &mut fmt::Formatter<'_>, heading: &str, names: &[&str]) -> fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    write!(f, "  {heading:<24}")?;
    let mut used = 26;
    for name in names {
        if used + name.len() + 1 > COLUMNS {
            write!(f, "\n  {:<24}", "")?;
            used = 26;
        }
        write!(f, " {name}")?;
        used += name.len() + 1;
    }
    writeln!(f)
}

impl Subject {
    /// The subject as members of a JSON object.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn json(&self, object: &mut json::Object<'_>) -> fmt::Result {
        object.field("name", self.name.as_str())?;
        object.field("kind", self.kind.as_str())?;
        object.object("values", |o| {
            self.facts.iter().try_for_each(|fact| o.field(fact.name, fact.value.as_str()))
        })?;
        object.array("features", |a| a.items(self.features.iter().map(Feature::name)))?;
        let losses = self.features.of_polarity(Polarity::Restriction);
        object.array("losses", |a| a.items(losses.iter().map(Feature::name)))?;
        object
            .array("emulated", |a| a.items(self.features.iter().filter(|x| x.emulated()).map(Feature::name)))
    }
}

/// The flags that Linux shows of a set in `/proc/cpuinfo`, in the order of the table.
pub fn shown_flags(set: FeatureSet) -> impl Iterator<Item = &'static str> {
    set.iter().map(|feature| feature.info().linux).filter(|name| !name.is_empty())
}

/// The levels there are, and which of them a host can give.
#[derive(Clone, Copy, Debug)]
pub struct LevelList<'a>(pub Option<&'a HostPolicy>);

impl LevelList<'_> {
    /// The list as elements of a JSON array.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn json(&self, array: &mut json::Array<'_>) -> fmt::Result {
        for level in LEVELS {
            array.object(|o| {
                o.field("name", level.name)?;
                o.field("version", u32::from(level.version))?;
                o.field("series", level.series)?;
                o.field("signature", format!("{:X}", level.signature).as_str())?;
                o.field("user_space", json::Shown(level.user_space()))?;
                o.field("provisional", level.provisional)?;
                o.field("here", self.0.and_then(|host| fits(&level.fits(host))))?;
                o.array("missing", |a| {
                    let missing = self.0.map(|host| level.lacks(host)).unwrap_or_default();
                    a.items(missing.iter().map(String::as_str))
                })
            })?;
        }
        Ok(())
    }

    /// What stands before a level that a host can give (`*`), or of which its dump does not tell (`?`).
    #[must_use]
    pub fn mark(level: &Level, host: &HostPolicy) -> char {
        match fits(&level.fits(host)) {
            Some(true) => '*',
            Some(false) => ' ',
            None => '?',
        }
    }

    /// The header of [`Self::row`].
    pub const HEADER: &'static str = "LEVEL                    SIGNATURE USER SPACE  STANDS FOR";

    /// Name, signature, user space, series.
    #[must_use]
    pub fn row(level: &Level) -> String {
        let (name, signature, user_space) = (level.name, level.signature, level.user_space());
        let mark = if level.provisional { " (provisional)" } else { "" };
        format!("{name:<24} {signature:>9X} {user_space:<11} {}{mark}", level.series)
    }
}

/// A header, then a line each: `*` where the host can give it, name, signature, user space, series.
impl fmt::Display for LevelList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}", Self::HEADER)?;
        for level in LEVELS {
            let mark = self.0.map_or(' ', |host| Self::mark(level, host));
            writeln!(f, "{mark} {}", Self::row(level))?;
        }
        let Some(host) = self.0 else { return Ok(()) };
        writeln!(f, "* this host can give it")?;
        let lacking = Lacking(host).to_string();
        if lacking.is_empty() { Ok(()) } else { write!(f, "what the others lack here:\n{lacking}") }
    }
}

impl Level {
    /// What `host` lacks for this level, each by a short name; empty where it can give the level.
    #[must_use]
    pub fn lacks(&self, host: &HostPolicy) -> Vec<String> {
        let Err(misfit) = self.fits(host) else { return Vec::new() };
        let features = misfit.obstacles.iter().any(|obstacle| matches!(obstacle, Obstacle::Missing(_)));
        let name = |obstacle: &Obstacle| match obstacle {
            Obstacle::Missing(feature) => Some(String::from(feature.name())),
            Obstacle::Unknown(feature) => Some(format!("{} (not known)", feature.name())),
            // The state of a feature that is missing says nothing new.
            Obstacle::Xsave(_) if features => None,
            other => Some(other.to_string()),
        };
        misfit.obstacles.iter().filter_map(name).collect()
    }
}

/// A line for each level that a host cannot give: its name, and what is missing, the first of it.
#[derive(Clone, Copy, Debug)]
pub struct Lacking<'a>(pub &'a HostPolicy);

impl fmt::Display for Lacking<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for level in LEVELS {
            let names = level.lacks(self.0);
            let Some((first, more)) = names.split_first() else { continue };
            write!(f, "  {:<24}  {first}", level.name)?;
            more.iter().take(MOST_NAMES - 1).try_for_each(|name| write!(f, ", {name}"))?;
            match names.len().saturating_sub(MOST_NAMES) {
                0 => writeln!(f)?,
                left => writeln!(f, " and {left} more")?,
            }
        }
        Ok(())
    }
}

impl Lacking<'_> {
    /// The same as elements of a JSON array, with all that is missing.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn json(&self, array: &mut json::Array<'_>) -> fmt::Result {
        for level in LEVELS {
            let names = level.lacks(self.0);
            if !names.is_empty() {
                array.object(|o| {
                    o.field("name", level.name)?;
                    o.array("missing", |a| a.items(names.iter().map(String::as_str)))
                })?;
            }
        }
        Ok(())
    }
}
