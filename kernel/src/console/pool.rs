//! `pool` and what it does.

use alloc::string::String;
use core::fmt::Write;
use shell::{Code, Failure, Output, PoolCommand};

use super::Out;
use super::commands::Done;
use crate::pool;

pub(super) fn execute(command: PoolCommand<'_>, output: Output) -> Result<Done, Failure> {
    let state = |why: String| Failure::new(Code::State, why);
    match command {
        PoolCommand::Show => {
            let shown = pool::with(|pool| match output {
                Output::Text => pool.write_text(&mut Out),
                Output::Json => pool.write_json(&mut Out).and_then(|()| Out.write_char('\n')),
            });
            // The console cannot fail.
            shown.map(|_| Done::Now).map_err(state)
        }
        PoolCommand::Join(host) => pool::ask(host, true, output).map(|()| Done::Later).map_err(state),
        PoolCommand::Preview(host) => pool::ask(host, false, output).map(|()| Done::Later).map_err(state),
        PoolCommand::Leave => pool::leave().map(|()| Done::Now).map_err(state),
        PoolCommand::ForgetMember(name) => pool::forget(name).map(|()| Done::Now).map_err(state),
        PoolCommand::Keys | PoolCommand::Forget(_) | PoolCommand::Key(_) => Err(super::not_yet("pool")),
    }
}
