//! Performing instructions: against this machine's own CPU where it can be asked, else by what the SDM says.

use std::arch::asm;

use proptest::prelude::*;
use x86_decode::{CodeSize, ExecuteError, Gprs, MmioBus, Place, Progress, decode, execute};

const ARITHMETIC: u64 = 0x8D5;
const CF: u64 = 1;
const AF: u64 = 1 << 4;
const ZF: u64 = 1 << 6;
const DF: u64 = 1 << 10;

/// One register of a device, and what was done to it.
#[derive(Default)]
struct Device {
    value: u64,
    log: Vec<(char, Place, u8)>,
    fails: bool,
}

impl MmioBus for Device {
    type Error = &'static str;

    fn read(&mut self, place: Place, size: u8) -> Result<u64, &'static str> {
        self.log.push(('r', place, size));
        let mask = if size == 8 { u64::MAX } else { (1 << (size * 8)) - 1 };
        if self.fails { Err("no device") } else { Ok(self.value & mask) }
    }

    fn write(&mut self, place: Place, size: u8, value: u64) -> Result<(), &'static str> {
        self.log.push(('w', place, size));
        let mask = if size == 8 { u64::MAX } else { (1 << (size * 8)) - 1 };
        assert_eq!(value & !mask, 0);
        if self.fails {
            return Err("no device");
        }
        self.value = self.value & !mask | value;
        Ok(())
    }
}

fn run(bytes: &[u8], regs: &mut Gprs, rflags: &mut u64, device: &mut Device) -> Progress {
    let insn = decode(bytes, CodeSize::Bits64).unwrap();
    assert_eq!(usize::from(insn.len), bytes.len());
    execute(&insn, regs, rflags, device).unwrap()
}

/// Runs one instruction of the form `op [rdi], reg` on this machine's CPU: memory, RAX, RBX and flags go in and out.
macro_rules! native {
    ($text:literal) => {
        |memory: &mut u64, rax: &mut u64, rbx: &mut u64, flags: u64| -> u64 {
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
                    in("rdi") std::ptr::from_mut(memory),
                );
            }
            out & ARITHMETIC
        }
    };
}

type Native = fn(&mut u64, &mut u64, &mut u64, u64) -> u64;

/// Encodings on `[rdi]` with RBX as the register, the same on the CPU, and the flags that are defined.
fn cases() -> Vec<(&'static [u8], Native, u64)> {
    const ALL: u64 = ARITHMETIC;
    const LOGIC: u64 = ARITHMETIC & !AF;
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
    fn results_and_flags_are_the_cpus(memory in number(), rax in number(), rbx in number(), flags in any::<u64>(), same in any::<bool>()) {
        let rax = if same { memory } else { rax };
        for (bytes, native, defined) in cases() {
            let (mut cpu_memory, mut cpu_rax, mut cpu_rbx) = (memory, rax, rbx);
            let cpu_flags = native(&mut cpu_memory, &mut cpu_rax, &mut cpu_rbx, flags);
            let mut device = Device { value: memory, ..Device::default() };
            let mut regs = [0x55; 16];
            (regs[0], regs[3]) = (rax, rbx);
            let mut rflags = flags;
            prop_assert_eq!(run(bytes, &mut regs, &mut rflags, &mut device), Progress::Done);
            prop_assert_eq!(device.value, cpu_memory, "memory {:02x?}", bytes);
            prop_assert_eq!((regs[0], regs[3]), (cpu_rax, cpu_rbx), "registers {:02x?}", bytes);
            prop_assert_eq!(rflags & defined, cpu_flags & defined, "flags {:02x?}", bytes);
            prop_assert_eq!(rflags & !ARITHMETIC, flags & !ARITHMETIC, "other flags {:02x?}", bytes);
            prop_assert!(regs.iter().enumerate().all(|(i, reg)| i == 0 || i == 3 || *reg == 0x55));
        }
    }

    #[test]
    fn any_instruction_is_done_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 15),
        opcode in any::<u8>(),
        regs in prop::array::uniform16(number()),
        flags in any::<u64>(),
        fails in any::<bool>(),
    ) {
        let mut bytes = bytes;
        bytes[0] = opcode;
        for code in [CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64] {
            let Ok(insn) = decode(&bytes, code) else { continue };
            let mut device = Device { value: 0x0123_4567_89AB_CDEF, fails, ..Device::default() };
            let (mut new_regs, mut new_flags) = (regs, flags);
            let result = execute(&insn, &mut new_regs, &mut new_flags, &mut device);
            if result.is_err() {
                prop_assert_eq!((new_regs, new_flags), (regs, flags), "an error changes nothing");
            } else if !insn.rep {
                let kinds: String = device.log.iter().map(|entry| entry.0).collect();
                let want = match (insn.reads(), insn.writes()) {
                    (true, true) => "rw",
                    (true, false) => "r",
                    _ => "w",
                };
                prop_assert_eq!(kinds, want, "accesses of {:?}", insn);
            }
        }
    }
}

