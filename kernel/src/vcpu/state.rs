//! A vCPU's state out of the VMCS and into it.

use alloc::format;
use alloc::vec::Vec;
use cpu_policy::{MsrWrite, spec_ctrl_bits};
use flex::MISC_FEATURES_ENABLES;
use translation::Invalid;
use vm_types::StateError;
use vmx_types::field::{self, Segment};
use vmx_types::state::{SegmentState, TableState, VcpuState, XSAVE_MIN, clean_xsave};

use super::{Activity, Vcpu, VmxVcpu};
use crate::guest::Guest;
use crate::policy;
use hw::vmx::slots;
use hw::vmx::xsave::XsaveArea;

const RSP: usize = x86::RSP as usize;

impl VmxVcpu {
    /// The architectural state. The vCPU is stopped; it is taken off this CPU afterwards.
    pub(crate) fn export(&mut self, vm: &Guest) -> VcpuState {
        let (vcpu, loaded) = self.make_current(vm);
        let vmcs = loaded.current();
        let regs = vcpu.control_regs(vmcs);
        let mut gprs = vcpu.context.gprs;
        gprs[RSP] = vmcs.read(field::GUEST_RSP);
        let segments = Segment::ALL.map(|s| SegmentState {
            selector: vmcs.read(s.selector()),
            base: vmcs.read(s.base()),
            limit: vmcs.read(s.limit()),
            rights: vmcs.read(s.access_rights()),
        });
        let mut state = VcpuState {
            gprs,
            rip: vmcs.read(field::GUEST_RIP),
            rflags: vmcs.read(field::GUEST_RFLAGS),
            cr0: regs.cr0,
            cr3: regs.cr3,
            cr4: regs.cr4,
            efer: regs.efer,
            xcr0: vcpu.xcr0,
            segments,
            gdtr: TableState {
                base: vmcs.read(field::GUEST_GDTR_BASE),
                limit: vmcs.read(field::GUEST_GDTR_LIMIT),
            },
            idtr: TableState {
                base: vmcs.read(field::GUEST_IDTR_BASE),
                limit: vmcs.read(field::GUEST_IDTR_LIMIT),
            },
            dr7: vmcs.read(field::GUEST_DR7),
            sysenter: [
                u64::from(vmcs.read(field::GUEST_IA32_SYSENTER_CS)),
                vmcs.read(field::GUEST_IA32_SYSENTER_ESP),
                vmcs.read(field::GUEST_IA32_SYSENTER_EIP),
            ],
            pat: vmcs.read(field::GUEST_IA32_PAT),
            halted: vcpu.activity == Activity::Halted,
            wait_for_sipi: vcpu.activity == Activity::WaitForSipi,
            interruptibility: vmcs.read(field::GUEST_INTERRUPTIBILITY),
            pending_debug: vmcs.read(field::GUEST_PENDING_DEBUG),
            event_info: vcpu.event.map_or(0, |e| e.info()),
            event_error_code: vcpu.event.and_then(|e| e.error_code).unwrap_or(0),
            event_length: vcpu.event.map_or(0, |e| u32::from(e.length)),
            nmi_pending: vcpu.nmi_pending,
            tsc_adjust: vcpu.tsc_adjust,
            mtrr: vcpu.mtrr,
            spec_ctrl: (spec_ctrl_bits(vcpu.policy.features()) != 0).then_some(vcpu.context.spec_ctrl()),
            misc_features: vcpu.cpuid.is_faulting().then_some(1),
            pdptes: regs.pae_paging().then(|| vcpu.pdptes(vmcs)),
            ..VcpuState::default()
        };
        vcpu.drain_pml(vm, vmcs);
        self.release(vm); // the live registers are in memory now
        state.msrs = self.vcpu.live.msrs;
        state.tsc_aux = self.vcpu.live.tsc_aux;
        state.cr2 = self.vcpu.live.cr2;
        state.debug = self.vcpu.live.debug;
        // The area was stored under the policy's XCR0, whatever the guest's is at the moment.
        clean_xsave(self.vcpu.xsave.bytes_mut(), self.vcpu.policy.xcr0_allowed());
        state.xsave = xsave_used(self.vcpu.xsave.bytes());
        state
    }

