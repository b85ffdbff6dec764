//! A new vCPU: its VMCS with every control set.

use alloc::boxed::Box;
use alloc::sync::Arc;
use cpu_policy::GuestPolicy;
use devices::LocalApic;
use translation::{GuestPaging, OutOfMemory};
use vmx_types::apic::ApicVirt;
use vmx_types::control::ProcBased2;
use vmx_types::paging::ControlRegs;
use vmx_types::state::MtrrState;

use super::{Activity, LiveRegs, Vcpu, VmxVcpu, Vpid, check};
use crate::guest::Guest;
use crate::policy::ledger;
use hw::mm::held::Held;
use hw::vmx::host::HostCpu;
use hw::vmx::pml::PmlBuffer;
use hw::vmx::vmcs::{Current, EntryWord, Loaded, ProcWord, Setup, Vmcs};
use hw::vmx::xsave::XsaveArea;

impl VmxVcpu {
    /// A vCPU without state; [`VmxVcpu::import`] gives it one.
    ///
    /// # Errors
    /// The host has no memory for it.
    pub(crate) fn new(
        index: u32,
        vpid: Vpid,
        cpu: &HostCpu,
        policy: Arc<GuestPolicy>,
        apic: LocalApic,
    ) -> Result<Self, OutOfMemory> {
        let vcpu = Vcpu {
            index,
            vpid,
            context: Box::default(),
            pml: if cpu.caps.pml() { Some(Arc::new(PmlBuffer::new().ok_or(OutOfMemory)?)) } else { None },
            xsave: XsaveArea::new().ok_or(OutOfMemory)?,
            xcr0: 1,
            live: LiveRegs::default(),
            regs: ControlRegs::default(),
            cr3_exiting: false,
            own_pdptes: None,
            proc: ProcWord::new(cpu),
            entry: EntryWord::new(cpu),
            tsx_ctrl: None,
            cpuid: policy.table().clone(),
            policy,
            tsc_adjust: 0,
            apic,
            apic_base: 0,
            apic_virt: ApicVirt::empty(),
            mtrr: MtrrState::default(),
            activity: Activity::Running,
            event: None,
            nmi_pending: false,
            attention: true,
            leaves: None,
            next_event: 0,
            deadline: 0,
            checker: check::checker(),
        };
        Ok(Self { vcpu, vmcs: Vmcs::new(cpu).ok_or(OutOfMemory)? })
    }
}

impl Vcpu {
    /// Another policy is in force from the next [`VmxVcpu::import`] on, before which the vCPU must not run.
    pub(crate) fn take_policy(&mut self, policy: Arc<GuestPolicy>) {
        self.cpuid = policy.table().clone();
        self.policy = policy;
    }

    /// Writes the controls and everything of the guest state that never changes. `regs`: what it is to begin with.
    pub(super) fn write_controls(&mut self, vm: &Guest, vmcs: &mut Loaded<'_>, regs: &ControlRegs) {
        // What the level hides gives #UD, as far as VMX can: the ledger says the same of the same choice.
        let choice = ledger::enforcement(&self.policy);
        self.tsx_ctrl = choice.tsx_ctrl;
        let guest = GuestPaging { regs: *regs, pdptes: None, phys_bits: self.policy.phys_bits() };
        (self.proc, self.entry) = vmcs.set_up(&Setup {
            primary: choice.primary,
            secondary: choice.secondary | self.spin_control(vm),
            tertiary: choice.tertiary,
            msr_bitmaps: &vm.msr_bitmaps,
            apic: self.apic.page(),
            posted: Some((vm.apics.posted(), self.index)),
            apic_access: vm.apic_access.as_ref().map(Held::hpa),
            paging: vm.paging(self.index, &guest),
            vpid: self.vpid.get(),
            tsc_multiplier: vm.clock.scaling(),
            pml: self.pml.as_ref(),
        });
        self.write_tsc_offset(vm, vmcs.current());
        self.apic_base = 0;
    }

    /// One that is alone has nobody to wait for.
    fn spin_control(&self, vm: &Guest) -> u32 {
        if vm.mailboxes.len() > 1 { ProcBased2::PAUSE_LOOP_EXITING.bits() } else { 0 }
    }

    /// Brings the VMCS up to date with the VM's clock.
    pub(crate) fn write_tsc_offset(&self, vm: &Guest, vmcs: Current<'_>) {
        vmcs.set_tsc_offset(vm.clock.offset().wrapping_add(self.tsc_adjust));
    }
}
