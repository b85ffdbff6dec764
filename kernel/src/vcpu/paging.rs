//! The guest's control registers: architectural values in [`Vcpu`], hardware values in the VMCS.

use translation::{Backing, GuestPaging, Shadowed};
use vm_types::{Gpa, GuestMemory};
use vmx_types::field;
use vmx_types::paging::{
    CR4_PGE, ControlRegs, CrFault, Hardware, Limits, NeedsRealMode, PagingCaps, hardware, load_pdptes,
    pdpte_table,
};

use super::Vcpu;
use crate::guest::{Guest, IDENTITY_PAGE};
use hw::vmx::translation::Translation;
use hw::vmx::vmcs::{CR4_GUEST_OWNED, Current};
use hw::vmx::{flush, host};

impl Vcpu {
    /// The limits that the VM's level sets to the control registers.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            unrestricted: host::boot_cpu().is_some_and(|cpu| cpu.caps.unrestricted()),
            cr4: self.policy.cr4_allowed(),
            efer: self.policy.efer_allowed(),
            phys_bits: self.policy.phys_bits(),
        }
    }

    /// The control registers as the guest sees them now.
    pub(crate) fn control_regs(&mut self, vmcs: Current<'_>) -> ControlRegs {
        let owned = CR4_GUEST_OWNED & self.policy.cr4_allowed();
        self.regs.cr4 = self.regs.cr4 & !owned | vmcs.read(field::GUEST_CR4) & owned;
        if !self.cr3_exiting {
            self.regs.cr3 = vmcs.read(field::GUEST_CR3);
        }
        self.regs
    }

    /// Makes `new` the guest's control registers, in the VMCS too, and `pdptes`, where they are loaded.
    ///
    /// # Errors
    /// [`NeedsRealMode`] where this CPU cannot run the guest in real mode; nothing is changed then.
    pub(crate) fn set_control_regs(
        &mut self,
        vm: &Guest,
        vmcs: Current<'_>,
        new: ControlRegs,
        pdptes: Option<[u64; 4]>,
    ) -> Result<(), NeedsRealMode> {
        let cpu = host::this().expect("VMX is on");
        let caps = PagingCaps {
            unrestricted: cpu.caps.unrestricted(),
            cr0_fixed0: cpu.caps.cr0_fixed0,
            cr4_fixed0: cpu.caps.cr4_fixed0,
            identity_cr3: IDENTITY_PAGE.0,
        };
        let mut hw = hardware(&new, &caps)?;
        let guest = GuestPaging { regs: new, pdptes, phys_bits: self.policy.phys_bits() };
        let shadowed = vm.loads(self.index, &guest);
        if let Some(Shadowed { cr3, cr0, cr4 }) = shadowed {
            hw = Hardware { cr0: hw.cr0 | cr0, cr3, cr4: hw.cr4 | cr4, cr3_exiting: true, ..hw };
            self.own_pdptes = pdptes.or(self.own_pdptes).or(Some([0; 4]));
        }
        self.regs = new;
        self.cr3_exiting = hw.cr3_exiting;
        vmcs.write(field::GUEST_CR0, hw.cr0);
        vmcs.write(field::GUEST_CR3, hw.cr3);
        vmcs.write(field::GUEST_CR4, hw.cr4);
        vmcs.write(field::GUEST_IA32_EFER, hw.efer);
        vmcs.write(field::CR0_READ_SHADOW, new.cr0);
        vmcs.write(field::CR4_READ_SHADOW, new.cr4);
        // What a write of PGE drops of the hypervisor's tables is ours to drop.
        let kept = if shadowed.is_some() { CR4_PGE } else { 0 };
        vmcs.set_cr4_owned(self.policy.cr4_allowed() & !kept);
        self.entry.set_ia32e(hw.ia32e);
        vmcs.set_entry(self.entry);
        self.proc.set_cr3_exiting(hw.cr3_exiting);
        vmcs.set_proc(self.proc);
        // With EPT the CPU takes them from here, not from memory (SDM 26.3.2.4).
        if shadowed.is_none() {
            for (field, value) in field::GUEST_PDPTES.into_iter().zip(pdptes.into_iter().flatten()) {
                vmcs.write(field, value);
            }
        }
        if cpu.caps.vpid() {
            flush::linear(self.vpid.get());
        }
        Ok(())
    }

    /// The PDPTEs that were loaded last. With EPT the CPU loads them by itself.
    pub(crate) fn pdptes(&self, vmcs: Current<'_>) -> [u64; 4] {
        match self.own_pdptes {
            Some(own) if Translation::FOLLOWS_PAGING => own,
            _ => field::GUEST_PDPTES.map(|pdpte| vmcs.read(pdpte)),
        }
    }

    /// The PDPTEs that CR3 points to; addresses have `phys_bits` bits.
    ///
    /// # Errors
    /// [`CrFault::Pdpte`]: #GP(0), and none is loaded.
    pub(crate) fn read_pdptes(vm: &Guest, cr3: u64, phys_bits: u8) -> Result<[u64; 4], CrFault> {
        let mut table = [0; 32];
        if vm.memory.read(Gpa(pdpte_table(cr3)), &mut table).is_err() {
            table = [0xff; 32]; // what is not memory reads as ones
        }
        load_pdptes(&table, phys_bits)
    }
}
