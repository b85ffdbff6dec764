//! The guest's translation, as its vCPUs ask it: each by its number.

use ::translation::{Backing, Cause, Fault, GuestPaging, HwPaging, Invalid, OutOfMemory, Shadowed, View};

use devices::LAPIC_BASE;
use vm_types::Gpa;

use super::Guest;
use hw::vmx::flush::{self, Flushing};
use hw::vmx::translation::{self, Translation};

impl Guest {
    /// How a vCPU stands in the hardware when it has loaded these control registers.
    pub(crate) fn paging(&self, vcpu: u32, guest: &GuestPaging) -> HwPaging {
        self.mmu.lock().view(vcpu).activate(guest)
    }

    /// A vCPU has loaded control registers. What is the hypervisor's of them, if anything.
    #[inline(always)]
    pub(crate) fn loads(&self, vcpu: u32, guest: &GuestPaging) -> Option<Shadowed> {
        if !Translation::FOLLOWS_PAGING {
            return None;
        }
        match self.paging(vcpu, guest) {
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

    /// A local APIC is in x2APIC mode: an access to where its registers were reaches nothing, and what tells the CPU that it is
    /// one to an APIC is off. So the page goes, and the other vCPUs of the VM exit for a violation from then on. They may do
    /// so later than this: what they have cached leads to the right exit as well.
    pub(crate) fn hide_apic(&self) {
        if self.apic_access.is_some() {
            if self.mmu.lock().unmap_device(Gpa(LAPIC_BASE)) {
                drop(self.flush());
            }
            self.flush_here();
        }
    }

    /// No local APIC is in x2APIC mode any more.
    ///
    /// # Errors
    /// [`OutOfMemory`]: accesses exit for violations.
    pub(crate) fn show_apic(&self) -> Result<(), OutOfMemory> {
        self.apic_access
            .as_ref()
            .map_or(Ok(()), |page| self.mmu.lock().map_device(Gpa(LAPIC_BASE), page.hpa()))
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

    /// Has this CPU do so.
    fn flush_here(&self) {
        let cached = self.mmu.lock().cached();
        flush::here(cached);
    }
}
