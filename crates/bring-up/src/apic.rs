//! A CPU's local APIC (SDM 3A chapter 11): how it is switched on, set up, and told to send an interrupt.

/// Registers by the number that x2APIC adds to MSR 0x800; an xAPIC has them at 16 times that offset (SDM table 11-6).
#[allow(missing_docs)]
pub mod reg {
    pub const ID: u32 = 0x02;
    pub const VERSION: u32 = 0x03;
    pub const TPR: u32 = 0x08;
    pub const EOI: u32 = 0x0b;
    pub const SVR: u32 = 0x0f;
    /// First of eight registers with the interrupts in service.
    pub const ISR: u32 = 0x10;
    pub const ESR: u32 = 0x28;
    pub const LVT_CMCI: u32 = 0x2f;
    pub const ICR: u32 = 0x30;
    /// xAPIC only: the destination.
    pub const ICR_HIGH: u32 = 0x31;
    pub const LVT_TIMER: u32 = 0x32;
    pub const LVT_THERMAL: u32 = 0x33;
    pub const LVT_PERFORMANCE: u32 = 0x34;
    pub const LVT_LINT0: u32 = 0x35;
    pub const LVT_LINT1: u32 = 0x36;
    pub const LVT_ERROR: u32 = 0x37;
    pub const TIMER_COUNT: u32 = 0x38;
    pub const TIMER_NOW: u32 = 0x39;
    pub const TIMER_DIVIDE: u32 = 0x3e;
}
use reg::*;

/// Set in a local vector table entry, no interrupt comes of it.
pub const MASKED: u32 = 1 << 16;
const DELIVERY: u32 = 7 << 8;
const DELIVERY_SMI: u32 = 2 << 8;
const DELIVERY_NMI: u32 = 4 << 8;
const DELIVERY_INIT: u32 = 5 << 8;
const DELIVERY_STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const PENDING: u32 = 1 << 12;
const SOFTWARE_ENABLE: u32 = 1 << 8;
/// The value of the divide register for divide by 1 (SDM figure 11-10); after a reset the register holds divide by 2.
const DIVIDE_BY_1: u32 = 0b1011;

/// IA32_APIC_BASE: x2APIC mode, and the APIC is on.
pub const BASE_X2APIC: u64 = 1 << 10;
/// See [`BASE_X2APIC`].
pub const BASE_ENABLE: u64 = 1 << 11;

/// Entries of the local vector table, with the highest entry number that the version register must name for the entry to
/// be there (SDM 11.5.1): writes to one that is not there are errors.
const LVT: [(u32, u32); 7] = [
    (LVT_TIMER, 0),
    (LVT_LINT0, 1),
    (LVT_LINT1, 2),
    (LVT_ERROR, 3),
    (LVT_PERFORMANCE, 4),
    (LVT_THERMAL, 5),
    (LVT_CMCI, 6),
];

/// How a CPU's APIC is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// By memory.
    XApic,
    /// By MSRs.
    X2Apic,
}

/// The registers of the calling CPU's APIC.
pub trait Registers {
    /// How they are reached.
    fn mode(&self) -> Mode;
    /// Reads a register.
    fn read(&self, register: u32) -> u32;
    /// Writes one.
    fn write(&mut self, register: u32, value: u32);
    /// Writes the 64-bit ICR of an x2APIC.
    fn write_icr(&mut self, value: u64);
    /// Makes earlier stores visible to every CPU before later register writes: MFENCE, LFENCE.
    fn fence(&mut self);
}

/// The vectors of the interrupts that an APIC makes by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vectors {
    /// An error of the APIC.
    pub error: u8,
    /// An interrupt that was withdrawn.
    pub spurious: u8,
}

