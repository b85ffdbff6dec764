//! Accesses by segment and page: what the CPU checks is checked, and nothing lands on a page that was not asked for.

mod board;

use board::{Board, cpu};
use proptest::prelude::*;
use vm_types::{Gpa, GuestMemory};
use x86_decode::{CodeSize, Cpu, Fault, PagingState, Refused, SegmentRegister, emulate};

/// A process's page, and the one behind it in memory, which is somebody else's.
const OWN: u64 = 0x5_0000;
const FOREIGN: u64 = OWN + 0x1000;
/// Where the page behind is mapped to in the tests that map it.
const OTHER: u64 = 0x7_0000;
/// Linear address of the process's page.
const LINEAR: u64 = 0x1_0000;
const CODE: u64 = 0x8_0000;
/// Not RAM.
const DEVICE: u64 = 0xFED0_0000;

const ACCESSED_DIRTY: u64 = 0x60;

/// A process of 64-bit mode at CPL 3, whose only data page is at [`LINEAR`]; its instruction is at [`CODE`].
fn process(instruction: &[u8]) -> (Cpu, Board) {
    let board = Board::new(1 << 20, 0xD4D3_D2D1);
    let ram = &board.ram;
    ram.put64(0x1000, 0x2007);
    ram.put64(0x2000, 0x3007);
    ram.put64(0x3000, 0x4007);
    ram.put64(0x4000 + LINEAR / 512, OWN | 7);
    ram.put64(0x4000 + CODE / 512, CODE | 7);
    ram.put64(0x4000 + (CODE + 0x1000) / 512, DEVICE | 7);
    ram.write(Gpa(CODE), instruction).unwrap();
    ram.write(Gpa(OWN + 0xFF8), b"ownownow").unwrap();
    ram.write(Gpa(FOREIGN), b"KERNKERN").unwrap();
    ram.write(Gpa(OTHER), b"otherpag").unwrap();
    let paging = PagingState {
        cr0: 1 << 31 | 1 << 16 | 1,
        cr3: 0x1000,
        cr4: 1 << 5,
        efer: 1 << 8 | 1 << 10 | 1 << 11,
        pdptes: [0; 4],
        phys_bits: 40,
    };
    let cpu = Cpu { cpl: 3, rip: CODE, paging, ..cpu(CodeSize::Bits64, [0; 16]) };
    (cpu, board)
}

fn map_behind(board: &Board, entry: u64) {
    board.ram.put64(0x4000 + (LINEAR + 0x1000) / 512, entry);
}

