//! Performing instructions: against this machine's own CPU where it can be asked, else by what the SDM says.

mod board;

use std::arch::asm;

use board::{Board, cpu, ones};
use proptest::prelude::*;
use vm_types::Gpa;
use x86_decode::{CodeSize, Cpu, Fault, Gprs, Op, decode, execute};

const CF: u64 = 1;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const DF: u64 = 1 << 10;
const OF: u64 = 1 << 11;
const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

/// Where the CPU has met the device in these tests; operands of theirs lie at the same offset in the page.
const DEVICE: u64 = 0xFED0_0000;

/// Runs one instruction in 64-bit mode; true where it is over, false where another iteration is due.
fn run(bytes: &[u8], regs: &mut Gprs, rflags: &mut u64, device: &mut Board) -> bool {
    let insn = decode(bytes, CodeSize::Bits64).unwrap();
    assert_eq!(usize::from(insn.len), bytes.len());
    let mut cpu = Cpu { rflags: *rflags, ..cpu(CodeSize::Bits64, *regs) };
    execute(&insn, &mut cpu, device, Some(Gpa(DEVICE))).unwrap();
    (*regs, *rflags) = (cpu.gprs, cpu.rflags);
    assert!(cpu.rip == 0x1000 || cpu.rip == 0x1000 + bytes.len() as u64);
    cpu.rip != 0x1000
}

/// Runs one instruction of the form `op [rdi], reg` on this machine's CPU: memory, RAX, RBX, RDX and flags go in and out.
/// RCX is what RAX is.
macro_rules! native {
    ($text:literal) => {
        |memory: &mut u64, rax: &mut u64, rbx: &mut u64, rdx: &mut u64, flags: u64| -> u64 {
            let mut out = flags & ARITHMETIC;
            // SAFETY: the instruction reads and writes eight bytes at most at RDI, which points to `memory`, and the
            // named registers; RBX is restored, and the stack is balanced.
            unsafe {
                asm!(
                    "push rbx",
                    "mov rbx, {b}",
                    "push {f}",
                    "popfq",
                    $text,
                    "pushfq",
                    "pop {f}",
                    "mov {b}, rbx",
                    "pop rbx",
                    f = inout(reg) out,
                    b = inout(reg) *rbx,
                    inout("rax") *rax,
                    inout("rdx") *rdx,
                    inout("rcx") *rax => _,
                    in("rdi") std::ptr::from_mut(memory),
                );
            }
            out & ARITHMETIC
        }
    };
}

type Native = fn(&mut u64, &mut u64, &mut u64, &mut u64, u64) -> u64;

