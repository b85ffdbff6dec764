//! Making a vCPU current on a host CPU, and taking it off again.

use core::sync::atomic::Ordering;
use vmx_types::field;

use super::{IA32_TSC_AUX, LIVE_MSRS, Vcpu, VmxVcpu};
use crate::guest::Guest;
use crate::policy::ledger;
use hw::arch::{debug, msr, xstate};
use hw::vmx::vmcs::{Came, Current, Loaded};
use hw::vmx::{host, pml, slots};

impl VmxVcpu {
    /// Makes this vCPU current on this CPU: VMCS, host fields, live registers, FPU. Cheap when it is already.
    pub(crate) fn make_current(&mut self, vm: &Guest) -> (&mut Vcpu, Loaded<'_>) {
        let (loaded, came) = self.vmcs.load();
        if let Some(Came { from }) = came {
            self.vcpu.arrive(vm, from);
        }
        (&mut self.vcpu, loaded)
    }

    /// Takes the vCPU off this CPU: everything of it is in memory then, and any CPU may run or export it.
    pub(crate) fn release(&mut self, vm: &Guest) {
        if self.vmcs.loaded_on().is_none() {
            return;
        }
        let (vcpu, loaded) = self.make_current(vm);
        vcpu.drain_pml(vm, loaded.current());
        vcpu.save_live();
        self.vmcs.unload();
    }

    /// The host CPU that holds the vCPU's registers, if any.
    pub(crate) fn loaded_on(&self) -> Option<usize> {
        self.vmcs.loaded_on()
    }

    /// Moves the page-modification log of a vCPU that this CPU holds but does not run. One that no CPU holds has no log left.
    pub(crate) fn drain_log_of_stopped(&mut self, vm: &Guest) {
        if self.loaded_on().is_some() {
            let (vcpu, loaded) = self.make_current(vm);
            vcpu.drain_pml(vm, loaded.current());
        }
    }
}

impl Vcpu {
    /// It has come to this CPU from another one, or from memory.
    fn arrive(&mut self, vm: &Guest, from: Option<usize>) {
        if let Some(checker) = &mut self.checker {
            checker.forget();
        }
        self.load_live(vm);
        let vpid = host::this().is_some_and(|cpu| cpu.caps.vpid()).then(|| self.vpid.get());
        vm.comes(from, vpid);
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

    /// Moves the page-modification log into the VM's set of written pages.
    pub(crate) fn drain_pml(&mut self, vm: &Guest, vmcs: Current<'_>) {
        if let Some(pml) = &self.pml {
            let logged = pml.logged(vmcs.read(field::PML_INDEX));
            vm.mailboxes[self.index as usize].has_dirtied(logged.len() as u64);
            vm.memory.logged.insert_all(logged);
            vmcs.write(field::PML_INDEX, pml::ENTRIES - 1);
        }
    }
}
