//! Making a vCPU current on a host CPU, and taking it off again.

use core::sync::atomic::{AtomicU64, Ordering};
use vmx_types::field;

use super::{IA32_TSC_AUX, LIVE_MSRS, Vcpu};
use crate::arch::{cpu, debug, msr, xstate};
use crate::guest::Guest;
use crate::policy::ledger;
use crate::vmx::{ept, host, insn, slots, vmcs};

impl Vcpu {
    /// Makes this vCPU current on this CPU: VMCS, host fields, live registers, FPU. Cheap when it is already.
    pub(crate) fn make_current(&mut self, vm: &Guest) -> vmcs::Current {
        let this = cpu::this();
        let region = self.vmcs.hpa();
        if self.loaded_on != Some(this.index) {
            assert!(self.loaded_on.is_none(), "vCPU {} is still on CPU {:?}", self.index, self.loaded_on);
            // SAFETY: the region is ours, and `loaded_on` says that it is active nowhere.
            unsafe {
                insn::vmclear(region).expect("VMCLEAR");
                insn::vmptrld(region).expect("VMPTRLD");
            }
            current_vmcs().store(region.0, Ordering::Relaxed);
            self.launched = false;
            if let Some(checker) = &mut self.checker {
                checker.forget();
            }
            self.context.invalidate_host_rsp();
            host::write_host_state();
            self.load_live(vm);
            let vpid = host::this().is_some_and(|cpu| cpu.caps.vpid()).then(|| self.vpid.get());
            let eptp = vm.mmu.lock().root();
            ept::load(eptp, &vm.ran_on, self.last_on, vpid);
            (self.loaded_on, self.last_on) = (Some(this.index), Some(this.index));
        } else if current_vmcs().load(Ordering::Relaxed) != region.0 {
            // SAFETY: active on this CPU, see `loaded_on`.
            unsafe { insn::vmptrld(region).expect("VMPTRLD") };
            current_vmcs().store(region.0, Ordering::Relaxed);
        }
        self.vmcs.current()
    }

    /// Takes the vCPU off this CPU: everything of it is in memory then, and any CPU may run or export it.
    pub(crate) fn release(&mut self, vm: &Guest) {
        let Some(on) = self.loaded_on else { return };
        assert_eq!(on, cpu::this().index, "a vCPU is released on the CPU that holds it");
        let vmcs = self.make_current(vm);
        self.drain_pml(vm, vmcs);
        self.save_live();
        // SAFETY: the region is ours and active on this CPU only.
        unsafe { insn::vmclear(self.vmcs.hpa()).expect("VMCLEAR") };
        current_vmcs().store(0, Ordering::Relaxed);
        self.loaded_on = None;
    }

    /// The host CPU that holds the vCPU's registers, if any.
    pub(crate) fn loaded_on(&self) -> Option<usize> {
        self.loaded_on
    }

    fn load_live(&mut self, vm: &Guest) {
        let host = host::this().expect("VMX is on");
        if slots::plan().ibpb && host.last_vm.swap(vm.id, Ordering::Relaxed) != vm.id {
            msr::write(msr::IA32_PRED_CMD, 1);
        }
        for (number, value) in LIVE_MSRS.into_iter().zip(self.live.msrs) {
            msr::write(number, value);
        }
        // Nothing of a guest that ran here before is left in it, also where this one cannot read it.
        if ledger::has_tsc_aux() {
            msr::write(IA32_TSC_AUX, if self.policy.has_rdtscp() { self.live.tsc_aux } else { 0 });
        }
        if let Some(value) = self.tsx_ctrl {
            msr::write(msr::IA32_TSX_CTRL, value);
        }
        debug::load(self.live.cr2, &self.live.debug);
        xstate::load(&self.xsave, self.policy.xcr0_allowed(), self.xcr0);
    }

    fn save_live(&mut self) {
        for (number, value) in LIVE_MSRS.into_iter().zip(&mut self.live.msrs) {
            *value = msr::read(number);
        }
        if self.policy.has_rdtscp() {
            self.live.tsc_aux = msr::read(IA32_TSC_AUX);
        }
        (self.live.cr2, self.live.debug) = debug::save();
        xstate::save(&mut self.xsave, self.policy.xcr0_allowed());
    }

    /// The same for a vCPU that this CPU holds but does not run. One that no CPU holds has no log left.
    pub(crate) fn drain_log_of_stopped(&mut self, vm: &Guest) {
        if self.loaded_on.is_some() {
            let vmcs = self.make_current(vm);
            self.drain_pml(vm, vmcs);
        }
    }

    /// Moves the page-modification log into the VM's set of written pages.
    pub(crate) fn drain_pml(&mut self, vm: &Guest, vmcs: vmcs::Current) {
        if let Some(pml) = &self.pml {
            vm.memory.logged.insert_all(pml.logged(vmcs.read(field::PML_INDEX)));
            vmcs.write(field::PML_INDEX, crate::vmx::pml::ENTRIES - 1);
        }
    }
}

/// The address of the VMCS that is current on this CPU.
fn current_vmcs() -> &'static AtomicU64 {
    &host::this().expect("VMX is on").current_vmcs
}
