//! `cpu audit`.

use alloc::sync::Arc;
use shell::{AuditAction, Failure, Output};

use crate::vm::Vm;

pub(super) fn execute(_vm: &Arc<Vm>, _action: AuditAction, _output: Output) -> Result<(), Failure> {
    Err(super::not_yet("cpu audit"))
}
