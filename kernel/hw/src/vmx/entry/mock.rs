//! A guest made up: what a test says that it does (`crate::mock`).

use mitigations::History;

use super::{Context, Slot};
use crate::mock::state as mock;

pub(crate) unsafe fn enter(context: *mut Context, _launched: u32, _host_rsp: *mut u64) -> u32 {
    // SAFETY: the caller's: a context that is its own.
    let context = unsafe { &mut *context };
    mock::enter(&mut context.gprs);
    0
}

pub(crate) fn exit_address() -> u64 {
    0
}

pub(crate) fn open(_slot: Slot) {}

pub(crate) fn set_history(_code: &[u8; History::CODE]) {}