    /// Takes a state that [`VcpuState::check`] is asked about first.
    ///
    /// # Errors
    /// The field and value at fault; the vCPU must not run then.
    pub(crate) fn import(&mut self, vm: &Guest, state: &VcpuState) -> Result<(), StateError> {
        assert!(self.loaded_on().is_none(), "state is given to a vCPU that is off");
        let vcpu = &mut self.vcpu;
        let refuse = |why| StateError { kind: "vcpu".into(), why };
        let spec_ctrl = spec_ctrl_bits(vcpu.policy.features());
        state.check(&vcpu.limits(), vcpu.policy.xcr0_allowed(), spec_ctrl).map_err(refuse)?;
        vcpu.live.msrs = state.msrs;
        vcpu.live.tsc_aux = state.tsc_aux & 0xffff_ffff;
        vcpu.live.cr2 = state.cr2;
        vcpu.live.debug = state.debug;
        vcpu.xcr0 = state.xcr0;
        vcpu.tsc_adjust = state.tsc_adjust;
        vcpu.mtrr = state.mtrr;
        let plan = slots::plan();
        let guest = if spec_ctrl == 0 { plan.guest_spec_ctrl } else { state.spec_ctrl.unwrap_or(0) };
        let told = policy::mitigations::told(&vcpu.policy);
        vcpu.context.init_spec_ctrl(plan, guest, &told, policy::mitigations::spec_ctrl_passes(&vcpu.policy));
        let features = state.misc_features.unwrap_or(0);
        if features != 0
            && !matches!(vcpu.policy.write_msr(MISC_FEATURES_ENABLES, features), MsrWrite::Emulate(_))
        {
            return Err(refuse(format!("MSR_MISC_FEATURES_ENABLES is {features:#x}")));
        }
        vcpu.cpuid.set_faulting(features & 1 != 0);
        let area = vcpu.xsave.bytes_mut();
        area.fill(0);
        area[..state.xsave.len()].copy_from_slice(&state.xsave);
        let (vcpu, mut loaded) = self.make_current(vm);
        let regs = state.control_regs();
        vm.invalidates(vcpu.index, Invalid::All);
        vcpu.write_controls(vm, &mut loaded, &regs);
        let vmcs = loaded.current();
        vcpu.context.gprs = state.gprs;
        vmcs.write(field::GUEST_RSP, state.gprs[RSP]);
        vmcs.write(field::GUEST_RIP, state.rip);
        vmcs.write(field::GUEST_RFLAGS, state.rflags);
        for (segment, from) in Segment::ALL.into_iter().zip(&state.segments) {
            vmcs.write(segment.selector(), from.selector);
            vmcs.write(segment.base(), from.base);
            vmcs.write(segment.limit(), from.limit);
            vmcs.write(segment.access_rights(), from.rights);
        }
        vmcs.write(field::GUEST_GDTR_BASE, state.gdtr.base);
        vmcs.write(field::GUEST_GDTR_LIMIT, state.gdtr.limit);
        vmcs.write(field::GUEST_IDTR_BASE, state.idtr.base);
        vmcs.write(field::GUEST_IDTR_LIMIT, state.idtr.limit);
        vmcs.write(field::GUEST_DR7, state.dr7 | 0x400);
        vmcs.write(field::GUEST_IA32_SYSENTER_CS, state.sysenter[0] as u32);
        vmcs.write(field::GUEST_IA32_SYSENTER_ESP, state.sysenter[1]);
        vmcs.write(field::GUEST_IA32_SYSENTER_EIP, state.sysenter[2]);
        vmcs.write(field::GUEST_IA32_PAT, state.pat);
        vmcs.write(field::GUEST_INTERRUPTIBILITY, state.interruptibility);
        vmcs.write(field::GUEST_PENDING_DEBUG, state.pending_debug);
        vmcs.write(field::GUEST_ACTIVITY_STATE, 0); // HLT is kept in `activity`
        vcpu.activity = match (state.wait_for_sipi, state.halted) {
            (true, _) => Activity::WaitForSipi,
            (_, true) => Activity::Halted,
            _ => Activity::Running,
        };
        vcpu.event = state.event();
        vcpu.nmi_pending = state.nmi_pending;
        vcpu.attention = true;
        // A host of before leaves them in memory. What no CPU would load is not present there.
        let pdptes = regs.pae_paging().then(|| {
            state.pdptes.unwrap_or_else(|| {
                Vcpu::read_pdptes(vm, regs.cr3, vcpu.policy.phys_bits()).unwrap_or_default()
            })
        });
        let done = vcpu.set_control_regs(vm, vmcs, regs, pdptes);
        self.release(vm);
        done.map_err(|_| refuse("the guest is in real mode, and this CPU has no unrestricted guest".into()))
    }
}

/// The area without its zero tail.
fn xsave_used(area: &[u8; XsaveArea::BYTES]) -> Vec<u8> {
    let used = area.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    area[..used.max(XSAVE_MIN)].to_vec()
}
