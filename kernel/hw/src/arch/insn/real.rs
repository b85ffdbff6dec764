//! The instructions themselves.

use core::arch::asm;

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables;
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::GlobalDescriptorTable;

use super::Segments;

/// RDMSR. #GP (a panic) where the CPU lacks the register.
#[inline(always)]
pub(crate) fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading an MSR has no effect on memory.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// WRMSR. #GP (a panic) where the CPU does not take it.
#[inline(always)]
pub(crate) fn wrmsr(msr: u32, value: u64) {
    // SAFETY: see `arch/msr.rs`: registers are named by constants, for the hypervisor's own concern.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack));
    };
}

/// RDMSR; `None` where the CPU answers with #GP.
#[inline]
pub(crate) fn rdmsr_safe(msr: u32) -> Option<u64> {
    let (low, high): (u32, u32);
    let mut ok = 0_u32;
    // SAFETY: a fault at label 2 is resumed at label 3 by the fix-up table, with `ok` still 0.
    unsafe {
        asm!("2: rdmsr", "mov {ok:e}, 1", "3:",
            ".pushsection .fixup, \"a\"", ".quad 2b, 3b", ".popsection",
            in("ecx") msr, inout("eax") 0_u32 => low, inout("edx") 0_u32 => high, ok = inout(reg) ok, options(nostack));
    }
    (ok != 0).then_some(u64::from(high) << 32 | u64::from(low))
}

/// WRMSR; `false` where the CPU answers with #GP.
#[inline]
pub(crate) fn wrmsr_safe(msr: u32, value: u64) -> bool {
    let mut ok = 0_u32;
    // SAFETY: as in `rdmsr_safe` and `wrmsr`.
    unsafe {
        asm!("2: wrmsr", "mov {ok:e}, 1", "3:",
            ".pushsection .fixup, \"a\"", ".quad 2b, 3b", ".popsection",
            in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32, ok = inout(reg) ok, options(nostack));
    }
    ok != 0
}

/// Reads a word of the hypervisor's own address space; `None` where nothing is mapped.
pub(crate) fn probe(address: u64) -> Option<u64> {
    let value: u64;
    let mut ok = 0_u32;
    // SAFETY: only reads; a fault at label 2 is resumed at label 3 by the fix-up table, with `ok` still 0.
    unsafe {
        asm!("2: mov {value}, [{address}]", "mov {ok:e}, 1", "3:",
            ".pushsection .fixup, \"a\"", ".quad 2b, 3b", ".popsection",
            address = in(reg) address, value = out(reg) value, ok = inout(reg) ok, options(nostack, readonly));
    }
    (ok != 0).then_some(value)
}

/// CPUID: EAX, EBX, ECX and EDX.
#[inline]
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let r = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    [r.eax, r.ebx, r.ecx, r.edx]
}