/// What to write to IA32_APIC_BASE, which holds `base`, to get to `mode`: at most two values, one after the other.
///
/// From off to x2APIC the way leads through xAPIC, and from x2APIC back through off: each other step is a #GP (SDM
/// 11.12.5). INIT leaves the mode alone, so that a CPU can come up in another one than the first CPU has.
pub fn base_values(base: u64, mode: Mode) -> impl Iterator<Item = u64> {
    let off = base & !(BASE_ENABLE | BASE_X2APIC);
    let (xapic, x2apic) = (off | BASE_ENABLE, off | BASE_ENABLE | BASE_X2APIC);
    let [first, second] = match (mode, base & BASE_ENABLE != 0, base & BASE_X2APIC != 0) {
        (Mode::XApic, true, false) | (Mode::X2Apic, true, true) => [None, None],
        (Mode::X2Apic, true, false) => [Some(x2apic), None],
        (Mode::X2Apic, false, _) => [Some(xapic), Some(x2apic)],
        (Mode::XApic, true, true) => [Some(off), Some(xapic)],
        (Mode::XApic, false, _) => [Some(xapic), None],
    };
    first.into_iter().chain(second)
}

/// Sets up an APIC that is on, whatever firmware left in it. The same on every CPU: the first is no exception, since
/// what firmware did to it, it may not have done to the others.
pub fn set_up(apic: &mut impl Registers, vectors: Vectors) {
    apic.write(TPR, 0);
    // Stray entries first: an NMI of a performance counter that firmware used needs no IF. The mask bit can be set
    // whether or not the APIC is enabled. An entry that makes SMIs is the firmware's own (thermal events).
    let last = apic.read(VERSION) >> 16 & 0xff;
    for (entry, _) in LVT.into_iter().filter(|&(_, number)| number <= last) {
        let value = apic.read(entry);
        if value & DELIVERY != DELIVERY_SMI {
            apic.write(entry, value & !DELIVERY | MASKED);
        }
    }
    // Before any entry is unmasked: while the APIC is disabled by software, mask bits cannot be cleared (SDM 11.4.7.2).
    apic.write(SVR, SOFTWARE_ENABLE | u32::from(vectors.spurious));
    // An interrupt that firmware left in service would hold back those of its priority and below for ever.
    for _ in 0..256 {
        if (ISR..ISR + 8).all(|register| apic.read(register) == 0) {
            break;
        }
        apic.write(EOI, 0);
    }
    apic.write(LVT_LINT1, DELIVERY_NMI);
    apic.write(LVT_ERROR, vectors.error.into());
    apic.write(ESR, 0);
    apic.write(TIMER_COUNT, 0);
    apic.write(TIMER_DIVIDE, DIVIDE_BY_1);
}

/// What one CPU can send to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ipi {
    /// An interrupt with this vector.
    Fixed(u8),
    /// An NMI.
    Nmi,
    /// A reset, after which the CPU waits for [`Ipi::Startup`].
    Init,
    /// Start in real mode at this page number.
    Startup(u8),
}

/// Sends `ipi` to the CPU with that APIC id. Whoever takes it sees every store that came before.
pub fn send(apic: &mut impl Registers, apic_id: u32, ipi: Ipi) {
    let low = ASSERT
        | match ipi {
            Ipi::Fixed(vector) => u32::from(vector),
            Ipi::Nmi => DELIVERY_NMI,
            Ipi::Init => DELIVERY_INIT,
            Ipi::Startup(page) => DELIVERY_STARTUP | u32::from(page),
        };
    match apic.mode() {
        Mode::X2Apic => {
            // WRMSR to an x2APIC register does not wait for earlier stores, and a locked instruction orders memory
            // only: MFENCE, LFENCE it is (SDM 11.12.3).
            apic.fence();
            apic.write_icr(u64::from(apic_id) << 32 | u64::from(low));
        }
        Mode::XApic => {
            apic.write(ICR_HIGH, apic_id << 24);
            apic.write(ICR, low);
            while apic.read(ICR) & PENDING != 0 {
                core::hint::spin_loop();
            }
        }
    }
}
