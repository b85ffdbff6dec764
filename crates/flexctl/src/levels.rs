//! `levels`: the levels there are, and which of them hosts can give.

use std::fmt::Write as _;

use anyhow::Result;
use cpu_policy::{LEVELS, LevelList};

use crate::subject::{hosts, warn};
use crate::supplied::Supplied;
use crate::{Answer, array};

pub(crate) fn run(paths: &[String], supplied: &Supplied, json: bool) -> Result<Answer> {
    let hosts = hosts(paths, supplied)?;
    if json {
        return Ok(Answer::yes(array(|a| match hosts.as_slice() {
            [] => LevelList(None).json(a),
            hosts => hosts.iter().try_for_each(|host| {
                a.object(|o| {
                    o.field("name", host.name.as_str())?;
                    o.array("levels", |a| LevelList(Some(&host.policy)).json(a))
                })
            }),
        })));
    }
    warn(&hosts);
    let mut text = String::new();
    for (column, host) in hosts.iter().enumerate() {
        let _ = writeln!(text, "{}+ {}", "| ".repeat(column), host.name);
    }
    let _ = writeln!(text, "{}{}", "| ".repeat(hosts.len()), LevelList::HEADER);
    for level in LEVELS {
        for host in &hosts {
            text.push(LevelList::mark(level, &host.policy));
            text.push(' ');
        }
        let _ = writeln!(text, "{}", LevelList::row(level));
    }
    if !hosts.is_empty() {
        text += "* the host can give it, ? its dump does not tell\n";
    }
    Ok(Answer::yes(text))
}
