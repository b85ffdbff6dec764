//! `cpu flex`.

use shell::{Failure, Output};

pub(super) fn show(_output: Output) -> Result<(), Failure> {
    Err(super::not_yet("cpu flex"))
}
