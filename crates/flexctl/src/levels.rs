//! `levels`: the levels there are, and which of them hosts can give.

use std::fmt::Write as _;

use anyhow::Result;
use cpu_policy::{LEVELS, LevelList};

use crate::subject::{hosts, warn};
use crate::{Answer, array};

pub(crate) fn run(paths: &[String], json: bool) -> Result<Answer> {
    let hosts = hosts(paths)?;
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
    for level in LEVELS {
        for host in &hosts {
            text += if level.fits(&host.policy).is_ok() { "* " } else { "- " };
        }
        let _ = writeln!(text, "{:<24} {:>6X}  {}", level.name, level.signature, level.series);
    }
    Ok(Answer::yes(text))
}