/// Encodings on `[rdi]` with RBX as the register, the same on the CPU, and the flags that are defined.
fn cases() -> Vec<(&'static [u8], Native, u64)> {
    const ALL: u64 = ARITHMETIC;
    const LOGIC: u64 = ARITHMETIC & !AF;
    const WIDE: u64 = CF | OF;
    const SHIFT: u64 = LOGIC & !OF;
    const TURN: u64 = ARITHMETIC & !OF;
    vec![
        (&[0x00, 0x1F], native!("add [rdi], bl"), ALL),
        (&[0x66, 0x01, 0x1F], native!("add [rdi], bx"), ALL),
        (&[0x01, 0x1F], native!("add [rdi], ebx"), ALL),
        (&[0x48, 0x01, 0x1F], native!("add [rdi], rbx"), ALL),
        (&[0x00, 0x3F], native!("add [rdi], bh"), ALL),
        (&[0x02, 0x3F], native!("add bh, [rdi]"), ALL),
        (&[0x03, 0x1F], native!("add ebx, [rdi]"), ALL),
        (&[0x10, 0x1F], native!("adc [rdi], bl"), ALL),
        (&[0x66, 0x13, 0x1F], native!("adc bx, [rdi]"), ALL),
        (&[0x11, 0x1F], native!("adc [rdi], ebx"), ALL),
        (&[0x48, 0x11, 0x1F], native!("adc [rdi], rbx"), ALL),
        (&[0x18, 0x1F], native!("sbb [rdi], bl"), ALL),
        (&[0x66, 0x19, 0x1F], native!("sbb [rdi], bx"), ALL),
        (&[0x19, 0x1F], native!("sbb [rdi], ebx"), ALL),
        (&[0x48, 0x1B, 0x1F], native!("sbb rbx, [rdi]"), ALL),
        (&[0x28, 0x1F], native!("sub [rdi], bl"), ALL),
        (&[0x66, 0x29, 0x1F], native!("sub [rdi], bx"), ALL),
        (&[0x29, 0x1F], native!("sub [rdi], ebx"), ALL),
        (&[0x48, 0x29, 0x1F], native!("sub [rdi], rbx"), ALL),
        (&[0x38, 0x1F], native!("cmp [rdi], bl"), ALL),
        (&[0x3B, 0x1F], native!("cmp ebx, [rdi]"), ALL),
        (&[0x48, 0x39, 0x1F], native!("cmp [rdi], rbx"), ALL),
        (&[0x80, 0x3F, 0x81], native!("cmp byte ptr [rdi], -127"), ALL),
        (&[0x48, 0x81, 0x07, 0x78, 0x56, 0x34, 0x92], native!("add qword ptr [rdi], -0x6DCBA988"), ALL),
        (&[0x66, 0x83, 0x2F, 0xFE], native!("sub word ptr [rdi], -2"), ALL),
        (&[0x08, 0x1F], native!("or [rdi], bl"), LOGIC),
        (&[0x0B, 0x1F], native!("or ebx, [rdi]"), LOGIC),
        (&[0x66, 0x21, 0x1F], native!("and [rdi], bx"), LOGIC),
        (&[0x48, 0x23, 0x1F], native!("and rbx, [rdi]"), LOGIC),
        (&[0x83, 0x27, 0xF0], native!("and dword ptr [rdi], -16"), LOGIC),
        (&[0x31, 0x1F], native!("xor [rdi], ebx"), LOGIC),
        (&[0x30, 0x1F], native!("xor [rdi], bl"), LOGIC),
        (&[0x84, 0x1F], native!("test [rdi], bl"), LOGIC),
        (&[0x85, 0x1F], native!("test [rdi], ebx"), LOGIC),
        (&[0xF6, 0x07, 0x80], native!("test byte ptr [rdi], -128"), LOGIC),
        (&[0xFE, 0x07], native!("inc byte ptr [rdi]"), ALL),
        (&[0x48, 0xFF, 0x07], native!("inc qword ptr [rdi]"), ALL),
        (&[0x66, 0xFF, 0x0F], native!("dec word ptr [rdi]"), ALL),
        (&[0xFF, 0x0F], native!("dec dword ptr [rdi]"), ALL),
        (&[0xF6, 0x1F], native!("neg byte ptr [rdi]"), ALL),
        (&[0x48, 0xF7, 0x1F], native!("neg qword ptr [rdi]"), ALL),
        (&[0xF7, 0x17], native!("not dword ptr [rdi]"), ALL),
        (&[0x66, 0xF7, 0x17], native!("not word ptr [rdi]"), ALL),
        (&[0x86, 0x1F], native!("xchg [rdi], bl"), ALL),
        (&[0x87, 0x1F], native!("xchg [rdi], ebx"), ALL),
        (&[0x0F, 0xC0, 0x1F], native!("xadd [rdi], bl"), ALL),
        (&[0xF0, 0x0F, 0xC1, 0x1F], native!("lock xadd [rdi], ebx"), ALL),
        (&[0xF0, 0x0F, 0xB0, 0x1F], native!("lock cmpxchg [rdi], bl"), ALL),
        (&[0x0F, 0xB1, 0x1F], native!("cmpxchg [rdi], ebx"), ALL),
        (&[0x48, 0x0F, 0xB1, 0x1F], native!("cmpxchg [rdi], rbx"), ALL),
        (&[0x0F, 0xBA, 0x27, 0x25], native!("bt dword ptr [rdi], 0x25"), CF),
        (&[0xF0, 0x0F, 0xBA, 0x2F, 0x07], native!("lock bts dword ptr [rdi], 7"), CF),
        (&[0x66, 0x0F, 0xBA, 0x37, 0x1F], native!("btr word ptr [rdi], 31"), CF),
        (&[0x48, 0x0F, 0xBA, 0x3F, 0x3F], native!("btc qword ptr [rdi], 63"), CF),
        (&[0x88, 0x3F], native!("mov [rdi], bh"), ALL),
        (&[0x66, 0x89, 0x1F], native!("mov [rdi], bx"), ALL),
        (&[0x8A, 0x1F], native!("mov bl, [rdi]"), ALL),
        (&[0x66, 0x8B, 0x1F], native!("mov bx, [rdi]"), ALL),
        (&[0x8B, 0x1F], native!("mov ebx, [rdi]"), ALL),
        (&[0x48, 0x8B, 0x1F], native!("mov rbx, [rdi]"), ALL),
        (&[0x48, 0xC7, 0x07, 0x01, 0x02, 0x03, 0x84], native!("mov qword ptr [rdi], -0x7BFCFDFF"), ALL),
        (&[0xC6, 0x07, 0x99], native!("mov byte ptr [rdi], 0x99"), ALL),
        (&[0x0F, 0xC3, 0x1F], native!("movnti [rdi], ebx"), ALL),
        (&[0x66, 0x0F, 0xB6, 0x1F], native!("movzx bx, byte ptr [rdi]"), ALL),
        (&[0x0F, 0xB6, 0x1F], native!("movzx ebx, byte ptr [rdi]"), ALL),
        (&[0x48, 0x0F, 0xB7, 0x1F], native!("movzx rbx, word ptr [rdi]"), ALL),
        (&[0x66, 0x0F, 0xBE, 0x1F], native!("movsx bx, byte ptr [rdi]"), ALL),
        (&[0x0F, 0xBF, 0x1F], native!("movsx ebx, word ptr [rdi]"), ALL),
        (&[0x48, 0x63, 0x1F], native!("movsxd rbx, dword ptr [rdi]"), ALL),
        (&[0x0F, 0x40, 0x1F], native!("cmovo ebx, [rdi]"), ALL),
        (&[0x0F, 0x43, 0x1F], native!("cmovae ebx, [rdi]"), ALL),
        (&[0x48, 0x0F, 0x44, 0x1F], native!("cmove rbx, [rdi]"), ALL),
        (&[0x66, 0x0F, 0x47, 0x1F], native!("cmova bx, [rdi]"), ALL),
        (&[0x0F, 0x48, 0x1F], native!("cmovs ebx, [rdi]"), ALL),
        (&[0x0F, 0x4B, 0x1F], native!("cmovnp ebx, [rdi]"), ALL),
        (&[0x0F, 0x4C, 0x1F], native!("cmovl ebx, [rdi]"), ALL),
        (&[0x0F, 0x4F, 0x1F], native!("cmovg ebx, [rdi]"), ALL),
        (&[0x0F, 0x92, 0x07], native!("setb byte ptr [rdi]"), ALL),
        (&[0x0F, 0x9E, 0x07], native!("setle byte ptr [rdi]"), ALL),
        (&[0xF6, 0x27], native!("mul byte ptr [rdi]"), WIDE),
        (&[0x66, 0xF7, 0x27], native!("mul word ptr [rdi]"), WIDE),
        (&[0xF7, 0x27], native!("mul dword ptr [rdi]"), WIDE),
        (&[0x48, 0xF7, 0x27], native!("mul qword ptr [rdi]"), WIDE),
        (&[0xF6, 0x2F], native!("imul byte ptr [rdi]"), WIDE),
        (&[0x66, 0xF7, 0x2F], native!("imul word ptr [rdi]"), WIDE),
        (&[0x48, 0xF7, 0x2F], native!("imul qword ptr [rdi]"), WIDE),
        (&[0x0F, 0xAF, 0x1F], native!("imul ebx, [rdi]"), WIDE),
        (&[0x48, 0x0F, 0xAF, 0x1F], native!("imul rbx, [rdi]"), WIDE),
        (&[0x66, 0x6B, 0x1F, 0x85], native!("imul bx, [rdi], -123"), WIDE),
        (&[0x48, 0x69, 0x1F, 1, 2, 3, 0x84], native!("imul rbx, [rdi], -0x7BFCFDFF"), WIDE),
        (&[0x0F, 0xBC, 0x1F], native!("bsf ebx, [rdi]"), ZF),
        (&[0x48, 0x0F, 0xBC, 0x1F], native!("bsf rbx, [rdi]"), ZF),
        (&[0x66, 0x0F, 0xBD, 0x1F], native!("bsr bx, [rdi]"), ZF),
        (&[0x48, 0x0F, 0xBD, 0x1F], native!("bsr rbx, [rdi]"), ZF),
        (&[0xD0, 0x07], native!("rol byte ptr [rdi], 1"), ALL),
        (&[0xC1, 0x07, 0x25], native!("rol dword ptr [rdi], 37"), TURN),
        (&[0x48, 0xD1, 0x0F], native!("ror qword ptr [rdi], 1"), ALL),
        (&[0x66, 0xC1, 0x0F, 0x0D], native!("ror word ptr [rdi], 13"), TURN),
        (&[0xD2, 0x07], native!("rol byte ptr [rdi], cl"), TURN),
        (&[0xD3, 0x0F], native!("ror dword ptr [rdi], cl"), TURN),
        (&[0xD0, 0x17], native!("rcl byte ptr [rdi], 1"), ALL),
        (&[0xD2, 0x17], native!("rcl byte ptr [rdi], cl"), TURN),
        (&[0x66, 0xD3, 0x1F], native!("rcr word ptr [rdi], cl"), TURN),
        (&[0xD1, 0x1F], native!("rcr dword ptr [rdi], 1"), ALL),
        (&[0x48, 0xD3, 0x17], native!("rcl qword ptr [rdi], cl"), TURN),
        (&[0xD1, 0x27], native!("shl dword ptr [rdi], 1"), LOGIC),
        (&[0x48, 0xC1, 0x27, 0x1F], native!("shl qword ptr [rdi], 31"), SHIFT),
        (&[0x48, 0xD3, 0x27], native!("shl qword ptr [rdi], cl"), SHIFT & !CF | ZF),
        (&[0xD0, 0x2F], native!("shr byte ptr [rdi], 1"), LOGIC),
        (&[0xC1, 0x2F, 0x11], native!("shr dword ptr [rdi], 17"), SHIFT),
        (&[0xD3, 0x2F], native!("shr dword ptr [rdi], cl"), SHIFT),
        (&[0xD2, 0x2F], native!("shr byte ptr [rdi], cl"), SHIFT & !CF),
        (&[0x66, 0xD1, 0x3F], native!("sar word ptr [rdi], 1"), LOGIC),
        (&[0x48, 0xD3, 0x3F], native!("sar qword ptr [rdi], cl"), SHIFT),
        (&[0x66, 0xD3, 0x3F], native!("sar word ptr [rdi], cl"), SHIFT & !CF),
        (&[0x0F, 0xA4, 0x1F, 0x01], native!("shld dword ptr [rdi], ebx, 1"), LOGIC),
        (&[0x48, 0x0F, 0xA5, 0x1F], native!("shld qword ptr [rdi], rbx, cl"), SHIFT),
        (&[0x0F, 0xAC, 0x1F, 0x1F], native!("shrd dword ptr [rdi], ebx, 31"), SHIFT),
        (&[0x66, 0x0F, 0xAC, 0x1F, 0x09], native!("shrd word ptr [rdi], bx, 9"), SHIFT),
        (&[0x0F, 0xAD, 0x1F], native!("shrd dword ptr [rdi], ebx, cl"), SHIFT),
    ]
}