/// RDTSC.
#[inline(always)]
pub(crate) fn rdtsc() -> u64 {
    // SAFETY: RDTSC is there on every CPU with long mode, and CR4.TSD is clear in ring 0 anyway.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The TSC as the first instructions of the loader read it.
pub(crate) fn entry_tsc() -> u64 {
    loader::entry_tsc()
}

/// IN of a byte, of 16 and of 32 bits. A port access touches no memory of ours by itself; what a device does with DMA is
/// its driver's concern (bus mastering is off until a driver turns it on).
#[inline]
pub(crate) fn inb(port: u16) -> u8 {
    let value: u8;
    // SAFETY: see above.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack, preserves_flags)) };
    value
}

/// See [`inb`].
#[inline]
pub(crate) fn inw(port: u16) -> u16 {
    let value: u16;
    // SAFETY: see `inb`.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack, preserves_flags)) };
    value
}

/// See [`inb`].
#[inline]
pub(crate) fn inl(port: u16) -> u32 {
    let value: u32;
    // SAFETY: see `inb`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack, preserves_flags)) };
    value
}

/// OUT; see [`inb`].
#[inline]
pub(crate) fn outb(port: u16, value: u8) {
    // SAFETY: see `inb`.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) };
}

/// See [`outb`].
#[inline]
pub(crate) fn outw(port: u16, value: u16) {
    // SAFETY: see `inb`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack, preserves_flags)) };
}

/// See [`outb`].
#[inline]
pub(crate) fn outl(port: u16, value: u32) {
    // SAFETY: see `inb`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags)) };
}

/// Reads and writes of one register by MOV.
macro_rules! register {
    ($($read:ident $($write:ident)?: $name:literal;)*) => {$(
        #[doc = concat!("Reads ", $name, ".")]
        #[inline(always)]
        pub(crate) fn $read() -> u64 {
            let value: u64;
            // SAFETY: reads a register.
            unsafe { asm!(concat!("mov {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
        $(
            #[doc = concat!("Writes ", $name, ".")]
            ///
            /// # Safety
            /// The running code goes on as it is: mapped, with the rights it has, and no breakpoint set.
            #[inline(always)]
            pub(crate) unsafe fn $write(value: u64) {
                // SAFETY: the caller's promise.
                unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
            }
        )?
    )*};
}

register! {
    cr0 set_cr0: "cr0";
    cr2 set_cr2: "cr2";
    cr3 set_cr3: "cr3";
    cr4 set_cr4: "cr4";
    dr0 set_dr0: "dr0";
    dr1 set_dr1: "dr1";
    dr2 set_dr2: "dr2";
    dr3 set_dr3: "dr3";
    dr6 set_dr6: "dr6";
}

/// The word that GS points at: the address of this CPU's `PerCpu`.
#[inline(always)]
pub(crate) fn gs_word() -> u64 {
    let word: u64;
    // SAFETY: GS points at this CPU's PerCpu from `take_over` on.
    unsafe { asm!("mov {}, gs:[0]", out(reg) word, options(nostack, readonly, preserves_flags, pure)) };
    word
}

/// Lets every interrupt in that is pending.
#[inline(always)]
pub(crate) fn interrupt_window() {
    // SAFETY: the handlers take no lock that the callers may hold (`platform/irq.rs`). The instruction after STI still
    // runs with interrupts off, the second NOP is where they come.
    unsafe { asm!("sti", "nop", "nop", "cli") };
}

/// Halts until an interrupt has been taken.
#[inline(always)]
pub(crate) fn wait() {
    // SAFETY: as in `interrupt_window`. STI's shadow covers HLT, so an interrupt cannot slip in between.
    unsafe { asm!("sti", "hlt", "cli") };
}

/// INT 2: the NMI's gate.
#[inline(always)]
pub(crate) fn int_nmi() {
    // SAFETY: the gate leads to the NMI handler, which returns here or stops this CPU.
    unsafe { asm!("int 2") };
}

/// CLI and HLT, for good.
pub(crate) fn halt() -> ! {
    loop {
        // SAFETY: interrupts are off anyway, and the CPU has nothing more to do.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// INVLPG.
#[inline]
pub(crate) fn invlpg(page: u64) {
    // SAFETY: only drops a cached translation.
    unsafe { asm!("invlpg [{}]", in(reg) page, options(nostack, preserves_flags)) };
}

/// WBINVD.
pub(crate) fn wbinvd() {
    // SAFETY: WBINVD changes no memory that a program sees.
    unsafe { asm!("wbinvd", options(nostack, preserves_flags)) };
}

/// VERW with a selector in memory: with MD_CLEAR it clears the CPU's buffers.
#[inline]
pub(crate) fn verw() {
    // SAFETY: VERW changes the flags alone.
    unsafe { asm!("mov {0:x}, ds", "push {0}", "verw word ptr [rsp]", "pop {0}", out(reg) _) };
}

/// LGDT and LTR, and every segment register: `code` for CS, null for the others. FS and GS get base 0.
///
/// # Safety
/// `code` is the table's 64-bit code segment, `task` a TSS that is not loaded yet and lives for ever.
pub(crate) unsafe fn load_gdt(
    gdt: &'static GlobalDescriptorTable,
    code: SegmentSelector,
    task: SegmentSelector,
) {
    gdt.load();
    // SAFETY: the caller's promise; null data segments are fine in ring 0 of long mode.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(SegmentSelector::NULL);
        DS::set_reg(SegmentSelector::NULL);
        ES::set_reg(SegmentSelector::NULL);
        FS::set_reg(SegmentSelector::NULL);
        GS::set_reg(SegmentSelector::NULL);
        tables::load_tss(task);
    }
}

/// LIDT.
///
/// # Safety
/// A table of `bytes` is at `base` for good, and each of its gates leads to a handler.
pub(crate) unsafe fn lidt(base: u64, bytes: usize) {
    let pointer = DescriptorTablePointer { limit: (bytes - 1) as u16, base: VirtAddr::new(base) };
    // SAFETY: the caller's promise.
    unsafe { tables::lidt(&pointer) };
}

/// UD2.
pub(crate) fn ud2() -> ! {
    // SAFETY: an exception, which does not return.
    unsafe { asm!("ud2", options(noreturn)) };
}

/// XSETBV of XCR0. #GP (a panic) for a value that the CPU does not take.
#[inline]
pub(crate) fn set_xcr0(value: u64) {
    // SAFETY: callers pass values that the policy allows and the host has; XCR0 matters to guests only.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nomem, nostack));
    }
}

/// XGETBV of XCR0, where XSAVE is on.
#[inline]
pub(crate) fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: callers know that XSAVE is on.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(low) | u64::from(high) << 32
}

/// XSAVE, XSAVEC, XRSTOR: an area in memory and the components that are meant.
macro_rules! xsave {
    ($($name:ident($pointer:ty): $template:literal;)*) => {$(
        #[doc = concat!("`", $template, "`")]
        ///
        /// # Safety
        /// The area is aligned to 64 bytes and holds these components of XCR0; what is loaded of it was stored by one of these,
        /// or checked.
        #[inline]
        pub(crate) unsafe fn $name(area: $pointer, components: u64) {
            // SAFETY: the caller's promise; CR0.TS and EM are clear in the host.
            unsafe {
                asm!($template, in(reg) area, in("eax") components as u32, in("edx") (components >> 32) as u32,
                    options(nostack));
            }
        }
    )*};
}

xsave! {
    xsave(*mut u8): "xsave64 [{}]";
    xsavec(*mut u8): "xsavec64 [{}]";
    xrstor(*const u8): "xrstor64 [{}]";
}

/// FXSAVE.
///
/// # Safety
/// 512 bytes at `area` can be written; it is aligned to 16.
#[inline]
pub(crate) unsafe fn fxsave(area: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { asm!("fxsave64 [{}]", in(reg) area, options(nostack)) };
}

/// FXRSTOR.
///
/// # Safety
/// `area` is what [`fxsave`] stored, or was checked.
#[inline]
pub(crate) unsafe fn fxrstor(area: *const u8) {
    // SAFETY: the caller's promise.
    unsafe { asm!("fxrstor64 [{}]", in(reg) area, options(nostack)) };
}

/// The segment registers, and SGDT, SIDT and STR.
pub(crate) fn segments() -> Segments {
    let (gdt, idt) = (tables::sgdt(), tables::sidt());
    let (gdt_base, idt_base) = (gdt.base.as_u64(), idt.base.as_u64());
    let tr: u16;
    // SAFETY: reads a register.
    unsafe { asm!("str {:x}", out(reg) tr, options(nomem, nostack, preserves_flags)) };
    // SAFETY: TR was loaded from this GDT, so the 16-byte TSS descriptor is there.
    let tss = unsafe { ((gdt_base + u64::from(tr & !7)) as *const [u64; 2]).read_unaligned() };
    Segments {
        cs: CS::get_reg().0,
        ss: SS::get_reg().0,
        ds: DS::get_reg().0,
        es: ES::get_reg().0,
        tr,
        tr_base: tss[0] >> 16 & 0xff_ffff | tss[0] >> 56 << 24 | tss[1] << 32,
        gdt_base,
        idt_base,
    }
}
