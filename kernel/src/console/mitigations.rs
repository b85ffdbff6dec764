//! `cpu mitigations`.

use shell::{Failure, Output};

use crate::vm::Vm;

pub(super) fn show(_vm: Option<&Vm>, _output: Output) -> Result<(), Failure> {
    Err(super::not_yet("cpu mitigations"))
}
