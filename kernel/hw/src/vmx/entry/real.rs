//! The way into the guest and back: the one naked function.

use core::arch::naked_asm;
use core::mem::offset_of;
use mitigations::History;

use super::{Context, READ, Slot, WRITE};
use crate::arch::text;

/// Enters the guest; returns 0 after a VM exit, 1 where the entry instruction itself failed.
///
/// Register use: RDI context, ESI nonzero for VMRESUME, RDX where the host's RSP is kept as the VMCS has it, 0 where it has
/// none. On exit the CPU loads RSP and RIP from the host
/// state; all general-purpose registers are the guest's until saved. The slots are `vmx::slots`: each starts
/// with a jump over itself, which boot code turns into a NOP where this CPU needs the slot. No indirect
/// branch and no RET lies between the exit and the exit slot.
///
/// # Safety
/// A VMCS is current whose controls bind the guest and whose host state is this CPU's; `host_rsp` is its own. Interrupts are
/// off.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn enter(context: *mut Context, launched: u32, host_rsp: *mut u64) -> u32 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "cmp rsp, [rdx]",
        "je 2f",
        "mov eax, {HOST_RSP}",
        "vmwrite rax, rsp",
        "mov [rdx], rsp",
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
    safe fn vmx_exit();
    safe static slot_l1d_flush: u8;
    safe static slot_spec_ctrl_entry: u8;
    safe static slot_verw: u8;
    safe static slot_rsb_fill: u8;
    safe static slot_spec_ctrl_exit: u8;
    safe static slot_branch_history: u8;
    safe static slot_branch_history_code: u8;
}

/// Where the CPU goes on after a VM exit.
pub(crate) fn exit_address() -> u64 {
    vmx_exit as *const () as u64
}

/// Lets the code of a slot run, at boot.
pub(crate) fn open(slot: Slot) {
    const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
    let site = match slot {
        Slot::L1dFlush => &raw const slot_l1d_flush,
        Slot::SpecCtrlEntry => &raw const slot_spec_ctrl_entry,
        Slot::Verw => &raw const slot_verw,
        Slot::RsbFill => &raw const slot_rsb_fill,
        Slot::SpecCtrlExit => &raw const slot_spec_ctrl_exit,
        Slot::BranchHistory => &raw const slot_branch_history,
    };
    // SAFETY: the site is a five-byte jump in `enter`; a NOP of the same length lets the slot's code run.
    unsafe { text::patch(site, &NOP5) };
}

/// Puts the code that clears the branch history into its slot, which is not open yet.
pub(crate) fn set_history(code: &[u8; History::CODE]) {
    // SAFETY: `enter` has room for it there, and jumps over it as yet.
    unsafe { text::patch(&raw const slot_branch_history_code, code) };
}
