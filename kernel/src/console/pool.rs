//! `pool` and what it does.

use shell::{Failure, Output, PoolCommand};

use super::commands::Done;

pub(super) fn execute(_command: PoolCommand<'_>, _output: Output) -> Result<Done, Failure> {
    Err(super::not_yet("pool"))
}
