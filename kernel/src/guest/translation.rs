//! The guest's translation, as its vCPUs ask it: each by its number.

use ::translation::{Backing, Cause, Fault, HwPaging, Invalid, OutOfMemory, Shadowed, View};
use vmx_types::paging::ControlRegs;

use super::Guest;
use hw::vmx::flush::{self, Flushing};
use hw::vmx::translation::{self, Translation};

impl Guest {
    /// How a vCPU with these control registers stands in the hardware.
    pub(crate) fn paging(&self, vcpu: u32, regs: &ControlRegs) -> HwPaging {
        self.mmu.lock().view(vcpu).activate(regs, None)
    }

    /// A vCPU has loaded control registers, and these PDPTEs. What is the hypervisor's of them, if anything.
    #[inline(always)]
    pub(crate) fn loads(&self, vcpu: u32, regs: &ControlRegs, pdptes: Option<[u64; 4]>) -> Option<Shadowed> {
        if !Translation::FOLLOWS_PAGING {
            return None;
        }
        match self.mmu.lock().view(vcpu).activate(regs, pdptes) {
            HwPaging::Nested(_) => None,
            HwPaging::Shadowed(shadowed) => Some(shadowed),
        }
    }

    /// A vCPU has invalidated translations of its own.
    #[inline(always)]
    pub(crate) fn invalidates(&self, vcpu: u32, what: Invalid) {
        if Translation::FOLLOWS_PAGING {
            self.mmu.lock().view(vcpu).invalidate(what);
        }
    }

    /// Resolves a fault of a vCPU, if it is ours to resolve.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed then.
    #[inline(always)]
    pub(crate) fn fault(&self, vcpu: u32, cause: Cause) -> Result<Fault, OutOfMemory> {
        self.mmu.lock().view(vcpu).fault(cause, &self.memory, &self.memory.logged)
    }

    /// A vCPU comes to this CPU; it was on CPU `from` before.
    pub(crate) fn comes(&self, from: Option<usize>, vpid: Option<u16>) {
        let cached = self.mmu.lock().cached();
        translation::load(cached, &self.ran_on, from, vpid);
    }

    /// Has every CPU that ran the guest drop what it has cached of the tables as they were.
    pub(crate) fn flush(&self) -> Flushing {
        let cached = self.mmu.lock().cached();
        Flushing::ask(&self.ran_on, cached)
    }

    /// Has this CPU do so: enough where no other one can have it.
    pub(crate) fn flush_here(&self) {
        let cached = self.mmu.lock().cached();
        flush::here(cached);
    }
}
