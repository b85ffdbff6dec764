//! `check`: whether a guest can start on hosts, go to them, and come back.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use cpu_policy::{Baseline, HostPolicy, Misfit, fits, json_verdict};

use crate::subject::{Host, Named, hosts, named, warn};
use crate::supplied::Supplied;
use crate::{Answer, object};

type Verdict = Result<(), Misfit>;

/// The guest in question.
enum Guest<'a> {
    Level(&'static cpu_policy::Level),
    Pool(Box<Baseline>),
    Vm(&'a cpu_policy::GuestPolicy),
}

impl Guest<'_> {
    /// Whether a new guest gets all this there.
    fn starts(&self, host: &HostPolicy) -> Verdict {
        host.runs(match self {
            Self::Level(level) => level.fits(host),
            Self::Pool(pool) => pool.starts_on(host),
            Self::Vm(guest) => guest.starts_on(host),
        })
    }

    /// Whether it can arrive there.
    fn arrives(&self, host: &HostPolicy) -> Verdict {
        host.runs(match self {
            Self::Level(level) => level.fits(host),
            Self::Pool(pool) => pool.fits(host),
            Self::Vm(guest) => guest.fits(host),
        })
    }
}

pub(crate) fn run(text: &str, paths: &[String], supplied: &Supplied, json: bool) -> Result<Answer> {
    let named = named(text, supplied)?;
    let hosts = hosts(paths, supplied)?;
    let guest = match &named {
        Named::Level(level) => Guest::Level(level),
        Named::Host(_, Some(_)) => bail!("{text}: a guest has a level, not one of a host's four policies"),
        Named::Host(host, None) => Guest::Pool(Box::new(Baseline::of(&host.policy))),
        Named::Pool(_, pool) => Guest::Pool(pool.clone()),
        Named::Guest(_, guest) => Guest::Vm(guest),
    };
    // Where the guest is now, and must be able to come back to.
    let home = match &named {
        Named::Host(host, None) => std::slice::from_ref(&**host),
        Named::Pool(members, _) => members.as_slice(),
        _ => &[],
    };
    let name = match (&named, &guest) {
        (Named::Host(host, _), Guest::Pool(pool)) => format!("a guest at {} of {}", pool.name(), host.name),
        (_, Guest::Pool(pool)) => format!("a guest at {}", pool.name()),
        (_, Guest::Level(level)) => format!("a guest at {}-v{}", level.name, level.version),
        (_, Guest::Vm(vm)) => format!("{text} at {}-v{}", vm.level_name(), vm.level_version()),
    };
    let verdicts: Vec<(&Host, Verdict, Verdict)> =
        hosts.iter().map(|host| (host, guest.starts(&host.policy), guest.arrives(&host.policy))).collect();
    let back: Vec<(&Host, Verdict)> = home.iter().map(|host| (host, guest.arrives(&host.policy))).collect();
    let ways = verdicts.iter().map(|(_, _, there)| there).chain(back.iter().map(|(_, back)| back));
    let all: Vec<Option<bool>> = ways.map(fits).collect();
    let yes = match () {
        () if all.contains(&Some(false)) => Some(false),
        () if all.contains(&None) => None,
        () => Some(true),
    };
    // What would do: the level of all hosts in question.
    let all = home.iter().chain(&hosts).map(|host| &host.policy);
    let cure = if yes == Some(true) { None } else { Baseline::meet(all) };
    if json {
        let text = object(|o| {
            o.field("guest", name.as_str())?;
            o.field("fits", yes)?;
            o.field("common_level", cure.as_ref().map(Baseline::name).as_deref())?;
            o.array("hosts", |a| {
                verdicts.iter().try_for_each(|(host, starts, there)| {
                    a.object(|o| {
                        o.field("name", host.name.as_str())?;
                        o.object("starts", |o| json_verdict(starts, o))?;
                        o.object("there", |o| json_verdict(there, o))
                    })
                })
            })?;
            o.array("back", |a| {
                back.iter().try_for_each(|(host, back)| {
                    a.object(|o| {
                        o.field("name", host.name.as_str())?;
                        json_verdict(back, o)
                    })
                })
            })
        });
        return Ok(Answer { text, yes });
    }
    named.warn();
    warn(&hosts);
    let mut text = format!("{name}\n");
    for (host, starts, there) in &verdicts {
        if starts == there {
            line(&mut text, "runs on", host, there);
        } else {
            line(&mut text, "starts on", host, starts);
            line(&mut text, "goes to", host, there);
        }
    }
    for (host, back) in &back {
        line(&mut text, "comes back to", host, back);
    }
    let fitting: Vec<&str> = verdicts.iter().filter(|v| v.2.is_ok()).map(|v| v.0.name.as_str()).collect();
    if back.is_empty() && fitting.len() > 1 {
        let _ = writeln!(text, "moves both ways among {}", fitting.join(", "));
    }
    if let Some(cure) = cure {
        let _ =
            writeln!(text, "started at {}, the level of all these hosts, it moves among them", cure.name());
    }
    Ok(Answer { text, yes })
}

fn line(text: &mut String, what: &str, host: &Host, verdict: &Verdict) {
    let _ = match verdict {
        Ok(()) => writeln!(text, "  {what:<14} {}: yes", host.name),
        Err(misfit) if misfit.is_unknown() => {
            writeln!(text, "  {what:<14} {}: not known: {misfit}", host.name)
        }
        Err(misfit) => writeln!(text, "  {what:<14} {}: no: {misfit}", host.name),
    };
}
