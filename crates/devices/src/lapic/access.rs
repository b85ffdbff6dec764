//! Register accesses of the guest: the xAPIC page, the x2APIC MSRs and IA32_APIC_BASE.

use super::*;
use vm_types::{Now, nospec};

/// What a register write asks the machine to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    None,
    /// Announce the end of this level-triggered vector to the IO-APIC.
    Eoi(u8),
    /// Send the interrupt command register.
    Ipi(u64),
    /// An interrupt for this vCPU alone (SELF IPI).
    SelfIpi(u8),
}

/// Version 0x14 with six LVT entries, no suppression of EOI broadcasts.
const VERSION_VALUE: u32 = 0x0005_0014;

/// Registers that the model has, and the page a copy of, besides the local vector table.
const KEPT: [u8; 8] = [ID, VERSION, LDR, DFR, SVR, ESR, TIMER_INITIAL, TIMER_DIVIDE];

/// The bits of the ICR's low half that a write keeps: not delivery status (12) and the reserved ones.
const ICR_WRITABLE: u32 = 0xC_CFFF;

/// The same of all of it in x2APIC mode.
const ICR_KEPT: u64 = 0xFFFF_FFFF << 32 | ICR_WRITABLE as u64;

fn lvt_index(reg: u8) -> Option<usize> {
    let index = usize::from(reg.checked_sub(LVT)?);
    (index < LVTS).then(|| nospec::index(index, LVTS))
}

impl Lapic {
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE: only the legal changes of mode (SDM vol. 3, 11.12.5), and never the address.
    pub(crate) fn write_base(&mut self, value: u64) -> Result<(), GpFault> {
        let modes = BASE_ENABLE | BASE_EXTD;
        if value & !(modes | BASE_BSP) != LAPIC_BASE || (value & BASE_EXTD != 0 && !self.features.x2apic) {
            return Err(GpFault);
        }
        let (old, new) = (self.base & modes, value & modes);
        match (old, new) {
            (_, BASE_EXTD) | (0, _) if new & BASE_EXTD != 0 => return Err(GpFault),
            (o, BASE_ENABLE) if o == modes => return Err(GpFault),
            _ => {}
        }
        self.base = self.base & !modes | new;
        if old != 0 && new == 0 {
            self.reset();
        } else if old != new && new == modes {
            self.ldr = self.x2apic_ldr();
            self.dfr = 0xFFFF_FFFF;
            self.page.set_upper(ICR_LOW, 0);
        }
        self.show_all();
        Ok(())
    }

    /// Puts what a register reads as on the page, where the model has it.
    fn show(&self, reg: u8) {
        if let Some(value) = self.kept(reg) {
            self.page.set(reg, value);
        }
    }

    /// The same of all.
    pub(super) fn show_all(&self) {
        for reg in KEPT.into_iter().chain(LVT..LVT + LVTS as u8) {
            self.show(reg);
        }
    }

    /// The registers that the model has, and the page a copy of; `None` for any other.
    fn kept(&self, reg: u8) -> Option<u32> {
        Some(match reg {
            ID if self.x2apic() => self.id,
            ID => self.id << 24,
            VERSION => VERSION_VALUE,
            LDR => self.ldr,
            DFR => self.dfr,
            SVR => self.svr,
            ESR => self.esr,
            TIMER_INITIAL => self.timer.initial,
            TIMER_DIVIDE => self.timer.divide,
            _ => self.lvt[lvt_index(reg)?],
        })
    }

    pub(super) fn icr(&self) -> u64 {
        let high = if self.x2apic() { self.page.upper(ICR_LOW) } else { self.page.get(ICR_HIGH) };
        u64::from(high) << 32 | u64::from(self.page.get(ICR_LOW))
    }

    pub(super) fn set_icr(&mut self, icr: u64) {
        self.page.set(ICR_LOW, icr as u32);
        let high = (icr >> 32) as u32;
        if self.x2apic() { self.page.set_upper(ICR_LOW, high) } else { self.page.set(ICR_HIGH, high) }
    }

    /// A CPU with APIC-register virtualization has written to `offset` of the page (SDM 29.4.3.3): what it wrote takes
    /// effect, and the page shows again what the register reads as.
    pub(super) fn written(&mut self, offset: u64, now: Now) -> Action {
        let reg = (offset >> 4) as u8;
        let value = self.page.get(reg);
        if self.x2apic() {
            // MSRs that such a CPU leaves there (SDM 29.5): a vector that it does not send to itself, and with IPI
            // virtualization a command that it does not carry out.
            return match reg {
                SELF_IPI => Action::SelfIpi(value as u8),
                ICR_LOW => {
                    self.set_icr(self.icr() & ICR_KEPT);
                    Action::Ipi(self.icr())
                }
                _ => Action::None,
            };
        }
        self.mmio_write(offset & 0xFF0, 4, value.into(), now)
    }

    /// A read of the xAPIC page; parts of a register, never across two.
    pub(crate) fn mmio_read(&mut self, offset: u64, size: u8, now: Now) -> u64 {
        if offset & 0xF >= 4 || offset & 3 != 0 && (offset & 3) + u64::from(size) > 4 {
            return 0;
        }
        let reg = (offset >> 4) as u8;
        let value = match self.read(reg, now) {
            Some(value) => value,
            None => {
                self.error(ESR_ILLEGAL_REGISTER);
                0
            }
        };
        u64::from(value) >> (8 * (offset & 3))
    }

