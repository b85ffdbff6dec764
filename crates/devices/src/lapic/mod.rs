//! The local APIC (SDM vol. 3, chapter 11), one for each vCPU. Its state is that of the architectural
//! registers, so that hardware virtualisation of the APIC can take the place of this model.

mod access;
mod bus;
mod local;
mod message;
mod state;
#[cfg(test)]
mod tests;
mod timer;

use crate::config::PlatformConfig;
#[cfg(test)]
pub(crate) use access::Action;
use bus::Address;
pub use bus::{ApicBus, InitSipi};
pub use local::{LocalApic, Sent};
pub(crate) use message::{Delivery, Message};
pub(crate) use state::KIND;
use timer::Timer;

/// Where the registers lie in xAPIC mode; the guest cannot move them.
pub const LAPIC_BASE: u64 = 0xFEE0_0000;

/// IA32_APIC_BASE: this is the bootstrap processor.
const BASE_BSP: u64 = 1 << 8;
/// IA32_APIC_BASE: x2APIC mode.
const BASE_EXTD: u64 = 1 << 10;
/// IA32_APIC_BASE: global enable.
const BASE_ENABLE: u64 = 1 << 11;

const SVR_ENABLE: u32 = 1 << 8;
const LVT_MASKED: u32 = 1 << 16;

/// Entries of the local vector table, and their indices.
const LVTS: usize = 6;
const LVT_TIMER: usize = 0;
const LVT_LINT0: usize = 3;
const LVT_LINT1: usize = 4;
const LVT_ERROR: usize = 5;
/// The bits of each entry that can be written; the timer's mode may add bit 18.
const LVT_WRITABLE: [u32; LVTS] = [0x3_00FF, 0x1_07FF, 0x1_07FF, 0x1_A7FF, 0x1_A7FF, 0x1_00FF];

const ESR_SEND_ILLEGAL: u32 = 1 << 5;
const ESR_RECEIVE_ILLEGAL: u32 = 1 << 6;
const ESR_ILLEGAL_REGISTER: u32 = 1 << 7;

/// An access that the processor answers with #GP(0).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GpFault;

/// What the CPU level allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Features {
    pub(crate) x2apic: bool,
    pub(crate) tsc_deadline: bool,
}

/// A 256-bit register: IRR, ISR or TMR.
pub(crate) type Bits256 = [u32; 8];

impl Features {
    pub(crate) const fn of(config: &PlatformConfig) -> Self {
        Self { x2apic: config.x2apic, tsc_deadline: config.tsc_deadline }
    }
}

#[derive(Clone)]
pub(crate) struct Lapic {
    features: Features,
    id: u32,
    base: u64,
    tpr: u8,
    ldr: u32,
    dfr: u32,
    svr: u32,
    isr: Bits256,
    tmr: Bits256,
    irr: Bits256,
    esr: u32,
    /// Errors since the last write to ESR, which latches them.
    errors: u32,
    icr: u64,
    lvt: [u32; LVTS],
    timer: Timer,
    nmi: bool,
}

impl Lapic {
    /// The state after reset; firmware enabled the one of vCPU 0 as a virtual wire (ExtINT at LINT0, NMI at LINT1).
    pub(crate) fn new(id: u32, features: Features) -> Self {
        let mut lapic = Self {
            features,
            id,
            base: LAPIC_BASE | BASE_ENABLE,
            tpr: 0,
            ldr: 0,
            dfr: 0xFFFF_FFFF,
            svr: 0xFF,
            isr: [0; 8],
            tmr: [0; 8],
            irr: [0; 8],
            esr: 0,
            errors: 0,
            icr: 0,
            lvt: [LVT_MASKED; LVTS],
            timer: Timer::new(),
            nmi: false,
        };
        if id == 0 {
            lapic.base |= BASE_BSP;
            lapic.svr |= SVR_ENABLE;
            lapic.lvt[LVT_LINT0] = 0x700;
            lapic.lvt[LVT_LINT1] = 0x400;
        }
        lapic
    }

    /// INIT: all but the ID and IA32_APIC_BASE goes back to its reset value (SDM vol. 3, 11.4.7.3).
    pub(crate) fn init(&mut self) {
        self.reset();
        if self.x2apic() {
            self.ldr = self.x2apic_ldr();
        }
    }

    /// Everything but what is not the APIC's own: its ID, IA32_APIC_BASE, the vCPU's TSC.
    fn reset(&mut self) {
        let (id, base, tsc_adjust) = (self.id, self.base, self.timer.tsc_adjust);
        // An ID that is not 0 gives the plain reset values.
        *self = Self { id, base, ..Self::new(u32::MAX, self.features) };
        self.timer.tsc_adjust = tsc_adjust;
    }

    /// Whether it answers at [`LAPIC_BASE`].
    #[inline]
    pub(crate) fn answers(&self) -> bool {
        self.base & (BASE_ENABLE | BASE_EXTD) == BASE_ENABLE
    }

