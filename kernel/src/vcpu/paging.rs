//! The guest's control registers: architectural values in [`Vcpu`], hardware values in the VMCS.

use vm_types::{Gpa, GuestMemory};
use vmx_types::control::{EntryControls, ProcBased};
use vmx_types::field;
use vmx_types::paging::{ControlRegs, Limits, NeedsRealMode, PagingCaps, hardware};

use super::Vcpu;
use crate::vm::{IDENTITY_PAGE, Vm};
use crate::vmx::insn::{self, Scope};
use crate::vmx::{host, vmcs};

/// CR4 bits that the guest changes without an exit, where its level has them: TSD, DE, PGE, PCE, OSXMMEXCPT.
const CR4_GUEST_OWNED: u64 = 1 << 2 | 1 << 3 | 1 << 7 | 1 << 8 | 1 << 10;

impl Vcpu {
    /// The limits that the VM's level sets to the control registers.
    pub(crate) fn limits(vm: &Vm) -> Limits {
        Limits {
            unrestricted: host::boot_cpu().is_some_and(|cpu| cpu.caps.unrestricted()),
            cr4: vm.policy.cr4_allowed(),
            efer: vm.policy.efer_allowed(),
            phys_bits: vm.policy.phys_bits(),
        }
    }

    /// The control registers as the guest sees them now.
    pub(crate) fn control_regs(&mut self, vm: &Vm, vmcs: vmcs::Current) -> ControlRegs {
        let owned = CR4_GUEST_OWNED & vm.policy.cr4_allowed();
        self.regs.cr4 = self.regs.cr4 & !owned | vmcs.read(field::GUEST_CR4) & owned;
        if !self.cr3_exiting {
            self.regs.cr3 = vmcs.read(field::GUEST_CR3);
        }
        self.regs
    }

    /// Makes `new` the guest's control registers, in the VMCS too.
    ///
    /// # Errors
    /// [`NeedsRealMode`] where this CPU cannot run the guest in real mode; nothing is changed then.
    pub(crate) fn set_control_regs(
        &mut self,
        vm: &Vm,
        vmcs: vmcs::Current,
        new: ControlRegs,
    ) -> Result<(), NeedsRealMode> {
        let cpu = host::this().expect("VMX is on");
        let caps = PagingCaps {
            unrestricted: cpu.caps.unrestricted(),
            cr0_fixed0: cpu.caps.cr0_fixed0,
            cr4_fixed0: cpu.caps.cr4_fixed0,
            identity_cr3: IDENTITY_PAGE.0,
        };
        let hw = hardware(&new, &caps)?;
        let reload_pdptes = new.pae_paging() && (new != self.regs);
        self.regs = new;
        self.cr3_exiting = hw.cr3_exiting;
        vmcs.write(field::GUEST_CR0, hw.cr0);
        vmcs.write(field::GUEST_CR3, hw.cr3);
        vmcs.write(field::GUEST_CR4, hw.cr4);
        vmcs.write(field::GUEST_IA32_EFER, hw.efer);
        vmcs.write(field::CR0_READ_SHADOW, new.cr0);
        vmcs.write(field::CR4_READ_SHADOW, new.cr4);
        vmcs.write(field::CR4_MASK, !(CR4_GUEST_OWNED & vm.policy.cr4_allowed()));
        self.entry.set(EntryControls::IA32E_MODE_GUEST, hw.ia32e);
        vmcs.write(field::ENTRY_CONTROLS, self.entry.bits());
        let must_exit = ProcBased::CR3_LOAD_EXITING | ProcBased::CR3_STORE_EXITING;
        self.proc.set(must_exit, hw.cr3_exiting);
        vmcs.write(field::PROC_BASED_CONTROLS, self.proc.bits());
        if reload_pdptes {
            self.load_pdptes(vm, vmcs, new.cr3);
        }
        if cpu.caps.vpid() {
            insn::invvpid(Scope::Single, vm.vpid(self.index));
        }
        Ok(())
    }

    /// The four PDPTEs of PAE paging come from the VMCS when EPT is on (SDM 26.3.2.4).
    fn load_pdptes(&self, vm: &Vm, vmcs: vmcs::Current, cr3: u64) {
        let mut bytes = [0; 32];
        // A CR3 outside RAM reads as not-present entries: the guest then faults by itself.
        let _ = vm.memory.read(Gpa(cr3 & 0xffff_ffe0), &mut bytes);
        let fields = [field::GUEST_PDPTE0, field::GUEST_PDPTE1, field::GUEST_PDPTE2, field::GUEST_PDPTE3];
        for (field, entry) in fields.into_iter().zip(bytes.chunks_exact(8)) {
            let entry = u64::from_le_bytes(entry.try_into().expect("eight bytes"));
            // reserved bits would fail the entry; a present one with reserved bits set reads as not present
            let reserved = entry & 1 != 0 && entry & 0xfff0_0000_0000_01e6 != 0;
            vmcs.write(field, if reserved { 0 } else { entry });
        }
    }
}
