//! The way into the guest and back: the one naked function.

use core::arch::naked_asm;
use core::mem::offset_of;
use mitigations::{Cpu, History, Plan};

/// The guest's general-purpose registers in ModRM order, RSP left out (it lives in the VMCS), and what
/// the entry code needs. The mitigation slots read the rest.
#[repr(C, align(64))]
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    /// RAX, RCX, RDX, RBX, (unused), RBP, RSI, RDI, R8 to R15.
    pub(crate) gprs: [u64; 16],
    /// The host's RSP as the VMCS has it.
    host_rsp: u64,
    /// IA32_SPEC_CTRL while the guest runs, and while the host does. The high halves are reserved.
    guest_spec_ctrl: u64,
    host_spec_ctrl: u64,
    /// [`READ`] and [`WRITE`].
    spec_ctrl_at_exit: u32,
    /// Not 0 where the host has touched nothing but this guest's own since the exit: no L1D flush is owed.
    untouched: u32,
    /// What of `guest_spec_ctrl` is the host's doing.
    forced_spec_ctrl: u64,
}

/// The guest writes IA32_SPEC_CTRL without an exit: what it holds is kept at each exit.
const READ: u32 = 1;
/// The host's value is written at each exit.
const WRITE: u32 = 2;

const _: () = assert!(size_of::<Context>() == 192);

impl Context {
    /// Forgets what the VMCS holds as the host's RSP: after VMCLEAR or on another stack.
    pub(crate) fn invalidate_host_rsp(&mut self) {
        self.host_rsp = 0;
    }

    /// Sets who holds what in IA32_SPEC_CTRL. `guest` is what the guest starts with; `told`, what it knows of its CPU;
    /// `passes` says that it writes the register without an exit, so that it knows of all that the CPU takes.
    pub(crate) fn init_spec_ctrl(&mut self, plan: &Plan, guest: u64, told: &Cpu, passes: bool) {
        self.host_spec_ctrl = plan.host_spec_ctrl;
        self.forced_spec_ctrl = plan.forced_for(told);
        self.spec_ctrl_at_exit = if passes { READ | WRITE } else { 0 };
        if plan.write_at_exit {
            self.spec_ctrl_at_exit |= WRITE;
        }
        self.set_spec_ctrl(guest);
    }

    /// The guest's IA32_SPEC_CTRL, as it wrote it.
    pub(crate) fn spec_ctrl(&self) -> u64 {
        self.guest_spec_ctrl & !self.forced_spec_ctrl
    }

    /// Gives the guest another one.
    pub(crate) fn set_spec_ctrl(&mut self, value: u64) {
        self.guest_spec_ctrl = value | self.forced_spec_ctrl;
        if self.guest_spec_ctrl != self.host_spec_ctrl {
            self.spec_ctrl_at_exit |= WRITE; // for good: some CPUs heed only a write after the exit
        }
    }

    /// Says that an exit was handled with this guest's own data and registers alone. It holds for the next entry, unless
    /// [`Self::touched`] takes it back.
    #[inline(always)]
    pub(crate) fn untouched(&mut self) {
        self.untouched = 1;
    }

    /// Says that the CPU has done something else since: another VM, devices, the host's own work.
    pub(crate) fn touched(&mut self) {
        self.untouched = 0;
    }
}

