//! Memory-mapped registers and the MSRs of the local APIC.

use super::Platform;
use crate::effect::Effect;
use crate::lapic::{GpFault, LAPIC_BASE};
use vm_types::{Gpa, Now, PAGE_SIZE};
use x86::msr::{APIC_BASE as IA32_APIC_BASE, TSC_DEADLINE as IA32_TSC_DEADLINE};

const X2APIC_FIRST: u32 = 0x800;
const X2APIC_LAST: u32 = 0x83F;

/// Whether [`Platform::msr_read`] and [`Platform::msr_write`] answer for `msr`.
#[must_use]
pub fn owns_msr(msr: u32) -> bool {
    matches!(msr, IA32_APIC_BASE | IA32_TSC_DEADLINE | X2APIC_FIRST..=X2APIC_LAST)
}

impl Platform {
    /// A load of `size` bytes (1, 2, 4 or 8) by `vcpu`. Where nothing answers it reads all ones.
    pub fn mmio_read(&mut self, vcpu: usize, gpa: Gpa, size: u8, now: Now) -> u64 {
        self.advance(now);
        let (page, offset) = (gpa.0 & !(PAGE_SIZE - 1), gpa.0 & (PAGE_SIZE - 1));
        let ones = u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)));
        let value = match self.lapics.get_mut(vcpu) {
            Some(lapic) if page == LAPIC_BASE => {
                if !lapic.answers() {
                    return ones;
                }
                let before = lapic.highest_request();
                let value = lapic.mmio_read(offset, size, now);
                // An illegal register raises the error interrupt.
                if lapic.highest_request() != before {
                    self.mark(vcpu);
                }
                value
            }
            _ => match self.board.load(page, offset) {
                Some(value) => value,
                None => self.load_from_bus(gpa, size, now).unwrap_or(u64::MAX),
            },
        };
        value & ones
    }

    /// A store of the low `size` bytes of `value` by `vcpu`.
    pub fn mmio_write(&mut self, vcpu: usize, gpa: Gpa, size: u8, value: u64, now: Now) -> Option<Effect> {
        self.advance(now);
        let (page, offset) = (gpa.0 & !(PAGE_SIZE - 1), gpa.0 & (PAGE_SIZE - 1));
        match self.lapics.get_mut(vcpu) {
            Some(lapic) if page == LAPIC_BASE => {
                if !lapic.answers() {
                    return None;
                }
                let action = lapic.mmio_write(offset, size, value, now);
                let effect = self.act(vcpu, action);
                self.update_next();
                effect
            }
            _ => {
                let (effect, touched) = match self.board.store(page, offset, value) {
                    Some(touched) => (None, touched),
                    None => self.pci.as_mut()?.store(gpa.0, size, value, now)?,
                };
                self.settle(touched);
                effect
            }
        }
    }

    fn load_from_bus(&mut self, gpa: Gpa, size: u8, now: Now) -> Option<u64> {
        let (value, touched) = self.pci.as_mut()?.load(gpa.0, size, now)?;
        self.settle(touched);
        Some(value)
    }

    /// RDMSR by `vcpu` of an MSR that [`owns_msr`] names.
    ///
    /// # Errors
    /// [`GpFault`] where the processor would raise #GP(0).
    pub fn msr_read(&mut self, vcpu: usize, msr: u32, now: Now) -> Result<u64, GpFault> {
        self.advance(now);
        let deadline = self.config.tsc_deadline;
        let lapic = self.lapics.get_mut(vcpu).ok_or(GpFault)?;
        match msr {
            IA32_APIC_BASE => Ok(lapic.base()),
            IA32_TSC_DEADLINE if deadline => Ok(lapic.tsc_deadline()),
            X2APIC_FIRST..=X2APIC_LAST => lapic.msr_read((msr - X2APIC_FIRST) as u8, now),
            _ => Err(GpFault),
        }
    }

    /// The guest wrote its TSC or IA32_TSC_ADJUST: `adjust` is what the TSC of `vcpu` shows beyond the VM's time line
    /// now. Timers that go by the TSC are looked at again.
    pub fn set_tsc_adjust(&mut self, vcpu: usize, adjust: u64, now: Now) {
        self.advance(now);
        if let Some(lapic) = self.lapics.get_mut(vcpu) {
            lapic.set_tsc_adjust(adjust, now);
        }
        self.update_next();
        self.advance(now);
    }

    /// After [`Platform::import`]: the same, of the state that was loaded.
    pub fn load_tsc_adjust(&mut self, vcpu: usize, adjust: u64) {
        if let Some(lapic) = self.lapics.get_mut(vcpu) {
            lapic.load_tsc_adjust(adjust);
        }
    }

    /// WRMSR by `vcpu` of an MSR that [`owns_msr`] names.
    ///
    /// # Errors
    /// [`GpFault`] where the processor would raise #GP(0); nothing is changed then.
    pub fn msr_write(
        &mut self,
        vcpu: usize,
        msr: u32,
        value: u64,
        now: Now,
    ) -> Result<Option<Effect>, GpFault> {
        self.advance(now);
        let deadline = self.config.tsc_deadline;
        let lapic = self.lapics.get_mut(vcpu).ok_or(GpFault)?;
        let effect = match msr {
            IA32_APIC_BASE => {
                lapic.write_base(value)?;
                self.mark(vcpu);
                None
            }
            IA32_TSC_DEADLINE if deadline => {
                lapic.write_tsc_deadline(value, now);
                None
            }
            X2APIC_FIRST..=X2APIC_LAST => {
                let action = lapic.msr_write((msr - X2APIC_FIRST) as u8, value, now)?;
                self.act(vcpu, action)
            }
            _ => return Err(GpFault),
        };
        self.update_next();
        // A deadline that lies in the past fires at once.
        self.advance(now);
        Ok(effect)
    }
}