/// Divisions, which fault where the quotient is too large: the divisor is `memory`.
fn divisions() -> Vec<(&'static [u8], Native, u8)> {
    vec![
        (&[0xF6, 0x37], native!("div byte ptr [rdi]"), 1),
        (&[0x66, 0xF7, 0x37], native!("div word ptr [rdi]"), 2),
        (&[0xF7, 0x37], native!("div dword ptr [rdi]"), 4),
        (&[0x48, 0xF7, 0x37], native!("div qword ptr [rdi]"), 8),
        (&[0xF6, 0x3F], native!("idiv byte ptr [rdi]"), 1),
        (&[0x66, 0xF7, 0x3F], native!("idiv word ptr [rdi]"), 2),
        (&[0xF7, 0x3F], native!("idiv dword ptr [rdi]"), 4),
        (&[0x48, 0xF7, 0x3F], native!("idiv qword ptr [rdi]"), 8),
    ]
}

/// Numbers at and around the borders of every size, and any other.
fn number() -> impl Strategy<Value = u64> {
    let borders =
        [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 63, !0];
    prop_oneof![prop::sample::select(borders.to_vec()), any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn results_and_flags_are_the_cpus(
        memory in number(), rax in number(), rbx in number(), rdx in number(), flags in any::<u64>(), same in any::<bool>(),
    ) {
        let rax = if same { memory } else { rax };
        for (bytes, native, defined) in cases() {
            let (mut cpu_memory, mut cpu_rax, mut cpu_rbx, mut cpu_rdx) = (memory, rax, rbx, rdx);
            let cpu_flags = native(&mut cpu_memory, &mut cpu_rax, &mut cpu_rbx, &mut cpu_rdx, flags);
            let mut device = Board::new(0, memory);
            let mut regs = [0xFED0_0000; 16];
            (regs[0], regs[1], regs[2], regs[3]) = (rax, rax, rdx, rbx);
            let mut rflags = flags;
            prop_assert!(run(bytes, &mut regs, &mut rflags, &mut device));
            prop_assert_eq!(device.value, cpu_memory, "memory {:02x?}", bytes);
            prop_assert_eq!((regs[0], regs[2], regs[3]), (cpu_rax, cpu_rdx, cpu_rbx), "registers {:02x?}", bytes);
            prop_assert_eq!(rflags & defined, cpu_flags & defined, "flags {:02x?}", bytes);
            prop_assert_eq!(rflags & !ARITHMETIC, flags & !ARITHMETIC, "other flags {:02x?}", bytes);
            prop_assert_eq!(regs[1], rax);
            prop_assert!(regs[4..].iter().all(|reg| *reg == 0xFED0_0000));
        }
    }

    #[test]
    fn divisions_are_the_cpus(divisor in number(), rax in number(), rdx in number()) {
        for (bytes, native, size) in divisions() {
            let insn = decode(bytes, CodeSize::Bits64).unwrap();
            let mut device = Board::new(0, divisor);
            let mut cpu = cpu(CodeSize::Bits64, [0xFED0_0000; 16]);
            (cpu.gprs[0], cpu.gprs[2]) = (rax, rdx);
            match execute(&insn, &mut cpu, &mut device, Some(Gpa(DEVICE))) {
                Ok(()) => {
                    let (mut memory, mut cpu_rax, mut cpu_rdx) = (divisor, rax, rdx);
                    native(&mut memory, &mut cpu_rax, &mut 0, &mut cpu_rdx, 2);
                    prop_assert_eq!((cpu.gprs[0], cpu.gprs[2]), (cpu_rax, cpu_rdx), "{:02x?}", bytes);
                }
                Err(fault) => {
                    prop_assert_eq!(fault, Fault::DIVIDE);
                    prop_assert_eq!((cpu.gprs[0], cpu.gprs[2]), (rax, rdx));
                    // The quotient really does not fit: |dividend| is at least half of what the divisor can take.
                    let bits = 8 * u32::from(size);
                    let high = if size == 1 { rax >> 8 & 0xFF } else { rdx & ones(size) };
                    let dividend = u128::from(high) << bits | u128::from(rax & ones(size));
                    let fits = match insn.op {
                        Op::Div => dividend.checked_div(u128::from(divisor & ones(size))).is_some_and(|q| q >> bits == 0),
                        _ => {
                            let signed = |value: u128, bits: u32| (value << (128 - bits)) as i128 >> (128 - bits);
                            let by = signed(u128::from(divisor), bits);
                            signed(dividend, 2 * bits).checked_div(by).is_some_and(|q| signed(q as u128, bits) == q)
                        }
                    };
                    prop_assert!(!fits, "{:02x?}", bytes);
                }
            }
        }
    }

    #[test]
    fn any_instruction_is_done_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 15),
        opcode in any::<u8>(),
        regs in prop::array::uniform16(number()),
        flags in any::<u64>(),
        met in any::<bool>(),
    ) {
        let mut bytes = bytes;
        bytes[0] = opcode;
        for code in [CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64] {
            let Ok(insn) = decode(&bytes, code) else { continue };
            let mut device = Board::new(0x2000, 0x0123_4567_89AB_CDEF);
            let before = Cpu { rflags: flags, ..cpu(code, regs) };
            let mut cpu = before;
            if execute(&insn, &mut cpu, &mut device, met.then_some(Gpa(DEVICE))).is_err() {
                prop_assert_eq!(cpu, before, "a fault changes nothing");
                prop_assert!(device.log.iter().all(|cycle| cycle.0 == 'r'));
            } else if !insn.op.is_string() && !matches!(insn.op, Op::Push | Op::Pop | Op::Call) {
                // RAM does not appear in the log; a device's operand may take several cycles.
                let mut kinds: Vec<char> = device.log.iter().map(|cycle| cycle.0).collect();
                kinds.dedup();
                let kinds: String = kinds.into_iter().collect();
                let want = match (insn.reads(), insn.writes()) {
                    (true, true) => "rw",
                    (true, false) => "r",
                    _ => "w",
                };
                prop_assert!(want.contains(&kinds), "{:?} of {:?}", device.log, insn);
            }
        }
    }
}

