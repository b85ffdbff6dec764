//! `cpu flex`.

use shell::{Failure, Output};

use super::out::Out;
use crate::policy::flex;

pub(super) fn show(output: Output, out: &mut Out<'_>) -> Result<(), Failure> {
    let _ = flex::report(out, output == Output::Json);
    Ok(())
}