#[test]
fn a_plain_store_does_not_read() {
    let mut device = Device::default();
    run(&[0x89, 0x1F], &mut [7; 16], &mut 2, &mut device);
    assert_eq!(device.log, [('w', Place::Operand, 4)]);
    let mut device = Device { value: 5, ..Device::default() };
    run(&[0xF0, 0x0F, 0xB1, 0x1F], &mut [0; 16], &mut 2, &mut device);
    assert_eq!(
        device.log,
        [('r', Place::Operand, 4), ('w', Place::Operand, 4)],
        "a failed CMPXCHG writes, too"
    );
    assert_eq!(device.value, 5);
}

#[test]
fn bit_test_by_register_stays_in_its_operand() {
    let insn = decode(&[0x0F, 0xAB, 0x1F], CodeSize::Bits64).unwrap();
    let mut regs = [0; 16];
    regs[3] = 31;
    let mut device = Device::default();
    execute(&insn, &mut regs, &mut 2, &mut device).unwrap();
    assert_eq!(device.value, 1 << 31);
    regs[3] = 32;
    let refused = execute(&insn, &mut regs, &mut 2, &mut device);
    assert_eq!(refused, Err(ExecuteError::BitOutside { bit: 32 }));
}

#[test]
fn stos_repeats_one_at_a_time() {
    let insn = decode(&[0xF3, 0xAB], CodeSize::Bits64).unwrap();
    let mut regs = [0; 16];
    (regs[0], regs[1], regs[7]) = (0xAABB_CCDD_1122_3344, 2, 0xFFFF_FFFF_FFFF_FFFC);
    let mut device = Device::default();
    assert_eq!(execute(&insn, &mut regs, &mut 2, &mut device), Ok(Progress::Again));
    assert_eq!((device.value, regs[1], regs[7]), (0x1122_3344, 1, 0));
    assert_eq!(execute(&insn, &mut regs, &mut 2, &mut device), Ok(Progress::Done));
    assert_eq!((regs[1], regs[7]), (0, 4));
    assert_eq!(execute(&insn, &mut regs, &mut 2, &mut device), Ok(Progress::Done));
    assert_eq!(device.log.len(), 2, "a count of 0 accesses nothing");
    // Without REP the count does not matter; DF counts down; 16-bit addresses wrap within DI.
    let insn = decode(&[0xAA], CodeSize::Bits16).unwrap();
    (regs[1], regs[7]) = (9, 0xABCD_0000);
    assert_eq!(execute(&insn, &mut regs, &mut (2 | DF), &mut device), Ok(Progress::Done));
    assert_eq!((regs[1], regs[7]), (9, 0xABCD_FFFF));
}

#[test]
fn lods_and_movs() {
    let mut regs = [0x1000; 16];
    regs[0] = u64::MAX;
    let mut device = Device { value: 0x1234_5678, ..Device::default() };
    assert_eq!(run(&[0xAD], &mut regs, &mut 2, &mut device), Progress::Done);
    assert_eq!((regs[0], regs[6], regs[7]), (0x1234_5678, 0x1004, 0x1000));
    let mut device = Device { value: 0x12, ..Device::default() };
    regs[1] = 3;
    assert_eq!(run(&[0x64, 0xF3, 0xA4], &mut regs, &mut 2, &mut device), Progress::Again);
    let place = |segment, offset| Place::Logical { segment, offset };
    let want =
        [('r', place(x86_decode::Segment::Fs, 0x1004), 1), ('w', place(x86_decode::Segment::Es, 0x1000), 1)];
    assert_eq!(device.log, want);
    assert_eq!((regs[1], regs[6], regs[7]), (2, 0x1005, 0x1001));
}

#[test]
fn flags_of_a_comparison() {
    let mut rflags = 2;
    let mut device = Device { value: 5, ..Device::default() };
    run(&[0x83, 0x3F, 5], &mut [0; 16], &mut rflags, &mut device);
    assert_eq!(rflags & ARITHMETIC & !4, ZF);
}
