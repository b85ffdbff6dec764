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
const VERSION: u32 = 0x0005_0014;

/// Register numbers: the offset in the page / 16, the MSR - 0x800.
const ID: u8 = 0x02;
const VERSION_REG: u8 = 0x03;
const TPR: u8 = 0x08;
const PPR: u8 = 0x0A;
const EOI: u8 = 0x0B;
const LDR: u8 = 0x0D;
const DFR: u8 = 0x0E;
const SVR: u8 = 0x0F;
const ESR: u8 = 0x28;
const ICR_LOW: u8 = 0x30;
const ICR_HIGH: u8 = 0x31;
const TIMER_INITIAL: u8 = 0x38;
const TIMER_CURRENT: u8 = 0x39;
const TIMER_DIVIDE: u8 = 0x3E;
const SELF_IPI: u8 = 0x3F;

/// The bits of the ICR's low half that a write keeps: not delivery status (12) and the reserved ones.
const ICR_WRITABLE: u64 = 0xC_CFFF;

fn lvt_index(reg: u8) -> Option<usize> {
    let index = usize::from(reg).checked_sub(0x32)?;
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
            self.icr &= 0xFFFF_FFFF;
        }
        Ok(())
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
            ICR_HIGH => self.icr = self.icr & 0xFFFF_FFFF | u64::from(value & 0xFF00_0000) << 32,
            ICR_LOW => {
                self.icr = self.icr & !0xFFFF_FFFF | u64::from(value) & ICR_WRITABLE;
                return Action::Ipi(self.icr);
            }
            // The ID is fixed, as on current processors.
            ID | VERSION_REG | PPR | TIMER_CURRENT => {}
            _ => match self.write(reg, value, now) {
                Some(action) => return action,
                None => {
                    self.error(ESR_ILLEGAL_REGISTER);
                }
            },
        }
        Action::None
    }

    /// Reads one of the x2APIC MSRs.
    pub(crate) fn msr_read(&mut self, reg: u8, now: Now) -> Result<u64, GpFault> {
        if !self.x2apic() {
            return Err(GpFault);
        }
        match reg {
            ICR_LOW => Ok(self.icr),
            ICR_HIGH | DFR | EOI | SELF_IPI => Err(GpFault),
            _ => self.read(reg, now).map(u64::from).ok_or(GpFault),
        }
    }

    /// Writes one of the x2APIC MSRs; reserved bits and read-only registers fault.
    pub(crate) fn msr_write(&mut self, reg: u8, value: u64, now: Now) -> Result<Action, GpFault> {
        let fits = match reg {
            ICR_LOW => value & !(0xFFFF_FFFF << 32 | ICR_WRITABLE | 1 << 12) == 0,
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
                self.icr = value & (0xFFFF_FFFF << 32 | ICR_WRITABLE);
                Ok(Action::Ipi(self.icr))
            }
            SELF_IPI => Ok(Action::SelfIpi(value as u8)),
            _ => self.write(reg, value as u32, now).ok_or(GpFault),
        }
    }

    /// The registers that read alike in both modes; `None` where there is none.
    fn read(&mut self, reg: u8, now: Now) -> Option<u32> {
        let word = usize::from(reg & 7);
        Some(match reg {
            ID if self.x2apic() => self.id,
            ID => self.id << 24,
            VERSION_REG => VERSION,
            TPR => u32::from(self.tpr),
            0x09 | EOI | 0x0C if !self.x2apic() => 0,
            PPR => u32::from(self.ppr()),
            LDR => self.ldr,
            DFR => self.dfr,
            SVR => self.svr,
            0x10..=0x17 => self.isr[word],
            0x18..=0x1F => self.tmr[word],
            0x20..=0x27 => self.irr[word],
            ESR => self.esr,
            ICR_LOW => self.icr as u32,
            ICR_HIGH => (self.icr >> 32) as u32,
            TIMER_INITIAL => self.timer.initial,
            TIMER_CURRENT => self.timer_count(now),
            TIMER_DIVIDE => self.timer.divide,
            _ => self.lvt[lvt_index(reg)?],
        })
    }

    /// The registers that are written alike in both modes; `None` where there is none.
    fn write(&mut self, reg: u8, value: u32, now: Now) -> Option<Action> {
        match reg {
            TPR => self.tpr = value as u8,
            EOI => return Some(self.eoi().map_or(Action::None, Action::Eoi)),
            SVR => {
                self.svr = value & 0x1FF;
                if value & SVR_ENABLE == 0 {
                    self.run_timer(now);
                    self.lvt.iter_mut().for_each(|lvt| *lvt |= LVT_MASKED);
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
                if i == LVT_TIMER { self.write_timer_lvt(value, now) } else { self.lvt[i] = value }
            }
        }
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
