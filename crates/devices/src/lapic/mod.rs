//! The local APIC (SDM vol. 3, chapter 11), one for each vCPU.
//!
//! Its registers are on an [`ApicPage`], where a CPU that virtualises the APIC finds them (SDM 29.1). What such a CPU
//! changes by itself is nowhere else: TPR, ISR, IRR, TMR and the ICR. The others are fields of the model, and on the page
//! a copy to be read ([`Lapic::show`]): a CPU with APIC-register virtualization has overwritten a register there before
//! anybody is told, and what it was decides about what the write does.

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
use alloc::sync::Arc;
use bus::Address;
pub use bus::{ApicBus, InitSipi};
pub use local::{LocalApic, Sent};
pub(crate) use message::{Delivery, Message};
pub(crate) use state::KIND;
use timer::Timer;
use vm_types::apic_register::*;
use vm_types::{ApicPage, PostedInterrupts};

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

impl Features {
    pub(crate) const fn of(config: &PlatformConfig) -> Self {
        Self { x2apic: config.x2apic, tsc_deadline: config.tsc_deadline }
    }
}

pub(crate) struct Lapic {
    features: Features,
    id: u32,
    base: u64,
    ldr: u32,
    dfr: u32,
    svr: u32,
    esr: u32,
    /// Errors since the last write to ESR, which latches them.
    errors: u32,
    lvt: [u32; LVTS],
    timer: Timer,
    nmi: bool,
    /// TMR has changed since that was asked for.
    levels_changed: bool,
    page: Arc<ApicPage>,
}

impl Clone for Lapic {
    fn clone(&self) -> Self {
        let page = Arc::<ApicPage>::default();
        page.copy_from(&self.page);
        Self { page, ..*self }
    }
}

impl Lapic {
    /// The state after reset; firmware enabled the one of vCPU 0 as a virtual wire (ExtINT at LINT0, NMI at LINT1).
    pub(crate) fn new(id: u32, features: Features) -> Self {
        Self::on(Arc::default(), id, features)
    }

    /// The same on a page that is cleared first.
    pub(super) fn on(page: Arc<ApicPage>, id: u32, features: Features) -> Self {
        page.clear();
        let mut lapic = Self {
            features,
            id,
            base: LAPIC_BASE | BASE_ENABLE,
            ldr: 0,
            dfr: 0xFFFF_FFFF,
            svr: 0xFF,
            esr: 0,
            errors: 0,
            lvt: [LVT_MASKED; LVTS],
            timer: Timer::new(),
            nmi: false,
            levels_changed: true,
            page,
        };
        if id == 0 {
            lapic.base |= BASE_BSP;
            lapic.svr |= SVR_ENABLE;
            lapic.lvt[LVT_LINT0] = 0x700;
            lapic.lvt[LVT_LINT1] = 0x400;
        }
        lapic.show_all();
        lapic
    }

    /// INIT: all but the ID and IA32_APIC_BASE goes back to its reset value (SDM vol. 3, 11.4.7.3).
    pub(crate) fn init(&mut self) {
        self.reset();
        if self.x2apic() {
            self.ldr = self.x2apic_ldr();
            self.show_all();
        }
    }

    /// Everything but what is not the APIC's own: its ID, IA32_APIC_BASE, the vCPU's TSC.
    fn reset(&mut self) {
        let (id, base, tsc_adjust) = (self.id, self.base, self.timer.tsc_adjust);
        // An ID that is not 0 gives the plain reset values.
        *self = Self { id, base, ..Self::on(Arc::clone(&self.page), u32::MAX, self.features) };
        self.timer.tsc_adjust = tsc_adjust;
        self.show_all();
    }

    /// Becomes what `other` is. Its page stays where it is: a CPU knows it by its address.
    pub(super) fn become_like(&mut self, other: &Self) {
        self.page.copy_from(&other.page);
        *self = Self { page: Arc::clone(&self.page), levels_changed: true, ..*other };
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
    #[inline]
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
        self.page.get(TPR) as u8
    }

    pub(crate) fn set_tpr(&mut self, tpr: u8) {
        self.page.set(TPR, tpr.into());
    }

    #[inline]
    pub(crate) fn ppr(&self) -> u8 {
        processor_priority(&self.page)
    }

    /// The vector to inject now: the highest request above the processor priority.
    #[inline]
    pub(crate) fn pending(&self) -> Option<u8> {
        let vector = self.page.highest(IRR)?;
        (self.enabled() && vector >> 4 > self.ppr() >> 4).then_some(vector)
    }

    /// The highest request, whatever the priority.
    #[inline]
    pub(crate) fn highest_request(&self) -> Option<u8> {
        if self.enabled() { self.page.highest(IRR) } else { None }
    }

    #[inline(always)]
    pub(super) fn has_request(&self) -> bool {
        self.page.any(IRR)
    }

    /// The interrupt in service.
    pub(crate) fn in_service(&self) -> Option<u8> {
        self.page.highest(ISR)
    }

    /// The processor takes `vector`: its request becomes an interrupt in service.
    pub(crate) fn accept(&mut self, vector: u8) {
        if self.page.set_bit(IRR, vector, false) {
            self.page.set_bit(ISR, vector, true);
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
        if self.page.bit(TMR, vector) != level {
            self.page.set_bit(TMR, vector, level);
            self.levels_changed = true;
        }
        !self.page.set_bit(IRR, vector, true)
    }

    /// Takes the interrupts that were left there, all of them edge-triggered.
    #[inline]
    fn take_posted(&mut self, posted: &PostedInterrupts) {
        let enabled = self.enabled();
        posted.take(|quarter, vectors| {
            let (first, low) = if vectors as u32 == 0 { (1, vectors >> 32) } else { (0, vectors) };
            if enabled {
                self.request_edges(quarter * 2 + first, low as u32);
                if low >> 32 != 0 {
                    self.request_edges(quarter * 2 + 1, (low >> 32) as u32);
                }
            }
        });
    }

    /// Edge-triggered interrupts, 32 vectors from `word` * 32 on.
    #[inline]
    fn request_edges(&mut self, word: u8, vectors: u32) {
        let levels = self.page.get(TMR + word);
        if levels & vectors != 0 {
            self.page.set(TMR + word, levels & !vectors);
            self.levels_changed = true;
        }
        self.page.set(IRR + word, self.page.get(IRR + word) | vectors);
    }

    pub(super) fn page(&self) -> &Arc<ApicPage> {
        &self.page
    }

    pub(super) fn forget_told(&mut self) {
        self.levels_changed = true;
    }

    /// TMR, where it has changed since this was asked last.
    pub(super) fn changed_levels(&mut self) -> Option<[u32; 8]> {
        core::mem::take(&mut self.levels_changed).then(|| self.page.bits(TMR))
    }

    /// End of interrupt: the vector to announce to the IO-APIC where it was level-triggered.
    #[inline(always)]
    pub(super) fn end_of_interrupt(&mut self) -> Option<u8> {
        let vector = self.page.highest(ISR)?;
        self.page.set_bit(ISR, vector, false);
        self.page.bit(TMR, vector).then_some(vector)
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

/// The processor priority of the APIC with these registers (SDM vol. 3, 11.8.3.1).
#[inline]
fn processor_priority(page: &ApicPage) -> u8 {
    let (tpr, serving) = (page.get(TPR) as u8, page.highest(ISR).unwrap_or(0));
    if tpr >> 4 >= serving >> 4 { tpr } else { serving & 0xF0 }
}