fn kinds(device: &Board) -> Vec<(char, u8)> {
    device.log.iter().map(|cycle| (cycle.0, cycle.2)).collect()
}

#[test]
fn a_plain_store_does_not_read() {
    let mut device = Board::new(0, 0);
    run(&[0x89, 0x1F], &mut [DEVICE; 16], &mut 2, &mut device);
    assert_eq!(kinds(&device), [('w', 4)]);
    let mut device = Board::new(0, 5);
    run(&[0xF0, 0x0F, 0xB1, 0x1F], &mut [0; 16], &mut 2, &mut device);
    assert_eq!(kinds(&device), [('r', 4), ('w', 4)], "a failed CMPXCHG writes, too");
    assert_eq!(device.value, 5);
}

#[test]
fn bit_tests_by_register_reach_beyond_their_operand() {
    let mut regs = [0; 16];
    for (bit, from, mask) in [(31, 0, 1 << 31), (32, 4, 1), (-1i64, -4, 1 << 31), (-64, -8, 1)] {
        (regs[3], regs[7]) = (bit as u64, DEVICE);
        let at = DEVICE.wrapping_add_signed(from);
        let mut device = Board::new(0, 0);
        run(&[0x0F, 0xAB, 0x1F], &mut regs, &mut 2, &mut device);
        assert_eq!(device.log, [('r', at, 4, 0), ('w', at, 4, mask)], "bit {bit}");
    }
    // A word's bit number is 16 bits with a sign, a number in the instruction wraps.
    (regs[3], regs[7]) = (0xFFFF, DEVICE);
    let mut device = Board::new(0, 0);
    run(&[0x66, 0x0F, 0xA3, 0x1F], &mut regs, &mut 2, &mut device);
    assert_eq!(device.log, [('r', DEVICE - 2, 2, 0)]);
    let mut device = Board::new(0, 0);
    run(&[0x0F, 0xBA, 0x2F, 0x21], &mut regs, &mut 2, &mut device);
    assert_eq!(device.value, 2);
}

