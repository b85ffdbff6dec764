//! A new vCPU: its VMCS with every control set.

use alloc::boxed::Box;
use alloc::sync::Arc;
use cpu_policy::GuestPolicy;
use ept::OutOfMemory;
use vmx_types::control::{PinBased, ProcBased, ProcBased2};
use vmx_types::event::vector;
use vmx_types::field;
use vmx_types::paging::ControlRegs;
use vmx_types::state::MtrrState;

use super::{Activity, LiveRegs, Vcpu, Vpid, check};
use crate::guest::Guest;
use crate::policy::ledger;
use crate::vmx::host::HostCpu;
use crate::vmx::pml::{self, PmlBuffer};
use crate::vmx::vmcs::VmcsRegion;
use crate::vmx::xsave::XsaveArea;
use crate::vmx::{host, insn};

/// #DB and #AC are intercepted because their delivery can loop for ever in the CPU (CVE-2015-8104,
/// CVE-2015-5307); #MC because it is the host's.
const EXCEPTIONS: u32 = 1 << vector::DEBUG | 1 << vector::ALIGNMENT_CHECK | 1 << vector::MACHINE_CHECK;

/// Bitmaps that say which functions of an instruction exit under its control: all do.
const EXIT_BITMAPS: [(ProcBased2, field::Field<u64, field::ReadWrite>); 2] = [
    (ProcBased2::ENCLS_EXITING, field::ENCLS_EXITING_BITMAP),
    (ProcBased2::ENCLV_EXITING, field::ENCLV_EXITING_BITMAP),
];

impl Vcpu {
    /// A vCPU without state; [`Vcpu::import`] gives it one.
    pub(crate) fn new(
        index: u32,
        vpid: Vpid,
        cpu: &HostCpu,
        policy: Arc<GuestPolicy>,
    ) -> Result<Self, OutOfMemory> {
        Ok(Self {
            index,
            vpid,
            context: Box::default(),
            vmcs: VmcsRegion::new(cpu.caps.revision).ok_or(OutOfMemory)?,
            pml: if cpu.caps.pml() { Some(PmlBuffer::new().ok_or(OutOfMemory)?) } else { None },
            xsave: XsaveArea::new().ok_or(OutOfMemory)?,
            xcr0: 1,
            live: LiveRegs::default(),
            regs: ControlRegs::default(),
            cr3_exiting: false,
            proc: cpu.controls.proc,
            entry: cpu.controls.entry,
            tsx_ctrl: None,
            cpuid: policy.table().clone(),
            policy,
            tsc_adjust: 0,
            mtrr: MtrrState::default(),
            activity: Activity::Running,
            event: None,
            nmi_pending: false,
            attention: true,
            next_event: 0,
            deadline: 0,
            checker: check::checker(),
            launched: false,
            loaded_on: None,
            last_on: None,
        })
    }

    /// Another policy is in force from the next [`Vcpu::import`] on, before which the vCPU must not run.
    pub(crate) fn take_policy(&mut self, policy: Arc<GuestPolicy>) {
        self.cpuid = policy.table().clone();
        self.policy = policy;
    }

    /// Writes the controls and everything of the guest state that never changes. The VMCS is current.
    pub(super) fn write_controls(&mut self, vm: &Guest) {
        let cpu = host::this().expect("VMX is on");
        let controls = &cpu.controls;
        let caps = &cpu.caps;
        // What the level hides gives #UD, as far as VMX can: the ledger says the same of the same choice.
        let choice = ledger::enforcement(&self.policy);
        let mut proc2 = controls.proc2 | ProcBased2::from_bits_retain(choice.secondary & caps.proc2.may);
        self.tsx_ctrl = choice.tsx_ctrl;
        if vm.clock.scaling().is_some() {
            proc2 |= ProcBased2::USE_TSC_SCALING;
        }
        self.proc = controls.proc | ProcBased::from_bits_retain(choice.primary & caps.proc.may);
        let tertiary = choice.tertiary & caps.proc3;
        if tertiary != 0 {
            self.proc |= ProcBased::TERTIARY_CONTROLS;
        }
        // SAFETY: controls as clamped to this CPU's capabilities, addresses of pages that live as long as
        // the VM and this vCPU.
        unsafe {
            insn::write(field::PIN_BASED_CONTROLS, (controls.pin | PinBased::empty()).bits());
            insn::write(field::PROC_BASED_CONTROLS, self.proc.bits());
            insn::write(field::PROC_BASED_CONTROLS_2, proc2.bits());
            insn::write(field::EXIT_CONTROLS, controls.exit.bits());
            insn::write(field::ENTRY_CONTROLS, self.entry.bits());
            insn::write(field::EXCEPTION_BITMAP, EXCEPTIONS);
            insn::write(field::PAGE_FAULT_ERROR_MASK, 0);
            insn::write(field::PAGE_FAULT_ERROR_MATCH, 0);
            insn::write(field::CR3_TARGET_COUNT, 0);
            insn::write(field::EXIT_MSR_STORE_COUNT, 0);
            insn::write(field::EXIT_MSR_LOAD_COUNT, 0);
            insn::write(field::ENTRY_MSR_LOAD_COUNT, 0);
            insn::write(field::ENTRY_INTERRUPTION_INFO, 0);
            insn::write(field::MSR_BITMAP, vm.msr_bitmap.hpa().0);
            insn::write(field::EPT_POINTER, vm.mmu.lock().root());
            insn::write(field::CR0_MASK, u64::MAX);
            insn::write(field::VMCS_LINK_POINTER, u64::MAX);
            insn::write(field::GUEST_IA32_DEBUGCTL, 0);
            if caps.vpid() {
                insn::write(field::VPID, self.vpid.get());
            }
            if let Some(multiplier) = vm.clock.scaling() {
                insn::write(field::TSC_MULTIPLIER, multiplier);
            }
            if tertiary != 0 {
                insn::write(field::PROC_BASED_CONTROLS_3, tertiary);
            }
            for (control, bitmap) in EXIT_BITMAPS {
                if proc2.contains(control) {
                    insn::write(bitmap, u64::MAX);
                }
            }
            if proc2.contains(ProcBased2::ENABLE_XSAVES) {
                insn::write(field::XSS_EXITING_BITMAP, 0);
            }
            if let Some(log) = &self.pml {
                insn::write(field::PML_ADDRESS, log.hpa().0);
                insn::write(field::PML_INDEX, pml::ENTRIES - 1);
            }
        }
        self.write_tsc_offset(vm);
    }

    /// Brings the VMCS up to date with the VM's clock.
    pub(crate) fn write_tsc_offset(&self, vm: &Guest) {
        // SAFETY: the offset changes what the guest reads, nothing else.
        unsafe { insn::write(field::TSC_OFFSET, vm.clock.offset().wrapping_add(self.tsc_adjust)) };
    }
}
