//! A subject as text and as JSON.

use alloc::vec::Vec;
use core::fmt;

use super::Subject;
use crate::feature::{FEATURES, Feature, FeatureSet, Polarity};
use crate::host::HostPolicy;
use crate::level::LEVELS;

/// Columns of a list of names.
const COLUMNS: usize = 100;

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
                names_of(f, &alloc::format!("{}", row.place), &names)?;
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
    fn given(&self) -> Vec<&'static str> {
        self.0.map(HostPolicy::level_names).unwrap_or_default()
    }

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
                o.field("signature", alloc::format!("{:X}", level.signature).as_str())?;
                o.field("here", self.0.map(|host| level.fits(host).is_ok()))
            })?;
        }
        Ok(())
    }
}

/// A line each: `*` where the host can give it, name, signature, series.
impl fmt::Display for LevelList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.given();
        for level in LEVELS {
            let mark = if given.contains(&level.name) { '*' } else { ' ' };
            writeln!(f, "{mark} {:<24} {:>6X}  {}", level.name, level.signature, level.series)?;
        }
        Ok(())
    }
}