#[test]
fn stos_repeats_one_at_a_time() {
    let mut regs = [0; 16];
    (regs[0], regs[1], regs[7]) = (0xAABB_CCDD_1122_3344, 2, 0xFFFF_FFFC);
    let mut device = Board::new(0, 0);
    assert!(!run(&[0xF3, 0xAB], &mut regs, &mut 2, &mut device));
    assert_eq!((device.value, regs[1], regs[7]), (0x1122_3344, 1, 0x1_0000_0000));
    assert!(run(&[0xF3, 0xAB], &mut regs, &mut 2, &mut device));
    assert_eq!((regs[1], regs[7]), (0, 0x1_0000_0004));
    assert!(run(&[0xF3, 0xAB], &mut regs, &mut 2, &mut device));
    assert_eq!(device.log.len(), 2, "a count of 0 accesses nothing");
    // Without REP the count does not matter; DF counts down; 16-bit addresses wrap within DI.
    let insn = decode(&[0xAA], CodeSize::Bits16).unwrap();
    let mut cpu = Cpu { rflags: 2 | DF, ..cpu(CodeSize::Bits16, regs) };
    (cpu.gprs[1], cpu.gprs[7]) = (9, 0xABCD_0000);
    execute(&insn, &mut cpu, &mut device, Some(Gpa(DEVICE))).unwrap();
    assert_eq!((cpu.gprs[1], cpu.gprs[7], cpu.rip), (9, 0xABCD_FFFF, 0x1001));
}

