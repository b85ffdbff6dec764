//! The instructions themselves.

use core::arch::asm;
use vmx_types::field::Writable;
use vmx_types::{Field, Width};

use super::{Scope, VmFail};
use crate::mm::Hpa;

macro_rules! checked {
    ($template:literal, $($operands:tt)*) => {{
        let (invalid, valid): (u8, u8);
        asm!($template, "setc {c}", "setz {z}", $($operands)*, c = out(reg_byte) invalid, z = out(reg_byte) valid);
        match (invalid, valid) {
            (0, 0) => Ok(()),
            (0, _) => Err(VmFail::Valid),
            _ => Err(VmFail::Invalid),
        }
    }};
}

/// Enters VMX operation.
///
/// # Errors
/// [`VmFail`] where the region's revision or the CPU's state does not fit.
///
/// # Safety
/// CR4.VMXE is set, IA32_FEATURE_CONTROL allows VMX, and `region` is a page that nothing else uses until VMXOFF.
pub(crate) unsafe fn vmxon(region: Hpa) -> Result<(), VmFail> {
    let operand = region.0;
    // SAFETY: the caller's promise.
    unsafe { checked!("vmxon [{r}]", r = in(reg) &raw const operand) }
}

/// Leaves VMX operation.
///
/// # Safety
/// This CPU is in VMX operation and no VMCS is active on it.
pub(crate) unsafe fn vmxoff() {
    // SAFETY: the caller's promise.
    unsafe { asm!("vmxoff", options(nostack)) }
}

/// Writes a VMCS back to its region and makes it inactive and clear.
///
/// # Errors
/// [`VmFail`] for an address that is not a VMCS region.
///
/// # Safety
/// `region` is a VMCS region, and it is active on no other CPU.
pub(crate) unsafe fn vmclear(region: Hpa) -> Result<(), VmFail> {
    let operand = region.0;
    // SAFETY: the caller's promise.
    unsafe { checked!("vmclear [{r}]", r = in(reg) &raw const operand) }
}

/// Makes a VMCS current on this CPU.
///
/// # Errors
/// [`VmFail`] for an address that is not a VMCS region of this CPU's revision.
///
/// # Safety
/// `region` is a VMCS region, and it is active on no other CPU.
pub(crate) unsafe fn vmptrld(region: Hpa) -> Result<(), VmFail> {
    let operand = region.0;
    // SAFETY: the caller's promise.
    unsafe { checked!("vmptrld [{r}]", r = in(reg) &raw const operand) }
}

/// Reads a field of the current VMCS. A field that this CPU lacks, or that no VMCS is current for, gives an arbitrary
/// value: the capabilities are asked first.
#[inline(always)]
#[must_use]
pub(crate) fn read<W: Width, A>(field: Field<W, A>) -> W::Value {
    let value: u64;
    // SAFETY: VMREAD writes a register only.
    unsafe {
        asm!("vmread {v}, {f}", v = out(reg) value, f = in(reg) u64::from(field.encoding()),
            options(nomem, nostack));
    }
    W::truncate(value)
}

/// Reads by raw encoding; `None` where this CPU lacks the field.
#[must_use]
pub(crate) fn try_read(encoding: u32) -> Option<u64> {
    let value: u64;
    let failed: u8;
    // SAFETY: VMREAD writes a register only.
    unsafe {
        asm!("vmread {v}, {f}", "setna {e}", v = out(reg) value, f = in(reg) u64::from(encoding),
            e = out(reg_byte) failed, options(nomem, nostack));
    }
    (failed == 0).then_some(value)
}

/// Writes a field of the current VMCS.
///
/// # Safety
/// What the field controls stays sound: controls and host state come from `vmx::vmcs` and `vmx::host` only.
///
/// # Panics
/// Where the CPU lacks the field: a bug of ours, the capabilities were not asked.
#[inline(always)]
pub(crate) unsafe fn write<W: Width, G: Writable>(field: Field<W, G>, value: W::Value) {
    let (value, encoding): (u64, u32) = (value.into(), field.encoding());
    // SAFETY: VMWRITE changes the current VMCS only; the caller answers for the meaning.
    unsafe {
        asm!("vmwrite {f}, {v}", "jna {failed}", v = in(reg) value, f = in(reg) u64::from(encoding),
            failed = label { write_failed(encoding, value) }, options(nostack));
    }
}

#[cold]
#[inline(never)]
fn write_failed(encoding: u32, value: u64) -> ! {
    let error = try_read(vmx_types::field::INSTRUCTION_ERROR.encoding());
    panic!("VMWRITE of field {encoding:#06x} with {value:#x} failed, VM-instruction error {error:?}");
}

/// Drops cached EPT translations of this CPU.
pub(crate) fn invept(scope: Scope, eptp: u64) {
    let descriptor = [eptp, 0];
    // SAFETY: flushing cached translations is always sound.
    let done =
        unsafe { checked!("invept {t}, [{d}]", t = in(reg) scope as u64, d = in(reg) &raw const descriptor) };
    assert_eq!(done, Ok(()), "INVEPT {scope:?} of {eptp:#x}");
}

/// Drops cached linear translations of a VPID on this CPU.
pub(crate) fn invvpid(scope: Scope, vpid: u16) {
    let descriptor = [u64::from(vpid), 0];
    // SAFETY: flushing cached translations is always sound.
    let done = unsafe {
        checked!("invvpid {t}, [{d}]", t = in(reg) scope as u64, d = in(reg) &raw const descriptor)
    };
    assert_eq!(done, Ok(()), "INVVPID {scope:?} of {vpid}");
}