    /// A write to the xAPIC page: 32 bits, aligned to 16 bytes; others have no effect.
    pub(crate) fn mmio_write(&mut self, offset: u64, size: u8, value: u64, now: Now) -> Action {
        if offset & 0xF != 0 || size < 4 {
            return Action::None;
        }
        let reg = (offset >> 4) as u8;
        let value = value as u32;
        match reg {
            LDR => self.ldr = value & 0xFF00_0000,
            DFR => self.dfr = value | 0x0FFF_FFFF,
            ICR_HIGH => self.page.set(ICR_HIGH, value & 0xFF00_0000),
            ICR_LOW => {
                self.page.set(ICR_LOW, value & ICR_WRITABLE);
                return Action::Ipi(self.icr());
            }
            // The ID is fixed, as on current processors.
            ID | VERSION | PPR | TIMER_CURRENT => {}
            _ => match self.write(reg, value, now) {
                Some(action) => return action,
                None => {
                    self.error(ESR_ILLEGAL_REGISTER);
                }
            },
        }
        self.show(reg);
        Action::None
    }

    /// Reads one of the x2APIC MSRs.
    pub(crate) fn msr_read(&mut self, reg: u8, now: Now) -> Result<u64, GpFault> {
        if !self.x2apic() {
            return Err(GpFault);
        }
        match reg {
            ICR_LOW => Ok(self.icr()),
            ICR_HIGH | DFR | EOI | SELF_IPI => Err(GpFault),
            _ => self.read(reg, now).map(u64::from).ok_or(GpFault),
        }
    }

    /// Writes one of the x2APIC MSRs; reserved bits and read-only registers fault.
    pub(crate) fn msr_write(&mut self, reg: u8, value: u64, now: Now) -> Result<Action, GpFault> {
        let fits = match reg {
            ICR_LOW => value & !(0xFFFF_FFFF << 32 | u64::from(ICR_WRITABLE) | 1 << 12) == 0,
            TPR | SELF_IPI => value <= 0xFF,
            EOI | ESR => value == 0,
            SVR => value & !0x13FF == 0,
            TIMER_DIVIDE => value & !0xB == 0,
            TIMER_INITIAL => value >> 32 == 0,
            _ => match lvt_index(reg) {
                Some(i) => value & !u64::from(self.lvt_mask(i) | 1 << 12 | 1 << 14) == 0,
                None => false,
            },
        };
        if !self.x2apic() || !fits {
            return Err(GpFault);
        }
        match reg {
            ICR_LOW => {
                self.set_icr(value & ICR_KEPT);
                Ok(Action::Ipi(self.icr()))
            }
            SELF_IPI => Ok(Action::SelfIpi(value as u8)),
            _ => self.write(reg, value as u32, now).ok_or(GpFault),
        }
    }

    /// The registers that read alike in both modes; `None` where there is none.
    fn read(&mut self, reg: u8, now: Now) -> Option<u32> {
        Some(match reg {
            APR | EOI | RRD if !self.x2apic() => 0,
            PPR => u32::from(self.ppr()),
            TPR | ISR..=IRR_LAST | ICR_LOW | ICR_HIGH => self.page.get(reg),
            TIMER_CURRENT => self.timer_count(now),
            _ => self.kept(reg)?,
        })
    }

    /// The registers that are written alike in both modes; `None` where there is none.
    fn write(&mut self, reg: u8, value: u32, now: Now) -> Option<Action> {
        match reg {
            TPR => self.set_tpr(value as u8),
            EOI => return Some(self.end_of_interrupt().map_or(Action::None, Action::Eoi)),
            SVR => {
                self.svr = value & 0x1FF;
                if value & SVR_ENABLE == 0 {
                    self.run_timer(now);
                    self.lvt.iter_mut().for_each(|lvt| *lvt |= LVT_MASKED);
                    self.show_all();
                }
            }
            ESR => {
                self.esr = self.errors;
                self.errors = 0;
            }
            TIMER_INITIAL => self.write_timer_initial(value, now),
            TIMER_DIVIDE => self.write_timer_divide(value, now),
            _ => {
                let i = lvt_index(reg)?;
                let forced = if self.svr & SVR_ENABLE == 0 { LVT_MASKED } else { 0 };
                let value = value & self.lvt_mask(i) | forced;
                if i == LVT_TIMER {
                    self.write_timer_lvt(value, now);
                    self.show(TIMER_INITIAL);
                } else {
                    self.lvt[i] = value;
                }
            }
        }
        self.show(reg);
        Some(Action::None)
    }

    pub(super) fn lvt_mask(&self, i: usize) -> u32 {
        let deadline_mode = if i == LVT_TIMER && self.features.tsc_deadline { 1 << 18 } else { 0 };
        LVT_WRITABLE[i] | deadline_mode
    }

    /// Notes an IPI with an illegal vector; true when the error interrupt is a new request.
    pub(crate) fn send_illegal(&mut self) -> bool {
        self.error(ESR_SEND_ILLEGAL)
    }
}
