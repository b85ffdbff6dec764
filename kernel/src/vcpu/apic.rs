//! The local APIC of a vCPU, where the CPU does a part of it.

use vmx_types::apic::{ApicMode, ApicVirt};
use vmx_types::field;
use vmx_types::flow::{Flow, Take};

use super::{Activity, Vcpu};
use crate::guest::Guest;
use hw::vmx::vmcs::Current;

impl Vcpu {
    /// Whether the CPU delivers what the local APIC has.
    #[inline]
    pub(crate) fn delivers_itself(&self) -> bool {
        self.apic_virt.contains(ApicVirt::INTERRUPTS)
    }

    /// The guest has written EOI: what waits may be taken now.
    #[inline(always)]
    pub(crate) fn end_of_interrupt(&mut self, vm: &Guest) {
        let level = self.apic.eoi();
        self.attention |= self.delivers_itself() || self.apic.has_request();
        if let Some(vector) = level {
            self.tell_io_apic(vm, vector);
        }
    }

    /// A level-triggered interrupt has ended, for this vCPU.
    #[inline(never)]
    pub(crate) fn tell_io_apic(&mut self, vm: &Guest, vector: u8) {
        self.attention = true;
        self.on_board(vm, |platform, _| platform.eoi(vector));
    }

    /// The VMCS is set to the mode that the local APIC is in.
    #[inline]
    pub(crate) fn follow_apic_mode(&mut self, vm: &Guest, vmcs: Current<'_>) {
        if self.apic_base != self.apic.base() {
            self.set_apic_mode(vm, vmcs);
        }
    }

    #[cold]
    fn set_apic_mode(&mut self, vm: &Guest, vmcs: Current<'_>) {
        self.apic_base = self.apic.base();
        let mode = ApicMode::of(self.apic_base);
        self.apic_virt = vmcs.set_apic_mode(&mut self.proc, mode);
        self.apic.forget_told();
        vm.mailboxes[self.index as usize].take_posted(self.apic_virt.contains(ApicVirt::POSTED));
        if mode == ApicMode::X2apic {
            vm.hide_apic();
        }
    }

    /// Tells the CPU what it needs of the local APIC to do its part: what to deliver, and whose ends to tell of; or when to
    /// look again, where TPR is all that it has.
    pub(crate) fn tell_cpu_of_apic(&mut self, vmcs: Current<'_>, flow: &Flow) {
        if !self.delivers_itself() {
            if self.apic_virt.contains(ApicVirt::TPR)
                && let Some(class) = self.apic.changed_tpr_threshold()
            {
                vmcs.set_tpr_threshold(class);
            }
            return;
        }
        if let Some(levels) = self.apic.changed_levels() {
            vmcs.set_eoi_exits(&levels);
        }
        let (rvi, svi) = self.apic.interrupt_status();
        vmcs.write(field::GUEST_INTERRUPT_STATUS, u16::from(svi) << 8 | u16::from(rvi));
        // What is injected wakes a vCPU where it is taken from the APIC; this is not taken here.
        if self.activity == Activity::Halted
            && self.apic.pending().is_some()
            && matches!(flow.take(self.event.is_some(), false, true), Take::Interrupt)
        {
            self.activity = Activity::Running;
        }
    }
}