/// Fault 2.14: 32-bit addresses in 64-bit mode left the upper halves of RCX, RSI and RDI as they were.
#[test]
fn a_32_bit_address_clears_the_upper_halves() {
    const HIGH: u64 = 7 << 32;
    for (bytes, moved) in [
        (&[0x67, 0xF3, 0x6E][..], 6),
        (&[0x67, 0xF3, 0x6C], 7),
        (&[0x67, 0xF3, 0xAA], 7),
        (&[0x67, 0xF3, 0xAC], 6),
    ] {
        let mut regs = [HIGH | DEVICE; 16];
        regs[1] = HIGH | 2;
        assert!(!run(bytes, &mut regs, &mut 2, &mut Board::new(0, 0)));
        assert_eq!((regs[1], regs[moved]), (1, DEVICE + 1), "{bytes:02x?}");
    }
}

#[test]
fn lods_and_movs() {
    let mut regs = [0x1000; 16];
    regs[0] = u64::MAX;
    let mut device = Board::new(0, 0x1234_5678);
    assert!(run(&[0xAD], &mut regs, &mut 2, &mut device));
    assert_eq!((regs[0], regs[6], regs[7]), (0x1234_5678, 0x1004, 0x1000));
    let mut device = Board::new(0, 0x12);
    device.segments[4].base = 0x70_0000;
    regs[1] = 3;
    assert!(!run(&[0x64, 0xF3, 0xA4], &mut regs, &mut 2, &mut device));
    assert_eq!(device.log, [('r', 0x70_1004, 1, 0x12), ('w', 0x1000, 1, 0x12)]);
    assert_eq!((regs[1], regs[6], regs[7]), (2, 0x1005, 0x1001));
}

