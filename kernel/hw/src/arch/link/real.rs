//! The symbols of `linker.ld` and of the assembly files.

use core::arch::global_asm;
use core::slice;

use super::{Image, Trampoline};

global_asm!(include_str!("../traps.s"), options(att_syntax));
global_asm!(include_str!("../trampoline.s"), options(att_syntax));
global_asm!(include_str!("../selftest_guest.s"), options(att_syntax));
global_asm!(include_str!("../selftest_controls.s"), options(att_syntax));
global_asm!(include_str!("../apicv_probe.s"), options(att_syntax));

unsafe extern "C" {
    safe static __image_start: u8;
    safe static __text_end: u8;
    safe static __rodata_end: u8;
    safe static __image_end: u8;
    safe static __boot_stacks: u8;
    safe static __fixup_start: [u64; 2];
    safe static __fixup_end: [u64; 2];
    safe static trap_stubs: u8;
    safe static ap_trampoline: u8;
    safe static ap_trampoline_end: u8;
    safe static ap_cr3: u8;
    safe static ap_efer: u8;
    safe static ap_misc_enable_clear: u8;
    safe static selftest_guest_start: u8;
    safe static selftest_guest_end: u8;
    safe static selftest_controls_start: u8;
    safe static selftest_controls_end: u8;
    safe static selftest_spinner_start: u8;
    safe static selftest_spinner_end: u8;
    safe static apicv_probe_start: u8;
    safe static apicv_probe_spins: u8;
}

/// Where the image lies.
pub(crate) fn image() -> Image {
    Image {
        start: (&raw const __image_start).addr() as u64,
        text_end: (&raw const __text_end).addr() as u64,
        rodata_end: (&raw const __rodata_end).addr() as u64,
        end: (&raw const __image_end).addr() as u64,
    }
}

/// The block of stacks of the bootstrap CPU.
pub(crate) fn boot_stacks() -> u64 {
    (&raw const __boot_stacks).addr() as u64
}

/// The stub of each vector, 16 bytes each.
pub(crate) fn stubs() -> u64 {
    (&raw const trap_stubs).addr() as u64
}

/// Pairs of an instruction that may fault, and where to go on when it does.
pub(crate) fn fixups() -> &'static [[u64; 2]] {
    let start = &raw const __fixup_start;
    let count = ((&raw const __fixup_end).addr() - start.addr()) / size_of::<[u64; 2]>();
    // SAFETY: the linker script puts the two symbols around the pairs, which nothing writes.
    unsafe { slice::from_raw_parts(start, count) }
}

/// The bytes between two symbols.
///
/// # Safety
/// They are around read-only data.
unsafe fn between(start: *const u8, end: *const u8) -> &'static [u8] {
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// Where the other CPUs start.
pub(crate) fn trampoline() -> Trampoline {
    let start = &raw const ap_trampoline;
    let offset = |symbol: *const u8| symbol.addr() - start.addr();
    Trampoline {
        // SAFETY: `trampoline.s` is between the two.
        code: unsafe { between(start, &raw const ap_trampoline_end) },
        cr3: offset(&raw const ap_cr3),
        efer: offset(&raw const ap_efer),
        misc_enable_clear: offset(&raw const ap_misc_enable_clear),
    }
}

/// The guest that the self-test runs: a Multiboot 1 image.
pub(crate) fn selftest_guest() -> &'static [u8] {
    // SAFETY: `selftest_guest.s` puts it between the two.
    unsafe { between(&raw const selftest_guest_start, &raw const selftest_guest_end) }
}

/// The same of one that does a thing for each control.
pub(crate) fn selftest_controls() -> &'static [u8] {
    // SAFETY: `selftest_controls.s` puts it between the two.
    unsafe { between(&raw const selftest_controls_start, &raw const selftest_controls_end) }
}

/// The same of one that spins, interrupts off; its last four bytes say how many ticks of the TSC at a time.
pub(crate) fn selftest_spinner() -> &'static [u8] {
    // SAFETY: `selftest_guest.s` puts it between the two.
    unsafe { between(&raw const selftest_spinner_start, &raw const selftest_spinner_end) }
}

/// Where the guest of `apicv_probe.s` begins, and where it spins.
pub(crate) fn apicv_probe() -> (u64, u64) {
    ((&raw const apicv_probe_start).addr() as u64, (&raw const apicv_probe_spins).addr() as u64)
}
