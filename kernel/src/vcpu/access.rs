//! Small accesses to a vCPU that exit handlers share.

use devices::{LocalApic, Platform, Sent, VcpuSet};
use vm_types::Now;
use vmx_types::Event;
use vmx_types::field;
use vmx_types::flow::{BLOCKED_BY_NMI, debug_registers, iret_unblocked_nmi};
use x86::RSP;
use x86_decode::{CodeSize, PagingState};

use super::{Leaves, Vcpu};
use crate::guest::Guest;
use crate::guest::mailbox::Request;
use hw::arch::debug;
use hw::vmx::vmcs::Current;

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
/// Access rights: L and D/B of the code segment.
const CS_LONG: u32 = 1 << 13;
const CS_DEFAULT_32: u32 = 1 << 14;

impl Vcpu {
    /// A general-purpose register by its ModRM number.
    #[inline]
    pub(crate) fn gpr(&self, vmcs: Current<'_>, number: u8) -> u64 {
        if number == RSP { vmcs.read(field::GUEST_RSP) } else { self.context.gprs[usize::from(number & 15)] }
    }

    /// Sets a general-purpose register by its ModRM number.
    #[inline]
    pub(crate) fn set_gpr(&mut self, vmcs: Current<'_>, number: u8, value: u64) {
        if number == RSP {
            vmcs.write(field::GUEST_RSP, value);
        } else {
            self.context.gprs[usize::from(number & 15)] = value;
        }
    }

    /// ECX.
    #[inline]
    pub(crate) fn ecx(&self) -> u32 {
        self.context.gprs[RCX] as u32
    }

    /// EDX:EAX.
    #[inline]
    pub(crate) fn edx_eax(&self) -> u64 {
        self.context.gprs[RDX] << 32 | self.context.gprs[RAX] & 0xffff_ffff
    }

    /// Sets RDX and RAX to the halves of a value.
    #[inline]
    pub(crate) fn set_edx_eax(&mut self, value: u64) {
        self.context.gprs[RAX] = value & 0xffff_ffff;
        self.context.gprs[RDX] = value >> 32;
    }

    /// The mode that decides about operand and address sizes.
    pub(crate) fn code_size(&self, vmcs: Current<'_>) -> CodeSize {
        let rights = vmcs.read(field::GUEST_CS_ACCESS_RIGHTS);
        if self.regs.long_mode() && rights & CS_LONG != 0 {
            CodeSize::Bits64
        } else if rights & CS_DEFAULT_32 != 0 {
            CodeSize::Bits32
        } else {
            CodeSize::Bits16
        }
    }

    /// The current privilege level, which is that of SS; 3 in virtual-8086 mode (SDM 24.4.1).
    pub(crate) fn cpl(&self, vmcs: Current<'_>) -> u8 {
        (vmcs.read(field::GUEST_SS_ACCESS_RIGHTS) >> 5 & 3) as u8
    }

    /// What a walk of the guest's page tables depends on.
    pub(crate) fn paging_state(&mut self, vmcs: Current<'_>) -> PagingState {
        let regs = self.control_regs(vmcs);
        PagingState {
            cr0: regs.cr0,
            cr3: regs.cr3,
            cr4: regs.cr4,
            efer: regs.efer,
            pdptes: if regs.pae_paging() { self.pdptes(vmcs) } else { [0; 4] },
            phys_bits: self.policy.phys_bits(),
        }
    }

    /// What CPUID leaf 1 answers in EAX: family, model, stepping.
    pub(crate) fn signature(&self) -> u32 {
        self.policy.table().reg(1, 0, cpu_policy::Reg::Eax)
    }

    /// What CPUID answers depend on at this moment.
    pub(crate) fn cpuid_dynamic(&mut self, vmcs: Current<'_>) -> cpu_policy::Dynamic {
        let regs = self.control_regs(vmcs);
        cpu_policy::Dynamic { apic_id: self.index, cr4: regs.cr4, xcr0: self.xcr0 }
    }

    /// An access of the guest to the devices that its vCPUs share. Interrupts are looked at before the next entry only if
    /// something changed.
    #[inline]
    pub(crate) fn on_board<R>(&mut self, vm: &Guest, access: impl FnOnce(&mut Platform, Now) -> R) -> R {
        let now = vm.clock.now();
        let (result, kicks) = vm.on_board(|platform| access(platform, now));
        self.attention |= self.next_deadline(vm) != self.next_event;
        if kicks != VcpuSet(0) {
            self.attention = true;
            self.kick_others(vm, kicks);
        }
        result
    }

