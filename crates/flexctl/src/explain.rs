//! `explain`: what a feature, a register, a level, a host or a pool is.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use cpu_policy::{FEATURES, Feature, FeatureInfo, FeatureSet, HostPolicy, Kind, LEVELS, Level, Polarity};

use crate::subject::{Named, named};
use crate::supplied::Supplied;
use crate::{Answer, array, object};

pub(crate) fn run(what: &str, supplied: &Supplied, json: bool) -> Result<Answer> {
    let rows = features(what);
    if !rows.is_empty() {
        return Ok(Answer::yes(if json { features_json(&rows) } else { features_text(&rows) }));
    }
    let named = match named(what, supplied) {
        Ok(named) => named,
        Err(error) if std::path::Path::new(what).exists() || what.contains(',') => return Err(error),
        Err(_) => bail!("{what} is no feature, no place of features, no level and no file{}", nearest(what)),
    };
    let subject = named.subject();
    if json {
        return Ok(Answer::yes(object(|o| subject.json(o))));
    }
    named.warn();
    let mut text = subject.to_string();
    if let Named::Level(level) = named {
        level_text(&mut text, level);
    }
    if let Named::Host(host, _) = &named {
        let best = host.policy.best_level();
        let names = host.policy.level_names().join(" ");
        let _ = writeln!(
            text,
            "levels it can give: {names} (highest: {})",
            best.map_or("none", |level| level.name)
        );
        if let Some(best) = best {
            nearest_text(&mut text, &host.policy, best);
        }
        let unknown = host.policy.unknown_levels();
        if !unknown.is_empty() {
            let _ = writeln!(text, "not known from this dump: {}", unknown.join(" "));
        }
    }
    Ok(Answer::yes(text))
}

/// The features of a name, `CPUID.7.0:EBX[5]`, or a whole register or MSR.
fn features(what: &str) -> Vec<&'static FeatureInfo> {
    let same = |text: &str| text.eq_ignore_ascii_case(what);
    let named: Vec<_> = FEATURES.iter().filter(|row| row.is_called(what)).collect();
    if !named.is_empty() {
        return named;
    }
    let place = |row: &&FeatureInfo| {
        let place = row.place.to_string();
        same(&place) || same(&format!("{place}[{}]", row.bit)) || same(&row.feature.to_string())
    };
    FEATURES.iter().filter(place).collect()
}

fn kind(row: &FeatureInfo) -> &'static str {
    match row.kind {
        Kind::Native => "given to a guest where the CPU has it",
        Kind::Emulated => "emulated: given whatever the CPU has",
        Kind::Hidden => "not virtualised: no guest has it",
        Kind::Restriction => "a loss: a guest must be told before it runs on a host that has it",
        Kind::Derived => "follows from a guest's registers or topology",
    }
}

fn polarity(row: &FeatureInfo) -> &'static str {
    match row.feature.polarity() {
        Polarity::Capability => "capability",
        Polarity::Restriction => "restriction",
    }
}

/// The generation that first has it.
fn first_level(feature: Feature) -> Option<&'static Level> {
    // Of one generation, the variant with TSX comes first.
    let has = |level: &&&Level| level.features().contains(feature);
    let plain = LEVELS.iter().filter(|level| !level.is_user_space() && !level.has_tsx()).find(has);
    plain.or_else(|| LEVELS.iter().find(has)).copied()
}

fn needed_by(feature: Feature) -> Vec<&'static str> {
    FEATURES.iter().filter(|row| row.needs.contains(&feature)).map(|row| row.name).collect()
}

fn features_text(rows: &[&FeatureInfo]) -> String {
    let mut text = String::new();
    for row in rows {
        let needs: Vec<&str> = row.needs.iter().map(|need| need.name()).collect();
        let pool = match row.feature.polarity() {
            Polarity::Capability => "a capability: a pool has it where every host has",
            Polarity::Restriction => "a restriction: a pool announces it where any host has it",
        };
        let _ = writeln!(text, "{}", row.feature);
        let mut line = |name: &str, value: &str| {
            let _ = if value.is_empty() { Ok(()) } else { writeln!(text, "  {name:<14} {value}") };
        };
        line("Linux name", row.linux);
        line("in a pool", pool);
        line("guests", kind(row));
        line("needs", &needs.join(" "));
        line("needed by", &needed_by(row.feature).join(" "));
        line("first level", first_level(row.feature).map_or("none", |level| level.name));
    }
    text
}