#[test]
fn comparisons_end_where_they_are_told_to() {
    // REPE SCASB: equal goes on, different ends; REPNE the other way round.
    for (prefix, al, ends) in [(0xF3, 5, false), (0xF3, 6, true), (0xF2, 5, true), (0xF2, 6, false)] {
        let (mut regs, mut flags) = ([DEVICE; 16], 2);
        (regs[0], regs[1]) = (al, 9);
        assert_eq!(run(&[prefix, 0xAE], &mut regs, &mut flags, &mut Board::new(0, 5)), ends);
        assert_eq!((flags & ZF != 0, regs[1], regs[7]), (al == 5, 8, DEVICE + 1));
    }
    let (mut regs, mut flags) = ([0x3000; 16], 2);
    (regs[1], regs[6]) = (4, 0x1000);
    let mut device = Board::new(0x2000, 0x11);
    device.ram.put64(0x1000, 0x10);
    assert!(run(&[0xF3, 0xA6], &mut regs, &mut flags, &mut device));
    assert_eq!((flags & (CF | ZF), device.log.as_slice()), (CF, &[('r', 0x3000, 1, 0x11)][..]));
    assert_eq!((regs[1], regs[6], regs[7]), (3, 0x1001, 0x3001));
}

#[test]
fn ports_by_string() {
    let mut regs = [0x1000; 16];
    (regs[1], regs[2]) = (2, 0xABCD_03F8);
    let mut device = Board::new(0x2000, 0x4433_2211);
    assert!(!run(&[0xF3, 0x6D], &mut regs, &mut 2, &mut device));
    assert_eq!((device.ram.get64(0x1000), regs[1], regs[7], regs[6]), (0x4433_2211, 1, 0x1004, 0x1000));
    assert!(run(&[0x66, 0x6F], &mut regs, &mut 2, &mut device));
    assert_eq!(device.log, [('i', 0x3F8, 4, 0x4433_2211), ('o', 0x3F8, 2, 0x2211)]);
    assert_eq!((regs[1], regs[6]), (1, 0x1002));
}

#[test]
fn the_stack_and_branches_through_memory() {
    let mut device = Board::new(0x2000, 0x5000);
    let mut cpu = cpu(CodeSize::Bits64, [DEVICE; 16]);
    cpu.gprs[4] = 0x1800;
    let mut step = |cpu: &mut Cpu, bytes: &[u8]| {
        let insn = decode(bytes, CodeSize::Bits64).unwrap();
        execute(&insn, cpu, &mut device, Some(Gpa(DEVICE)))?;
        Ok::<_, Fault>((cpu.rip, cpu.gprs[4], device.ram.get64(cpu.gprs[4]), device.value))
    };
    assert_eq!(step(&mut cpu, &[0xFF, 0x37]), Ok((0x1002, 0x17F8, 0x5000, 0x5000)), "push [rdi]");
    assert_eq!(step(&mut cpu, &[0xFF, 0x17]), Ok((0x5000, 0x17F0, 0x1004, 0x5000)), "call [rdi]");
    assert_eq!(step(&mut cpu, &[0x8F, 0x07]), Ok((0x5002, 0x17F8, 0x5000, 0x1004)), "pop [rdi]");
    assert_eq!(step(&mut cpu, &[0xFF, 0x27]), Ok((0x1004, 0x17F8, 0x5000, 0x1004)), "jmp [rdi]");
    // A stack that is not there: nothing has happened.
    cpu.gprs[4] = 1 << 63 | 4;
    let before = cpu;
    assert_eq!(step(&mut cpu, &[0xFF, 0x17]), Err(Fault::STACK));
    assert_eq!(cpu, before);
    // Where to is judged before anything is pushed.
    let mut device = Board::new(0x2000, 1 << 63);
    cpu.gprs[4] = 0x1800;
    let insn = decode(&[0xFF, 0x17], CodeSize::Bits64).unwrap();
    assert_eq!(execute(&insn, &mut cpu, &mut device, Some(Gpa(DEVICE))), Err(Fault::PROTECTION));
    assert_eq!((cpu.gprs[4], device.ram.get64(0x17F8)), (0x1800, 0));
}

