//! `baseline`: the level of a pool.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use cpu_policy::{Baseline, Feature, HostPolicy, Polarity, Subject, UserSpace};

use crate::subject::{Host, hosts, warn};
use crate::supplied::Supplied;
use crate::{Answer, object};

pub(crate) fn run(paths: &[String], supplied: &Supplied, json: bool) -> Result<Answer> {
    let hosts = hosts(paths, supplied)?;
    let policies: Vec<&HostPolicy> = hosts.iter().map(|host| &host.policy).collect();
    let pool = Baseline::meet(policies.iter().copied()).context("a pool without hosts")?;
    let costs = Baseline::costs(&policies);
    let optional = pool.features().difference(pool.guest_features()).of_polarity(Polarity::Capability);
    if json {
        return Ok(Answer::yes(object(|o| {
            Subject::baseline(&pool).json(o)?;
            o.array("on_request", |a| a.items(optional.iter().map(Feature::name)))?;
            o.array("hosts", |a| {
                hosts.iter().zip(&costs).try_for_each(|(host, cost)| a.object(|o| host_json(o, host, cost)))
            })
        })));
    }
    warn(&hosts);
    let mut text = Subject::baseline(&pool).to_string();
    if !optional.is_empty() {
        let names: Vec<&str> = optional.iter().map(Feature::name).collect();
        let _ = writeln!(text, "  only at a level that names them: {}", names.join(" "));
    }
    let width = hosts.iter().map(|host| host.name.len()).max().unwrap_or(0);
    for (host, cost) in hosts.iter().zip(&costs) {
        let best = host.policy.best_level().map_or("none", |level| level.name);
        let carries = UserSpace::of(host.policy.default());
        let _ =
            writeln!(text, "{:<width$}  alone {best}, carries {carries}; costs the pool {cost}", host.name);
    }
    Ok(Answer::yes(text))
}

fn host_json(o: &mut json::Object<'_>, host: &Host, cost: &cpu_policy::Cost) -> std::fmt::Result {
    o.field("name", host.name.as_str())?;
    o.field("best_level", host.policy.best_level().map(|level| level.name))?;
    o.field("user_space", json::Shown(UserSpace::of(host.policy.default())))?;
    o.array("removes", |a| a.items(cost.removes.iter().map(Feature::name)))?;
    o.array("announces", |a| a.items(cost.announces.iter().map(Feature::name)))?;
    o.array("takes", |a| a.items(cost.takes.iter().map(|level| level.name)))?;
    o.field("free", cost.is_free())?;
    o.array("notes", |a| a.items(host.notes.iter().map(String::as_str)))
}