/// Enters the guest; returns 0 after a VM exit, 1 where the entry instruction itself failed.
///
/// Register use: RDI context, ESI nonzero for VMRESUME. On exit the CPU loads RSP and RIP from the host
/// state; all general-purpose registers are the guest's until saved. The slots are `vmx::slots`: each starts
/// with a jump over itself, which boot code turns into a NOP where this CPU needs the slot. No indirect
/// branch and no RET lies between the exit and the exit slot.
///
/// # Safety
/// The current VMCS belongs to the vCPU of `context`, its host state is this CPU's, interrupts are off.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn enter(context: *mut Context, launched: u32) -> u32 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "cmp rsp, [rdi + {host_rsp}]",
        "je 2f",
        "mov eax, {HOST_RSP}",
        "vmwrite rax, rsp",
        "mov [rdi + {host_rsp}], rsp",
        "2:",
        // slot: L1D flush (IA32_FLUSH_CMD), where the first-level cache may hold what is not this guest's
        ".globl slot_l1d_flush",
        "slot_l1d_flush:",
        ".byte 0xe9",
        ".long 3f - 2f",
        "2:",
        "cmp dword ptr [rdi + {untouched}], 0",
        "mov dword ptr [rdi + {untouched}], 0",
        "jne 3f",
        "mov ecx, 0x10b",
        "mov eax, 1",
        "xor edx, edx",
        "wrmsr",
        "3:",
        // slot: the guest's IA32_SPEC_CTRL
        ".globl slot_spec_ctrl_entry",
        "slot_spec_ctrl_entry:",
        ".byte 0xe9",
        ".long 3f - 2f",
        "2:",
        "mov eax, [rdi + {guest_spec_ctrl}]",
        "cmp eax, [rdi + {host_spec_ctrl}]",
        "je 3f",
        "mov ecx, 0x48",
        "xor edx, edx",
        "wrmsr",
        "3:",
        // slot: VERW clears fill buffers (MD_CLEAR)
        ".globl slot_verw",
        "slot_verw:",
        ".byte 0xe9",
        ".long 3f - 2f",
        "2:",
        "push 0",
        "mov [rsp], ds",
        "verw word ptr [rsp]",
        "lea rsp, [rsp + 8]",
        "3:",
        "test esi, esi",
        "mov rax, [rdi]",
        "mov rcx, [rdi + 8]",
        "mov rdx, [rdi + 16]",
        "mov rbx, [rdi + 24]",
        "mov rbp, [rdi + 40]",
        "mov rsi, [rdi + 48]",
        "mov r8, [rdi + 64]",
        "mov r9, [rdi + 72]",
        "mov r10, [rdi + 80]",
        "mov r11, [rdi + 88]",
        "mov r12, [rdi + 96]",
        "mov r13, [rdi + 104]",
        "mov r14, [rdi + 112]",
        "mov r15, [rdi + 120]",
        "mov rdi, [rdi + 56]",
        "jz 4f",
        "vmresume",
        "jmp 5f",
        "4:",
        "vmlaunch",
        "5:", // the entry instruction failed: nothing of the guest ran
        "pop rdi",
        "mov eax, 1",
        "jmp 6f",
        ".globl vmx_exit",
        "vmx_exit:",
        "push rdi",
        "mov rdi, [rsp + 8]",
        "mov [rdi], rax",
        "mov [rdi + 8], rcx",
        "mov [rdi + 16], rdx",
        "mov [rdi + 24], rbx",
        "mov [rdi + 40], rbp",
        "mov [rdi + 48], rsi",
        "mov [rdi + 64], r8",
        "mov [rdi + 72], r9",
        "mov [rdi + 80], r10",
        "mov [rdi + 88], r11",
        "mov [rdi + 96], r12",
        "mov [rdi + 104], r13",
        "mov [rdi + 112], r14",
        "mov [rdi + 120], r15",
        "pop qword ptr [rdi + 56]",
        // slot: the return stack buffer is refilled, so that no RET of ours follows a guest's entry
        ".globl slot_rsb_fill",
        "slot_rsb_fill:",
        ".byte 0xe9",
        ".long 3f - 2f",
        "2:",
        ".rept 32",
        "call 7f",
        "int3",
        "7:",
        ".endr",
        "add rsp, 32 * 8",
        "lfence",
        "3:",
        // slot: the guest's IA32_SPEC_CTRL is kept if it may have changed, the host's is written
        ".globl slot_spec_ctrl_exit",
        "slot_spec_ctrl_exit:",
        ".byte 0xe9",
        ".long 3f - 2f",
        "2:",
        "mov ecx, 0x48",
        "test dword ptr [rdi + {spec_ctrl_at_exit}], {READ}",
        "jz 9f",
        "rdmsr",
        "mov [rdi + {guest_spec_ctrl}], eax",
        "9:",
        "test dword ptr [rdi + {spec_ctrl_at_exit}], {WRITE}",
        "jz 9f",
        "mov eax, [rdi + {host_spec_ctrl}]",
        "xor edx, edx",
        "wrmsr",
        "9:",
        "lfence", // neither branch is skipped in speculation
        "3:",
        // slot: branch history is cleared (BHI) by the code of `mitigations::History`, which `slots` writes here
        ".globl slot_branch_history",
        "slot_branch_history:",
        ".byte 0xe9",
        ".long 3f - 2f",
        "2:",
        ".p2align 6",
        ".globl slot_branch_history_code",
        "slot_branch_history_code:",
        ".skip {HISTORY}, 0xcc",
        "3:",
        "pop rdi",
        "xor eax, eax",
        "6:",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        host_rsp = const offset_of!(Context, host_rsp),
        guest_spec_ctrl = const offset_of!(Context, guest_spec_ctrl),
        host_spec_ctrl = const offset_of!(Context, host_spec_ctrl),
        spec_ctrl_at_exit = const offset_of!(Context, spec_ctrl_at_exit),
        untouched = const offset_of!(Context, untouched),
        HISTORY = const History::CODE,
        READ = const READ,
        WRITE = const WRITE,
        HOST_RSP = const vmx_types::field::HOST_RSP.encoding(),
    )
}

unsafe extern "C" {
    /// Where the CPU goes on after a VM exit.
    pub(crate) safe fn vmx_exit();
}