fn fault(result: Result<(), Refused>) -> Fault {
    match result {
        Err(Refused::Fault(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

/// Every instruction that the hypervisor carries out with an operand in RAM: reads, then writes, at LINEAR + 0xFFE.
const READS: [(&str, &[u8]); 4] =
    [("outsd", &[0x6F]), ("movsd", &[0xA5]), ("cmpsd", &[0xA7]), ("lodsd", &[0xAD])];
const WRITES: [(&str, &[u8]); 4] =
    [("insd", &[0x6D]), ("movsd", &[0xA5]), ("stosd", &[0xAB]), ("pop", &[0x66, 0x8F, 0x07])];

fn at_the_end(cpu: &mut Cpu, pointer: usize) {
    cpu.gprs[6] = LINEAR;
    cpu.gprs[7] = LINEAR;
    cpu.gprs[4] = LINEAR;
    cpu.gprs[pointer] = LINEAR + 0xFFE;
}

/// Fault 2.14: a process with one port read and wrote the frame behind its own, which was not mapped for it.
#[test]
fn an_element_across_two_pages_faults_where_the_second_is_absent() {
    for (name, code) in READS {
        let (mut cpu, mut board) = process(code);
        at_the_end(&mut cpu, 6);
        let before = cpu;
        assert_eq!(fault(emulate(&mut cpu, &mut board, None)), Fault::page(LINEAR + 0x1000, 4), "{name}");
        assert_eq!((cpu, board.log.as_slice()), (before, &[][..]), "{name}");
    }
    for (name, code) in WRITES {
        let (mut cpu, mut board) = process(code);
        at_the_end(&mut cpu, 7);
        if name == "pop" {
            cpu.gprs[7] += 1;
        }
        let before = cpu;
        assert_eq!(fault(emulate(&mut cpu, &mut board, None)), Fault::page(LINEAR + 0x1000, 6), "{name}");
        assert_eq!((cpu, board.log.as_slice()), (before, &[][..]), "{name}");
        assert_eq!(board.ram.bytes(FOREIGN, 8), b"KERNKERN", "{name}");
        assert_eq!(board.ram.bytes(OWN + 0xFF8, 8), b"ownownow", "{name}: not half of it either");
        assert_eq!(board.ram.get64(0x4000 + LINEAR / 512) & 0x40, 0, "{name}: nor a dirty flag");
    }
}

#[test]
fn each_page_has_its_own_rights_and_its_own_cr2() {
    let run = |first: u64, second: u64, pkru: u32| {
        let (mut cpu, mut board) = process(&[0x6D]);
        cpu.paging.cr4 |= 1 << 22;
        board.pkru = pkru;
        board.ram.put64(0x4000 + LINEAR / 512, OWN | first);
        map_behind(&board, OTHER | second);
        cpu.gprs[7] = LINEAR + 0xFFD;
        fault(emulate(&mut cpu, &mut board, None))
    };
    assert_eq!(run(7, 5, 0), Fault::page(LINEAR + 0x1000, 7), "not writable");
    assert_eq!(run(5, 5, 0), Fault::page(LINEAR + 0xFFD, 7), "the first page first");
    assert_eq!(run(7, 3, 0), Fault::page(LINEAR + 0x1000, 7), "not the user's");
    assert_eq!(run(7, 7 | 1 << 41, 0), Fault::page(LINEAR + 0x1000, 0xF), "reserved");
    assert_eq!(run(7, 7 | 3 << 59, 2 << 6), Fault::page(LINEAR + 0x1000, 0x27), "its key");
}

#[test]
fn both_pages_are_reached_and_marked() {
    let (mut cpu, mut board) = process(&[0x6D]);
    map_behind(&board, OTHER | 7);
    cpu.gprs[7] = LINEAR + 0xFFD;
    cpu.gprs[2] = 0x1F0;
    emulate(&mut cpu, &mut board, None).unwrap();
    assert_eq!(board.ram.bytes(OWN + 0xFFC, 4), [b'w', 0xD1, 0xD2, 0xD3]);
    assert_eq!(board.ram.bytes(OTHER, 2), [0xD4, b't']);
    assert_eq!(board.ram.bytes(FOREIGN, 8), b"KERNKERN");
    for page in [0, 1] {
        assert_eq!(board.ram.get64(0x4000 + LINEAR / 512 + 8 * page) & ACCESSED_DIRTY, ACCESSED_DIRTY);
    }
    assert_eq!((cpu.gprs[7], cpu.rip), (LINEAR + 0x1001, CODE + 1));
    // OUTSD back from there.
    board.ram.write(Gpa(CODE), &[0x6F]).unwrap();
    (cpu.rip, cpu.gprs[6]) = (CODE, LINEAR + 0xFFD);
    emulate(&mut cpu, &mut board, None).unwrap();
    assert_eq!(board.log, [('i', 0x1F0, 4, 0xD4D3_D2D1), ('o', 0x1F0, 4, 0xD4D3_D2D1)]);
}

/// The CPU names one address for an operand of which half is a device's: the other half is RAM, and stays RAM.
#[test]
fn an_operand_half_in_ram_and_half_in_a_device() {
    // mov [rdi], eax
    let (mut cpu, mut board) = process(&[0x89, 0x07]);
    map_behind(&board, DEVICE | 7);
    (cpu.gprs[0], cpu.gprs[7]) = (0x4433_2211, LINEAR + 0xFFD);
    emulate(&mut cpu, &mut board, Some(Gpa(DEVICE))).unwrap();
    assert_eq!(board.ram.bytes(OWN + 0xFFC, 4), [b'w', 0x11, 0x22, 0x33]);
    assert_eq!(board.log, [('w', DEVICE, 1, 0x44)]);
    assert_eq!(board.ram.bytes(FOREIGN, 8), b"KERNKERN");
    // mov eax, [rdi]: three bytes of the device in two cycles.
    board.ram.write(Gpa(CODE), &[0x8B, 0x07]).unwrap();
    (cpu.rip, cpu.gprs[7], board.value) = (CODE, LINEAR + 0xFFF, 0x0707_0707);
    board.log.clear();
    emulate(&mut cpu, &mut board, Some(Gpa(DEVICE))).unwrap();
    assert_eq!(cpu.gprs[0], 0x0707_0733);
    assert_eq!(board.log, [('r', DEVICE, 2, 0x707), ('r', DEVICE + 2, 1, 7)]);
}

/// Fault 2.14: limits and types count outside 64-bit mode.
#[test]
fn segments_are_checked() {
    let run = |segment: SegmentRegister, offset: u64, code: &[u8], real: bool| {
        let mut board = Board::new(0x10_0000, 0);
        board.segments[0] = segment;
        board.segments[3] = segment;
        board.segments[2] = segment;
        let mut cpu = cpu(CodeSize::Bits32, [0; 16]);
        (cpu.gprs[6], cpu.gprs[7], cpu.gprs[5]) = (offset, offset, offset);
        cpu.paging.cr0 = u64::from(!real);
        board.ram.write(Gpa(0x1000), code).unwrap();
        emulate(&mut cpu, &mut board, None)
    };
    const INSD: &[u8] = &[0x6D];
    const OUTSD: &[u8] = &[0x6F];
    const MOV_EBP: &[u8] = &[0x89, 0x45, 0x00];
    let small = SegmentRegister { base: 0x2000, limit: 0xFFF, rights: 0x4093 };
    assert_eq!(run(small, 0xFFC, INSD, false), Ok(()));
    assert_eq!(fault(run(small, 0xFFD, INSD, false)), Fault::PROTECTION, "its last byte is beyond");
    assert_eq!(fault(run(small, 0xFFD, MOV_EBP, false)), Fault::STACK);
    assert_eq!(fault(run(small, 0xFFFF_FFFE, OUTSD, false)), Fault::PROTECTION, "no wrap");
    let down = SegmentRegister { rights: 0x4097, ..small };
    assert_eq!(fault(run(down, 0xFFF, INSD, false)), Fault::PROTECTION);
    assert_eq!(run(down, 0x1000, INSD, false), Ok(()));
    let read_only = SegmentRegister { rights: 0x4091, ..small };
    assert_eq!(fault(run(read_only, 0, INSD, false)), Fault::PROTECTION);
    assert_eq!(run(read_only, 0, OUTSD, false), Ok(()));
    let execute_only = SegmentRegister { rights: 0x4099, ..small };
    assert_eq!(fault(run(execute_only, 0, OUTSD, false)), Fault::PROTECTION);
    let null = SegmentRegister { rights: 1 << 16, ..small };
    assert_eq!(fault(run(null, 0, OUTSD, false)), Fault::PROTECTION);
    assert_eq!(run(execute_only, 0, INSD, true), Ok(()), "real mode has limits alone");
    assert_eq!(fault(run(small, 0xFFD, INSD, true)), Fault::PROTECTION);
}

/// Fault 5.6: ES, CS, SS and DS begin at 0 in 64-bit mode, whatever is left in them.
#[test]
fn bases_of_64_bit_mode() {
    let (mut cpu, mut board) = process(&[0x6D]);
    board.segments = [SegmentRegister { base: 0x1234_5000, limit: 0, rights: 1 << 16 }; 6];
    (cpu.gprs[6], cpu.gprs[7]) = (LINEAR, LINEAR);
    emulate(&mut cpu, &mut board, None).unwrap();
    assert_eq!(board.ram.bytes(OWN, 4), [0xD1, 0xD2, 0xD3, 0xD4]);
    // FS counts: outsb fs:[rsi]
    board.ram.write(Gpa(CODE), &[0x64, 0x6E]).unwrap();
    board.segments[4].base = 2;
    cpu.rip = CODE;
    emulate(&mut cpu, &mut board, None).unwrap();
    assert_eq!(board.log.last(), Some(&('o', 0, 1, 0xD3)));
    (cpu.rip, cpu.gprs[6]) = (CODE, 1 << 47);
    assert_eq!(fault(emulate(&mut cpu, &mut board, None)), Fault::PROTECTION, "not canonical");
}

#[test]
fn alignment_is_checked_where_the_guest_asks_for_it() {
    let (mut cpu, mut board) = process(&[0x6D]);
    cpu.gprs[7] = LINEAR + 1;
    cpu.rflags |= 1 << 18;
    cpu.paging.cr0 |= 1 << 18;
    assert_eq!(fault(emulate(&mut cpu, &mut board, None)), Fault::ALIGNMENT);
    cpu.cpl = 0;
    emulate(&mut cpu, &mut board, None).unwrap();
}

/// Fault 5.4: what is not carried out is a value; so are code that cannot be read and code that is none.
#[test]
fn instructions_that_are_not_carried_out() {
    let (mut cpu, mut board) = process(&[0x0F, 0xC7, 0x0F]);
    assert!(matches!(emulate(&mut cpu, &mut board, Some(Gpa(DEVICE))), Err(Refused::NotEmulated { .. })));
    cpu.rip = 0x3_0000;
    assert_eq!(fault(emulate(&mut cpu, &mut board, None)), Fault::page(0x3_0000, 0x14));
    cpu.rip = CODE + 0x1000;
    assert!(
        matches!(emulate(&mut cpu, &mut board, None), Err(Refused::NotEmulated { .. })),
        "ones are no code"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a process executes, at whatever address: what is not mapped for it stays as it is.
    #[test]
    fn nothing_lands_on_a_foreign_page(
        code in prop::collection::vec(any::<u8>(), 15),
        opcode in prop::sample::select(vec![0x6Cu8, 0x6D, 0x6E, 0x6F, 0xA4, 0xA5, 0xA6, 0xAA, 0xAB, 0x89, 0x01, 0x8F, 0xFF, 0xC1, 0x0F]),
        prefix in prop::sample::select(vec![0x66u8, 0x67, 0xF3, 0x48, 0x3E]),
        offsets in prop::array::uniform16(0xFE0u64..0x1020),
        count in 0u64..4,
        device_behind in any::<bool>(),
        met in any::<bool>(),
    ) {
        let mut bytes = vec![prefix, opcode];
        bytes.extend(code.iter().take(13));
        let (mut cpu, mut board) = process(&bytes);
        if device_behind {
            map_behind(&board, DEVICE | 7);
        }
        cpu.gprs = offsets.map(|offset| LINEAR + offset);
        cpu.gprs[1] = count;
        let before = cpu;
        let code_before = board.ram.bytes(CODE, 0x1000);
        if emulate(&mut cpu, &mut board, met.then_some(Gpa(DEVICE))).is_err() {
            prop_assert_eq!(cpu, before);
        }
        prop_assert_eq!(board.ram.bytes(FOREIGN, 8), b"KERNKERN".to_vec());
        prop_assert_eq!(board.ram.bytes(OTHER, 8), b"otherpag".to_vec());
        prop_assert_eq!(board.ram.bytes(CODE, 0x1000), code_before);
    }
}
