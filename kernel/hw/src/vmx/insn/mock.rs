//! The VMX instructions, on a machine made up (`crate::mock`).
#![allow(clippy::unnecessary_wraps, reason = "the instructions can fail, these do not")]

use vmx_types::field::Writable;
use vmx_types::{Field, Width};

use super::{Scope, VmFail};
use crate::mm::Hpa;
use crate::mock::state::{self as mock, Flush, State};

pub(crate) unsafe fn vmxon(_region: Hpa) -> Result<(), VmFail> {
    Ok(())
}

pub(crate) unsafe fn vmxoff() {}

pub(crate) unsafe fn vmclear(region: Hpa) -> Result<(), VmFail> {
    mock::with(|state| {
        for cpu in state.cpus.iter_mut().filter(|cpu| cpu.vmcs == Some(region.0)) {
            cpu.vmcs = None;
        }
    });
    Ok(())
}

pub(crate) unsafe fn vmptrld(region: Hpa) -> Result<(), VmFail> {
    mock::with(|state| state.cpu().vmcs = Some(region.0));
    Ok(())
}

fn field(state: &mut State, encoding: u32) -> &mut u64 {
    let region = state.cpu().vmcs.expect("a VMCS is current");
    state.vmcss.entry(region).or_default().entry(encoding).or_default()
}

pub(crate) fn read<W: Width, G>(from: Field<W, G>) -> W::Value {
    W::truncate(mock::with(|state| *field(state, from.encoding())))
}

pub(crate) fn try_read(encoding: u32) -> Option<u64> {
    Some(mock::with(|state| *field(state, encoding)))
}

pub(crate) unsafe fn write<W: Width, G: Writable>(to: Field<W, G>, value: W::Value) {
    mock::with(|state| *field(state, to.encoding()) = value.into());
}

pub(crate) fn invept(scope: Scope, eptp: u64) {
    mock::with(|state| {
        let now = mock::now();
        state.flushes.push(if scope == Scope::All { Flush::AllEpt(now) } else { Flush::Ept(now, eptp) });
    });
}

pub(crate) fn invvpid(scope: Scope, vpid: u16) {
    mock::with(|state| {
        let now = mock::now();
        if scope == Scope::Single {
            state.flushes.push(Flush::Vpid(now, vpid));
        }
    });
}
