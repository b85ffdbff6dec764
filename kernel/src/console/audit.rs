//! `cpu audit`.

use alloc::format;
use alloc::sync::Arc;
use core::fmt::Write;
use shell::{AuditAction, Code, Failure, Output};

use super::answer::Done;
use super::out::Out;
use super::waits;
use crate::vm::Vm;

pub(super) fn execute(
    vm: &Arc<Vm>,
    action: AuditAction,
    output: Output,
    out: &mut Out<'_>,
) -> Result<Done, Failure> {
    match action {
        AuditAction::Start => {
            vm.start_audit().map_err(|why| Failure::new(Code::State, why))?;
            Ok(waits::change(Arc::clone(vm), format!("the audit of vm {} begins by itself", vm.name)))
        }
        AuditAction::Stop if vm.stop_audit() => {
            Ok(waits::change(Arc::clone(vm), format!("the audit of vm {} ends by itself", vm.name)))
        }
        AuditAction::Stop => Err(Failure::new(Code::State, format!("no audit of vm {} is running", vm.name))),
        AuditAction::Report => {
            // Printed from a copy: a slow serial port must not keep the vCPU waiting.
            let (findings, running) = vm.audited(|findings, heading| (findings.clone(), heading.running));
            let (name, policy) = (vm.name.get(), vm.policy());
            let heading = isa_audit::Heading { vm: &name, level: policy.level_name(), running };
            let _ = match output {
                Output::Text => findings.text(&heading, out),
                Output::Json => findings.json(&heading, out).and_then(|()| out.write_char('\n')),
            };
            Ok(Done::Now)
        }
    }
}
