//! The instructions, on a machine made up (`crate::mock`).
#![allow(unused_variables, reason = "what an instruction takes, and a machine made up has no use for")]

use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::gdt::GlobalDescriptorTable;

use super::Segments;
use crate::mock::state::{self as mock, Ipi};

/// The interrupt command register in x2APIC mode.
const ICR: u32 = 0x830;
const GS_BASE: u32 = x86::msr::GS_BASE;
/// Commands: they hold nothing that could be read.
const COMMANDS: [u32; 2] = [x86::msr::PRED_CMD, 0x10b];

pub(crate) fn rdmsr(msr: u32) -> u64 {
    rdmsr_safe(msr).unwrap_or_else(|| panic!("#GP: this CPU has no MSR {msr:#x}"))
}

pub(crate) fn wrmsr(msr: u32, value: u64) {
    assert!(wrmsr_safe(msr, value), "#GP: MSR {msr:#x} does not take {value:#x}");
}

pub(crate) fn rdmsr_safe(msr: u32) -> Option<u64> {
    mock::with(|state| state.cpu().msrs.get(&msr).copied())
}

pub(crate) fn wrmsr_safe(msr: u32, value: u64) -> bool {
    mock::with(|state| {
        if msr == ICR {
            let nmi = value >> 8 & 7 == 4;
            state.ipis.push(Ipi { to: (value >> 32) as u32, vector: (!nmi).then_some(value as u8) });
            return true;
        }
        if COMMANDS.contains(&msr) {
            state.cpu().msrs.insert(msr, value);
            return true;
        }
        match state.cpu().msrs.get_mut(&msr) {
            Some(register) => {
                *register = value;
                true
            }
            None => false,
        }
    })
}

pub(crate) fn probe(address: u64) -> Option<u64> {
    None
}

pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    mock::with(|state| {
        let whole = state.cpuid.get(&(leaf, 0)).copied();
        state.cpuid.get(&(leaf, subleaf)).copied().or(whole.filter(|_| subleaf == 0)).unwrap_or([0; 4])
    })
}

pub(crate) fn rdtsc() -> u64 {
    mock::with(mock::State::tick)
}

pub(crate) fn entry_tsc() -> u64 {
    0
}

pub(crate) fn inb(port: u16) -> u8 {
    inl(port) as u8
}

pub(crate) fn inw(port: u16) -> u16 {
    inl(port) as u16
}

pub(crate) fn inl(port: u16) -> u32 {
    mock::with(|state| state.ports.get(&port).copied().unwrap_or(u32::MAX))
}

pub(crate) fn outb(port: u16, value: u8) {
    outl(port, value.into());
}

pub(crate) fn outw(port: u16, value: u16) {
    outl(port, value.into());
}

pub(crate) fn outl(port: u16, value: u32) {
    mock::with(|state| state.written.push((port, value)));
}

macro_rules! register {
    ($($read:ident $write:ident;)*) => {$(
        pub(crate) fn $read() -> u64 {
            mock::with(|state| state.cpu().registers.get(stringify!($read)).copied().unwrap_or(0))
        }

        pub(crate) unsafe fn $write(value: u64) {
            mock::with(|state| state.cpu().registers.insert(stringify!($read), value));
        }
    )*};
}

register! {
    cr0 set_cr0;
    cr2 set_cr2;
    cr3 set_cr3;
    cr4 set_cr4;
    dr0 set_dr0;
    dr1 set_dr1;
    dr2 set_dr2;
    dr3 set_dr3;
    dr6 set_dr6;
}

pub(crate) fn gs_word() -> u64 {
    rdmsr(GS_BASE)
}

pub(crate) fn interrupt_window() {}

pub(crate) fn wait() {}

pub(crate) fn int_nmi() {}

pub(crate) fn halt() -> ! {
    panic!("this CPU halts for good")
}

pub(crate) fn invlpg(page: u64) {}

pub(crate) fn wbinvd() {}

pub(crate) fn verw() {}

pub(crate) unsafe fn load_gdt(
    gdt: &'static GlobalDescriptorTable,
    code: SegmentSelector,
    task: SegmentSelector,
) {
}

pub(crate) unsafe fn lidt(base: u64, bytes: usize) {}

pub(crate) fn ud2() -> ! {
    panic!("#UD")
}

pub(crate) fn set_xcr0(value: u64) {
    mock::with(|state| state.cpu().registers.insert("xcr0", value));
}

pub(crate) fn xcr0() -> u64 {
    mock::with(|state| state.cpu().registers.get("xcr0").copied().unwrap_or(1))
}

/// Bytes that are stored and loaded: legacy region and header.
const AREA: usize = 576;

pub(crate) unsafe fn xsave(area: *mut u8, components: u64) {
    // SAFETY: the caller's promise: as many bytes are there.
    let to = unsafe { core::slice::from_raw_parts_mut(area, AREA) };
    mock::with(|state| to.copy_from_slice(&state.cpu().xstate[..AREA]));
}

pub(crate) unsafe fn xsavec(area: *mut u8, components: u64) {}

pub(crate) unsafe fn xrstor(area: *const u8, components: u64) {
    // SAFETY: as for `xsave`.
    let from = unsafe { core::slice::from_raw_parts(area, AREA) };
    mock::with(|state| state.cpu().xstate[..AREA].copy_from_slice(from));
}

pub(crate) unsafe fn fxsave(area: *mut u8) {}

pub(crate) unsafe fn fxrstor(area: *const u8) {}

pub(crate) fn segments() -> Segments {
    Segments { cs: 8, tr: 0x18, ..Segments::default() }
}