fn features_json(rows: &[&FeatureInfo]) -> String {
    array(|a| {
        rows.iter().try_for_each(|row| {
            a.object(|o| {
                o.field("name", row.name)?;
                o.field("place", json::Shown(row.place))?;
                o.field("bit", u32::from(row.bit))?;
                o.field("linux", Some(row.linux).filter(|name| !name.is_empty()))?;
                o.field("polarity", polarity(row))?;
                o.field("guests", kind(row))?;
                o.array("needs", |a| a.items(row.needs.iter().map(|need| need.name())))?;
                o.array("needed_by", |a| a.items(needed_by(row.feature)))?;
                o.field("first_level", first_level(row.feature).map(|level| level.name))
            })
        })
    })
}

/// What a guest at the highest level lacks of the host; and, where no level is made for CPUs of this model, which one that is.
fn nearest_text(text: &mut String, host: &HostPolicy, best: &Level) {
    let lost = host.default().difference(best.features()).of_polarity(Polarity::Capability);
    if !lost.is_empty() {
        let names: Vec<&str> = lost.iter().map(Feature::name).collect();
        let _ = writeln!(text, "at {} its guests lose: {}", best.name, names.join(" "));
    }
    let (family, model) = family_and_model(host.signature);
    let made_for = |level: &&Level| family_and_model(level.signature) == (family, model);
    if !LEVELS.iter().copied().any(|level| made_for(&level)) {
        let _ = writeln!(
            text,
            "no level is made for family {family}, model {model:#x}: {} is the nearest below",
            best.name
        );
    }
}

/// As CPUID.1:EAX spells them (SDM 2A "CPUID").
const fn family_and_model(signature: u32) -> (u32, u32) {
    let (family, model) = (signature >> 8 & 0xf, signature >> 4 & 0xf);
    let extended = family == 6 || family == 15;
    let family = family + if family == 15 { signature >> 20 & 0xff } else { 0 };
    (family, model | if extended { signature >> 12 & 0xf0 } else { 0 })
}

/// What a level adds to the one that it builds on; for one of user space what it leaves out of its generation.
fn level_text(text: &mut String, level: &Level) {
    let below = level.base.map_or(FeatureSet::EMPTY, Level::features);
    let names: Vec<&str> = level.features().difference(below).iter().map(Feature::name).collect();
    let base = level.base.map_or("nothing", |base| base.name);
    let _ = writeln!(text, "adds to {base}: {}", names.join(" "));
    if let Some(source) = level.rests_on() {
        let mark = if level.provisional { "provisional: " } else { "" };
        let _ = writeln!(text, "{mark}rests on {source}");
    }
    if let Some(within) = level.within().filter(|_| level.is_user_space()) {
        let names: Vec<&str> =
            within.features().difference(level.features()).iter().map(Feature::name).collect();
        let _ = writeln!(text, "within {}, less {}", within.name, names.join(" "));
    }
}

/// Features and levels of a similar name: those that contain the word, or else those that it begins with.
fn nearest(what: &str) -> String {
    let what = what.to_ascii_lowercase();
    let names = || FEATURES.iter().map(|row| row.name).chain(LEVELS.iter().map(|level| level.name));
    let like = |test: &dyn Fn(&str) -> bool| -> Vec<&'static str> {
        names().filter(|name| test(&name.to_ascii_lowercase())).take(8).collect()
    };
    let mut near = like(&|name| what.len() > 1 && name.contains(&what));
    if near.is_empty() {
        near = like(&|name| name.len() > 2 && what.starts_with(name));
    }
    if near.is_empty() { String::new() } else { format!("; is it one of {}?", near.join(", ")) }
}