    pub(crate) fn hw_enabled(&self) -> bool {
        self.base & BASE_ENABLE != 0
    }

    pub(crate) fn x2apic(&self) -> bool {
        self.base & BASE_EXTD != 0
    }

    /// Enabled by IA32_APIC_BASE and by the spurious-interrupt register: takes fixed interrupts.
    pub(crate) fn enabled(&self) -> bool {
        self.hw_enabled() && self.svr & SVR_ENABLE != 0
    }

    fn x2apic_ldr(&self) -> u32 {
        (self.id >> 4) << 16 | 1 << (self.id & 0xF)
    }

    /// True when the PIC's INTR reaches the processor: virtual wire, or no APIC at all.
    pub(crate) fn passes_ext_int(&self) -> bool {
        let lint0 = self.lvt[LVT_LINT0];
        if self.hw_enabled() { lint0 & (LVT_MASKED | 0x700) == 0x700 } else { self.base & BASE_BSP != 0 }
    }

    /// A pulse at LINT1; the NMI it causes waits for [`Lapic::take_nmi`].
    pub(crate) fn pulse_lint1(&mut self) {
        let lint1 = self.lvt[LVT_LINT1];
        self.nmi |= self.hw_enabled() && lint1 & (LVT_MASKED | 0x700) == 0x400;
    }

    pub(crate) fn nmi(&self) -> bool {
        self.nmi
    }

    pub(crate) fn set_nmi(&mut self, pending: bool) {
        self.nmi = pending;
    }

    pub(crate) fn tpr(&self) -> u8 {
        self.tpr
    }

    pub(crate) fn set_tpr(&mut self, tpr: u8) {
        self.tpr = tpr;
    }

    /// Processor priority (SDM vol. 3, 11.8.3.1).
    pub(crate) fn ppr(&self) -> u8 {
        let serving = highest(&self.isr).unwrap_or(0);
        if self.tpr >> 4 >= serving >> 4 { self.tpr } else { serving & 0xF0 }
    }

    /// The vector to inject now: the highest request above the processor priority.
    pub(crate) fn pending(&self) -> Option<u8> {
        let vector = highest(&self.irr)?;
        (self.enabled() && vector >> 4 > self.ppr() >> 4).then_some(vector)
    }

    /// The highest request, whatever the priority: what a TPR threshold is computed from.
    pub(crate) fn highest_request(&self) -> Option<u8> {
        if self.enabled() { highest(&self.irr) } else { None }
    }

    /// The processor takes `vector`: its request becomes an interrupt in service.
    pub(crate) fn accept(&mut self, vector: u8) {
        if test(&self.irr, vector) {
            set(&mut self.irr, vector, false);
            set(&mut self.isr, vector, true);
        }
    }

    /// Takes a fixed or lowest-priority interrupt; true when it is a new request.
    pub(crate) fn request(&mut self, vector: u8, level: bool) -> bool {
        if !self.enabled() {
            return false;
        }
        if vector < 16 {
            return self.error(ESR_RECEIVE_ILLEGAL);
        }
        let new = !test(&self.irr, vector);
        set(&mut self.irr, vector, true);
        set(&mut self.tmr, vector, level);
        new
    }

    /// End of interrupt: the vector to announce to the IO-APIC where it was level-triggered.
    fn eoi(&mut self) -> Option<u8> {
        let vector = highest(&self.isr)?;
        set(&mut self.isr, vector, false);
        test(&self.tmr, vector).then_some(vector)
    }

    fn error(&mut self, bit: u32) -> bool {
        self.errors |= bit;
        let lvt = self.lvt[LVT_ERROR];
        let vector = lvt as u8;
        // The error of the error vector itself must not recurse.
        lvt & LVT_MASKED == 0 && vector >= 16 && self.request(vector, false)
    }

    /// Who it is to messages.
    fn address(&self) -> Address {
        Address {
            ldr: self.ldr,
            model: (self.dfr >> 28) as u8,
            hw_enabled: self.hw_enabled(),
            x2apic: self.x2apic(),
            enabled: self.enabled(),
        }
    }

    /// Whether a message is for this APIC.
    pub(crate) fn matches(&self, message: &Message) -> bool {
        self.address().matches(self.id, message)
    }

    /// Notes a message with an illegal vector.
    fn receive_illegal(&mut self) {
        self.error(ESR_RECEIVE_ILLEGAL);
    }
}

/// The highest vector whose bit is set.
fn highest(bits: &Bits256) -> Option<u8> {
    let word = bits.iter().rposition(|&word| word != 0)?;
    Some((word * 32) as u8 + (31 - bits[word].leading_zeros()) as u8)
}

fn test(bits: &Bits256, vector: u8) -> bool {
    bits[usize::from(vector >> 5)] >> (vector & 31) & 1 != 0
}

fn set(bits: &mut Bits256, vector: u8, value: bool) {
    let word = &mut bits[usize::from(vector >> 5)];
    let bit = 1 << (vector & 31);
    *word = if value { *word | bit } else { *word & !bit };
}
