//! `cpu flex`.

use shell::{Failure, Output};

use super::Out;
use crate::policy::flex;

pub(super) fn show(output: Output) -> Result<(), Failure> {
    let _ = flex::report(&mut Out, output == Output::Json);
    Ok(())
}