#[test]
fn the_machine_status_word() {
    let mut device = Board::new(0, 0x1_000B);
    run(&[0x0F, 0x01, 0x37], &mut [DEVICE; 16], &mut 2, &mut device);
    assert_eq!(device.lmsw, Some(0xB));
    run(&[0x0F, 0x01, 0x27], &mut [DEVICE; 16], &mut 2, &mut device);
    assert_eq!(device.log.last(), Some(&('w', DEVICE, 2, 1)));
}

/// Fault 5.4: a copy out of a device by SSE or AVX, as compilers and memcpy make it, ended the VM.
#[test]
fn vector_moves() {
    const OLD: u8 = 0xEE;
    let pattern = u64::from_le_bytes([1, 2, 3, 4, 5, 6, 7, 8]);
    let load = |bytes: &[u8]| {
        let mut device = Board::new(0, pattern);
        device.vectors[9][..16].fill(0x99);
        run(bytes, &mut [DEVICE; 16], &mut 2, &mut device);
        device.vectors[3]
    };
    let expect = |parts: &[(usize, &[u8])], from: usize, rest: u8| {
        let mut want = [OLD; 64];
        want[..from].fill(0);
        want[from..].fill(rest);
        for (at, part) in parts {
            want[*at..at + part.len()].copy_from_slice(part);
        }
        want
    };
    let eight = pattern.to_le_bytes();
    let sixteen = [eight, eight].concat();
    assert_eq!(load(&[0x0F, 0x10, 0x1F]), expect(&[(0, &sixteen)], 16, OLD), "movups");
    assert_eq!(load(&[0x66, 0x0F, 0x6F, 0x1F]), expect(&[(0, &sixteen)], 16, OLD), "movdqa");
    assert_eq!(load(&[0xF3, 0x0F, 0x10, 0x1F]), expect(&[(0, &eight[..4])], 16, OLD), "movss");
    assert_eq!(load(&[0x66, 0x0F, 0x6E, 0x1F]), expect(&[(0, &eight[..4])], 16, OLD), "movd");
    assert_eq!(load(&[0x66, 0x48, 0x0F, 0x6E, 0x1F]), expect(&[(0, &eight)], 16, OLD), "movq");
    assert_eq!(load(&[0x0F, 0x16, 0x1F])[..24], [[OLD; 8], eight, [OLD; 8]].concat(), "movhps");
    let ymm = [eight; 4].concat();
    assert_eq!(load(&[0xC5, 0xFE, 0x6F, 0x1F]), expect(&[(0, &ymm)], 32, 0), "vmovdqu ymm");
    assert_eq!(load(&[0xC5, 0xF8, 0x28, 0x1F]), expect(&[(0, &sixteen)], 16, 0), "vmovaps xmm");
    assert_eq!(
        load(&[0xC5, 0xB0, 0x16, 0x1F]),
        expect(&[(0, &[0x99; 8]), (8, &eight)], 16, 0),
        "vmovhps from xmm9"
    );
    // Stores, of which a bus takes 8 bytes at a time.
    let store = |bytes: &[u8]| {
        let mut device = Board::new(0, 0);
        device.vectors[3] = core::array::from_fn(|at| at as u8);
        run(bytes, &mut [DEVICE; 16], &mut 2, &mut device);
        device.log.iter().map(|cycle| (cycle.1 - DEVICE, cycle.2, cycle.3 as u8)).collect::<Vec<_>>()
    };
    assert_eq!(store(&[0x0F, 0x11, 0x1F]), [(0, 8, 0), (8, 8, 8)], "movups");
    assert_eq!(
        store(&[0xC5, 0xFD, 0xE7, 0x1F]),
        [(0, 8, 0), (8, 8, 8), (16, 8, 16), (24, 8, 24)],
        "vmovntdq ymm"
    );
    assert_eq!(store(&[0x0F, 0x17, 0x1F]), [(0, 8, 8)], "movhps");
    assert_eq!(store(&[0x66, 0x0F, 0x7E, 0x1F]), [(0, 4, 0)], "movd");
}

#[test]
fn flags_of_a_comparison() {
    let mut rflags = 2;
    let mut device = Board::new(0, 5);
    run(&[0x83, 0x3F, 5], &mut [0; 16], &mut rflags, &mut device);
    assert_eq!(rflags & ARITHMETIC & !4, ZF);
}
