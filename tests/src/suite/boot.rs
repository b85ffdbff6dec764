//! From power-on to the ready line, or to a clear refusal.

use super::{Case, Context};
use crate::emu::bochs::MODELS_WITH_EPT;
use crate::host::HostSpec;
use anyhow::Result;
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for model in MODELS_WITH_EPT {
        cases.push(Case::new(&format!("boot/{model}"), 90, move |context| ready(context, model)));
    }
    cases
}

fn ready(context: &Context, model: &str) -> Result<()> {
    let mut host = HostSpec::new("host", model).start(&context.dir, None)?;
    host.set_deadline(context.deadline);
    host.console()?.expect("Flexvisor *via multiboot2", Duration::from_secs(60))?;
    host.wait_ready(Duration::from_secs(60))?;
    Ok(())
}
