//! `diff`: what differs between two policies.

use std::fmt::Write as _;

use anyhow::Result;
use cpu_policy::{Sense, Subject, diff};

use crate::subject::{Named, named};
use crate::supplied::Supplied;
use crate::{Answer, object};

pub(crate) fn run(left: &str, right: &str, supplied: &Supplied, json: bool) -> Result<Answer> {
    let [a, b] = [named(left, supplied)?, named(right, supplied)?];
    let [a, b] = match (&a, &b) {
        // Two machines are compared by all that they say.
        (Named::Host(x, None), Named::Host(y, None)) => {
            [Subject::host(&x.name, &x.policy, Sense::Raw), Subject::host(&y.name, &y.policy, Sense::Raw)]
        }
        _ => {
            [&a, &b].into_iter().for_each(Named::warn);
            [a.subject(), b.subject()]
        }
    };
    let differences = diff(&a, &b);
    let yes = differences.is_empty();
    if json {
        let text = object(|o| {
            o.field("left", a.name.as_str())?;
            o.field("right", b.name.as_str())?;
            o.field("same", yes)?;
            o.array("differences", |list| differences.iter().try_for_each(|d| list.object(|o| d.json(o))))
        });
        return Ok(Answer { text, yes: Some(yes) });
    }
    let mut text = String::new();
    if yes {
        let _ = writeln!(text, "{} ({}) and {} ({}) are the same", a.name, a.kind, b.name, b.kind);
    } else {
        let _ = writeln!(text, "{:<52} {} | {}", "", a.name, b.name);
    }
    for difference in &differences {
        let what = difference.what.to_string();
        let _ = writeln!(text, "{what:<52} {} | {}", difference.left, difference.right);
    }
    Ok(Answer { text, yes: Some(yes) })
}
