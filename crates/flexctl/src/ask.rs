//! `ask`: the other end of a hand-over that was lost, over the network.

use std::path::Path;

use anyhow::{Context, Result, bail};
use vm_file::{Image, State};

use crate::disk::{Disk, sync_folder};
use crate::peer::resolve;
use crate::settle::{Side, settle};
use crate::{Answer, Keys, object};

pub(crate) fn run(path: &Path, host: &str, wait: u64, keys: &Keys, json: bool) -> Result<Answer> {
    let security = keys.security()?;
    let file = path.display().to_string();
    let mut image = Image::open(Disk::open(path, true)?).with_context(|| file.clone())?;
    let state = image.state();
    let deal = image.deal().cloned();
    let Some((deal, side)) = deal.and_then(|deal| Side::of(state, deal.role).map(|side| (deal, side))) else {
        bail!(
            "{file}: the file is {state}, and no host has agreed to a hand-over with it: there is nobody to ask"
        );
    };
    if state == State::Held {
        // The source frees its copy once this one counts.
        image.verify().with_context(|| file.clone())?;
    }
    let to = resolve(host)?;
    let (name, mut fault, mut now) = (image.meta().name.clone(), None, state);
    let mut mark = |state: State| {
        let done = if state == State::Incomplete {
            std::fs::remove_file(path).map_err(|error| error.to_string()).and_then(|()| sync_folder(path))
        } else {
            image.set_state(state, Some(deal.clone())).map_err(|error| error.to_string())
        };
        if done.is_ok() {
            now = state;
        }
        fault = done.err();
        fault.is_none()
    };
    // Time in a file does not pass for the guest, that of the question neither.
    let (yes, text) = settle(side, &deal, (to, &security), wait, &|| 0, &mut mark);
    let text = fault.map_or(text.to_string(), |why| format!("{text} ({why})"));
    let rest =
        if now == State::Incomplete { "the file is removed".into() } else { format!("the file is {now}") };
    let text = if json {
        object(|o| {
            o.field("file", file.as_str())?;
            o.field("vm", name.as_str())?;
            o.field("state", (now != State::Incomplete).then(|| now.name()))?;
            o.field("outcome", text.as_str())
        })
    } else {
        format!("{file}: {name}: {text}; {rest}\n")
    };
    Ok(Answer { text, yes: Some(yes) })
}
