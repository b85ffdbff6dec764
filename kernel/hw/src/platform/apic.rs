//! This CPU's local APIC (SDM 3A chapter 11), as xAPIC or x2APIC.

use core::sync::atomic::{AtomicU64, Ordering};

use bring_up::apic::reg::{EOI, ID, LVT_TIMER, TIMER_COUNT, TIMER_NOW};
use bring_up::apic::{self as set_up, BASE_X2APIC, Ipi, MASKED, Mode, Registers, Vectors};

use super::pic;
use crate::arch::{cpu, mmio, msr, tsc};
use crate::mm::{Hpa, PAGE, map};

/// The timer's vector.
pub const TIMER: u8 = 0xf0;
/// It reports an error of its own.
const ERROR: u8 = 0xfe;
/// It withdrew an interrupt; takes no EOI.
pub(super) const SPURIOUS: u8 = 0xff;

/// Address of the xAPIC's page, 0 before [`init`], [`X2APIC`] where registers are MSRs.
static BASE: AtomicU64 = AtomicU64::new(0);
const X2APIC: u64 = 1;
/// Timer counts in 2^32 TSC ticks.
static TIMER_RATIO: AtomicU64 = AtomicU64::new(0);

/// Sets up the bootstrap CPU's APIC and measures its timer. Says how it is reached. `opt_out`: not as an x2APIC, where
/// it is none yet.
pub fn init(opt_out: bool) -> &'static str {
    pic::silence();
    let features = cpu::id().get_feature_info();
    let mut x2apic = features.is_some_and(|f| f.has_x2apic());
    if x2apic && opt_out && msr::read(msr::IA32_APIC_BASE) & BASE_X2APIC == 0 {
        log::info!(target: "cpu", "firmware (ACPI DMAR) asks for no x2APIC");
        x2apic = false;
    }
    if x2apic {
        BASE.store(X2APIC, Ordering::Release);
    } else {
        let base = msr::read(msr::IA32_APIC_BASE) & 0x000f_ffff_ffff_f000;
        map::map_mmio(Hpa(base), PAGE);
        BASE.store(base, Ordering::Release);
    }
    init_cpu();
    calibrate();
    if x2apic { "x2APIC" } else { "xAPIC" }
}

/// Sets up the calling CPU's APIC.
pub(super) fn init_cpu() {
    for value in set_up::base_values(msr::read(msr::IA32_APIC_BASE), Local.mode()) {
        msr::write(msr::IA32_APIC_BASE, value);
    }
    set_up::set_up(&mut Local, Vectors { error: ERROR, spurious: SPURIOUS });
}

/// Whether an APIC is there to be asked.
pub fn is_ready() -> bool {
    BASE.load(Ordering::Acquire) != 0
}

/// Whether ids above 254 can be reached.
pub(super) fn is_x2apic() -> bool {
    BASE.load(Ordering::Relaxed) == X2APIC
}

/// The calling CPU's APIC id.
pub fn id() -> u32 {
    if is_x2apic() { read(ID) } else { read(ID) >> 24 }
}

/// Ends the interrupt in service.
pub fn eoi() {
    write(EOI, 0);
}

/// Sends interrupt `vector` to the CPU with that APIC id.
pub fn send_ipi(apic_id: u32, vector: u8) {
    set_up::send(&mut Local, apic_id, Ipi::Fixed(vector));
}

/// The CPU with that index, as the notification destination of a posted-interrupt descriptor (SDM 29.1.6).
pub fn destination(index: usize) -> u32 {
    let id = cpu::get(index).map_or(0, |other| other.apic_id);
    if is_x2apic() { id } else { id << 8 }
}

/// Sends an NMI.
pub fn send_nmi(apic_id: u32) {
    set_up::send(&mut Local, apic_id, Ipi::Nmi);
}

/// Resets a CPU; it then waits for [`send_startup`].
pub(super) fn send_init(apic_id: u32) {
    set_up::send(&mut Local, apic_id, Ipi::Init);
}

/// Starts a CPU in real mode at `page` * 4096.
pub(super) fn send_startup(apic_id: u32, page: u8) {
    set_up::send(&mut Local, apic_id, Ipi::Startup(page));
}

/// Interrupts this CPU once, `ticks` of the TSC from now.
pub fn timer_once(ticks: u64) {
    write(LVT_TIMER, TIMER.into());
    write(TIMER_COUNT, counts(ticks));
}

/// Stops the timer.
pub fn timer_stop() {
    write(LVT_TIMER, MASKED);
    write(TIMER_COUNT, 0);
}

fn counts(ticks: u64) -> u32 {
    let counts = (u128::from(ticks) * u128::from(TIMER_RATIO.load(Ordering::Relaxed))) >> 32;
    u32::try_from(counts.max(1)).unwrap_or(u32::MAX)
}

/// Measures the timer's rate against the TSC: one millisecond is enough for an interval timer.
fn calibrate() {
    write(LVT_TIMER, MASKED);
    write(TIMER_COUNT, u32::MAX);
    let start = tsc::read();
    let first = read(TIMER_NOW);
    while tsc::read().wrapping_sub(start) < tsc::hz() / 1000 {
        core::hint::spin_loop();
    }
    let (last, end) = (read(TIMER_NOW), tsc::read());
    write(TIMER_COUNT, 0);
    let ratio = (u64::from(first.wrapping_sub(last)) << 32) / end.wrapping_sub(start).max(1);
    TIMER_RATIO.store(ratio.max(1), Ordering::Relaxed);
}

/// The timer's rate in Hz.
pub fn timer_hz() -> u64 {
    ((u128::from(TIMER_RATIO.load(Ordering::Relaxed)) * u128::from(tsc::hz())) >> 32) as u64
}

fn read(register: u32) -> u32 {
    Local.read(register)
}

fn write(register: u32, value: u32) {
    Local.write(register, value);
}

/// The calling CPU's APIC, reached as [`BASE`] says.
struct Local;

impl Registers for Local {
    fn mode(&self) -> Mode {
        if is_x2apic() { Mode::X2Apic } else { Mode::XApic }
    }

    fn read(&self, register: u32) -> u32 {
        if is_x2apic() {
            msr::read(0x800 + register) as u32
        } else {
            mmio::read32(Hpa(BASE.load(Ordering::Relaxed) + u64::from(register) * 16))
        }
    }

    fn write(&mut self, register: u32, value: u32) {
        if is_x2apic() {
            msr::write(0x800 + register, value.into());
        } else {
            mmio::write32(Hpa(BASE.load(Ordering::Relaxed) + u64::from(register) * 16), value);
        }
    }

    fn write_icr(&mut self, value: u64) {
        msr::write(0x830, value);
    }

    fn fence(&mut self) {
        // SAFETY: fences order memory accesses, and change nothing.
        unsafe { core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags)) };
    }
}
