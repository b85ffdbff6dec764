//! `cpu mitigations`.

use core::fmt::Write;

use mitigations::{claims, guest_json, guest_text, host_json, host_text};
use shell::{Failure, Output};

use super::out::Out;
use crate::policy::mitigations as policy;
use crate::vm::Vm;
use hw::vmx::slots;

pub(super) fn show(vm: Option<&Vm>, output: Output, out: &mut Out<'_>) -> Result<(), Failure> {
    let host = policy::host();
    let claims = vm.map(|vm| (vm, claims(&policy::told(&vm.policy()), host, slots::plan())));
    let _ = match (&claims, output) {
        (None, Output::Text) => host_text(out, host, slots::plan()),
        (None, Output::Json) => host_json(out, host, slots::plan()).and_then(|()| out.write_char('\n')),
        (Some((_, claims)), Output::Text) => guest_text(out, claims),
        (Some((vm, claims)), Output::Json) => {
            guest_json(out, &vm.name.get(), claims).and_then(|()| out.write_char('\n'))
        }
    };
    Ok(())
}