    /// Lets devices work on the guest's memory. What they leave is done before the guest runs again, a bounded amount each
    /// time the vCPU has its turn.
    pub(crate) fn serve_devices(&mut self, vm: &Guest) {
        if self.on_board(vm, |platform, now| platform.service(&vm.memory, &mut vm.outside(), now)) {
            vm.mailboxes[self.index as usize].post(Request::Devices);
            (self.leaves, self.attention) = (Some(Leaves::GivesWay), true);
        }
    }

    /// When its APIC, or the board, wants attention: guest TSC, `u64::MAX` for never. The board's timers are vCPU 0's to look
    /// at.
    #[inline]
    pub(crate) fn next_deadline(&self, vm: &Guest) -> u64 {
        let board = if self.index == 0 { vm.apics.deadline() } else { u64::MAX };
        self.apic.deadline().min(board)
    }

    /// Has the other vCPUs of this set look at their interrupts. One that sleeps and has this CPU too is to run soon: who
    /// sends an IPI most often waits for what comes of it.
    #[inline]
    pub(crate) fn kick_others(&mut self, vm: &Guest, vcpus: VcpuSet) {
        if vm.kick(VcpuSet(vcpus.0 & !(1u64 << (self.index & 63)))) {
            self.leaves = Some(Leaves::GivesWay);
        }
    }

    /// A read of its local APIC. Its timer may have expired meanwhile, and an illegal register raises the error interrupt.
    #[inline]
    pub(crate) fn read_apic<R>(&mut self, vm: &Guest, access: impl FnOnce(&mut LocalApic, Now) -> R) -> R {
        let result = access(&mut self.apic, vm.clock.now());
        // A CPU that delivers by itself has to be told of each request, whether or not it can be taken now.
        self.attention |= self.delivers_itself()
            || self.apic.pending().is_some()
            || self.next_deadline(vm) != self.next_event;
        result
    }

    /// After a write to the local APIC: what it asks for reaches the board and the other vCPUs.
    pub(crate) fn sent(&mut self, vm: &Guest, sent: Sent) {
        self.kick_others(vm, sent.kicks);
        // An IPI to others changes nothing here; whatever else a register is written for may.
        let to_others = sent.kicks != VcpuSet(0) && !sent.kicks.contains(self.index as usize);
        self.attention |= !to_others
            || self.leaves.is_some()
            || self.apic.has_request()
            || self.apic.has_init_sipi()
            || self.apic.nmi()
            || self.next_deadline(vm) != self.next_event;
        if let Some(vector) = sent.eoi {
            self.on_board(vm, |platform, _| platform.eoi(vector));
        }
    }

    /// IA32_TSC_ADJUST.
    pub(crate) fn tsc_adjust(&self) -> u64 {
        self.tsc_adjust
    }

    /// Sets IA32_TSC_ADJUST, by itself or with the TSC, and looks at the timers that go by the TSC again.
    pub(crate) fn set_tsc_adjust(&mut self, vm: &Guest, vmcs: Current<'_>, value: u64) {
        self.tsc_adjust = value;
        self.write_tsc_offset(vm, vmcs);
        self.apic.set_tsc_adjust(value, vm.clock.now());
        self.attention = true;
    }

    /// A #DB is about to be injected, whose exit has changed neither DR6 nor DR7 (SDM 27.1).
    pub(crate) fn raise_debug(&mut self, vmcs: Current<'_>, event: Event) {
        let cause = vmcs.read(field::EXIT_QUALIFICATION);
        let (dr6, dr7) = debug_registers(event.kind, debug::dr6(), vmcs.read(field::GUEST_DR7), cause);
        debug::set_dr6(dr6);
        vmcs.write(field::GUEST_DR7, dr7);
    }

    /// Where the IRET that unblocked NMIs exits and runs again, they are still blocked: see [`iret_unblocked_nmi`].
    pub(crate) fn block_nmis_again(&mut self, vmcs: Current<'_>, word: u64, vector: Option<u8>) {
        if iret_unblocked_nmi(word, vmcs.read(field::IDT_VECTORING_INFO), vector) {
            let blocked = vmcs.read(field::GUEST_INTERRUPTIBILITY);
            vmcs.write(field::GUEST_INTERRUPTIBILITY, blocked | BLOCKED_BY_NMI);
        }
    }
}
