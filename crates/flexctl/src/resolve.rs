//! `resolve`: the operator decides who owns a VM whose hand-over was lost.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use vm_file::{Image, State};

use crate::disk::Disk;
use crate::{Answer, object};

/// As in `migrate resolve` on the console.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verdict {
    /// The VM is the file's.
    RunHere,
    /// The VM is the other end's; prints a receipt.
    Discard,
}

pub(crate) fn run(
    path: &Path,
    verdict: Verdict,
    receipt: Option<&str>,
    force: bool,
    json: bool,
) -> Result<Answer> {
    let file = path.display().to_string();
    let mut image = Image::open(Disk::open(path, true)?).with_context(|| file.clone())?;
    let other = match image.state() {
        State::Held => "source",
        State::Given => "host that it was sent to",
        state => bail!("{file}: the file is {state}: there is nothing to resolve"),
    };
    let deal = image.deal().cloned();
    if verdict == Verdict::RunHere {
        match receipt {
            Some(text) if deal.as_ref().is_some_and(|deal| deal.takes(text)) => {}
            Some(_) => bail!("{file}: that is no receipt of the {other} for this migration"),
            None if force => {}
            None => bail!(
                "{file}: the VM may run on the {other}: give the receipt of `migrate resolve {} discard` there, or make \
                 sure that it does not run there and never will, and say --force",
                image.meta().name
            ),
        }
        image.verify().with_context(|| file.clone())?;
    }
    let state = if verdict == Verdict::RunHere { State::Owner } else { State::Used };
    image.set_state(state, deal.clone()).with_context(|| file.clone())?;
    let receipt = deal.filter(|_| verdict == Verdict::Discard).map(|deal| deal.receipt().to_string());
    Ok(Answer::yes(if json {
        object(|o| {
            o.field("file", file.as_str())?;
            o.field("state", state.name())?;
            o.field("receipt", receipt.as_deref())
        })
    } else {
        let receipt = receipt.map(|text| format!("receipt={text}\n")).unwrap_or_default();
        format!("{file}: the file is {state}\n{receipt}")
    }))
}
