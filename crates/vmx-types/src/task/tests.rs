//! Tests of [`super`].

use super::*;
use crate::rules::{Broken, GuestRegs, Mode};
use alloc::vec;
use alloc::vec::Vec;

const GDT: u32 = 0x1000;
const OLD_TSS: u32 = 0x2000;
const NEW_TSS: u32 = 0x3000;
const LDT: u32 = 0x4000;
const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const OLD: u16 = 0x18;
const NEW: u16 = 0x20;
const LOCAL: u16 = 0x28;
const NARROW: u16 = 0x30;
const DOUBLE_FAULT: Event = Event::exception(vector::DOUBLE_FAULT, Some(0));

/// 64 KiB, of which one page may be missing.
#[derive(Clone, Debug)]
struct Memory {
    bytes: Vec<u8>,
    missing: Option<u32>,
    cr3: u64,
}

impl Memory {
    fn at(&mut self, linear: u32, len: usize) -> Result<&mut [u8], TaskError<()>> {
        let missing = self.missing.is_some_and(|page| linear >> 12 == page >> 12);
        let range = linear as usize..linear as usize + len;
        let bytes = self.bytes.get_mut(range).filter(|_| !missing);
        bytes.ok_or(TaskError::Fault(Event::exception(vector::PAGE_FAULT, Some(0))))
    }

    fn word(&self, at: u32) -> u32 {
        let at = at as usize;
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    fn put(&mut self, at: u32, value: u32) {
        self.bytes[at as usize..at as usize + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn descriptor(&mut self, selector: u16, base: u32, limit: u32, rights: u32) {
        let raw = u64::from(limit & 0xffff | base << 16)
            | u64::from(base >> 16 & 0xff | rights << 8 & 0xf0_ff00 | limit & 0xf_0000 | base & 0xff00_0000)
                << 32;
        let at = (GDT + u32::from(selector)) as usize;
        self.bytes[at..at + 8].copy_from_slice(&raw.to_le_bytes());
    }

    fn kind(&self, selector: u16) -> u8 {
        self.bytes[(GDT + u32::from(selector)) as usize + 5] & 0xf
    }
}

impl TaskMemory for Memory {
    type Error = ();
    fn read(&mut self, linear: u32, bytes: &mut [u8]) -> Result<(), TaskError<()>> {
        bytes.copy_from_slice(self.at(linear, bytes.len())?);
        Ok(())
    }
    fn write(&mut self, linear: u32, bytes: &[u8]) -> Result<(), TaskError<()>> {
        self.at(linear, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }
    fn load_cr3(&mut self, cr3: u64) -> Result<(), TaskError<()>> {
        self.cr3 = cr3;
        Ok(())
    }
}

/// A 32-bit kernel as Linux is, with a second task for #DF.
fn kernel() -> (Task, Memory) {
    let mut memory = Memory { bytes: vec![0; 0x1_0000], missing: None, cr3: 0 };
    memory.descriptor(CODE, 0, 0xf_ffff, 0xc09b);
    memory.descriptor(DATA, 0, 0xf_ffff, 0xc093);
    memory.descriptor(OLD, OLD_TSS, 0x206b, 0x8b);
    memory.descriptor(NEW, NEW_TSS, 0x206b, 0x89);
    memory.descriptor(LOCAL, LDT, 0xff, 0x82);
    memory.descriptor(NARROW, NEW_TSS, 0x2b, 0x81);
    for (at, value) in [
        (0x1c, 0x7000),
        (0x20, 0xc000_1234),
        (0x24, 2),
        (0x38, 0x9000),
        (0x4c, CODE.into()),
        (0x50, DATA.into()),
    ] {
        memory.put(NEW_TSS + at, value);
    }
    memory.put(NEW_TSS + 0x48, DATA.into());
    memory.put(NEW_TSS + 0x54, DATA.into());
    let data = SegmentState { selector: DATA, base: 0, limit: u32::MAX, rights: 0xc093 };
    let code = SegmentState { selector: CODE, base: 0, limit: u32::MAX, rights: 0xc09b };
    let null = SegmentState { rights: 0x1_0000, ..SegmentState::default() };
    let tr = SegmentState { selector: OLD, base: OLD_TSS.into(), limit: 0x206b, rights: 0x8b };
    let task = Task {
        gprs: core::array::from_fn(|n| 0x1010 * n as u64),
        rip: 0xc010_0000,
        rflags: 0x1_0246,
        cr0: 0x8005_0033,
        cr3: 0x6000,
        dr7: 0x7ff,
        segments: [data, code, data, data, data, null, null, tr],
        gdtr: TableState { base: GDT.into(), limit: 0xff },
    };
    (task, memory)
}

fn to(selector: u16, source: Source) -> TaskSwitch {
    TaskSwitch { selector, source }
}

/// Fault 2.16: what a 32-bit Linux needs to print its oops after a #DF.
#[test]
fn a_double_fault_goes_to_its_task() {
    let (mut task, mut memory) = kernel();
    let old = task;
    let trap = switch(&mut task, to(NEW, Source::Gate), Some(DOUBLE_FAULT), &mut memory);
    assert_eq!(trap, Ok(false));
    // The old task as it was, where the oops reads it.
    assert_eq!((memory.word(OLD_TSS + 0x20), memory.word(OLD_TSS + 0x24)), (0xc010_0000, 0x1_0246));
    for (n, gpr) in old.gprs.iter().enumerate() {
        assert_eq!(u64::from(memory.word(OLD_TSS + 0x28 + 4 * n as u32)), *gpr);
    }
    assert_eq!(memory.word(OLD_TSS + 0x4c), CODE.into());
    // The new one is nested in it.
    assert_eq!(memory.word(NEW_TSS), OLD.into());
    assert_eq!((memory.kind(OLD), memory.kind(NEW)), (11, 11));
    assert_eq!((task.rip, task.rflags, task.cr3, memory.cr3), (0xc000_1234, 2 | RFLAGS_NT, 0x7000, 0x7000));
    assert_eq!(task.cr0, old.cr0 | CR0_TS);
    assert_eq!(task.dr7, 0x6aa, "breakpoints of the old task are off");
    assert_eq!((task.gprs[4], memory.word(0x8ffc)), (0x8ffc, 0), "the error code is on the new stack");
    assert_eq!(
        task.segments[7],
        SegmentState { selector: NEW, base: NEW_TSS.into(), limit: 0x206b, rights: 0x8b }
    );
    assert_eq!((task.segments[1], task.segments[4].rights), (old.segments[1], 0x1_0000));

    // And back by IRET.
    task.rip += 1;
    assert_eq!(switch(&mut task, to(OLD, Source::Iret), None, &mut memory), Ok(false));
    assert_eq!((task.rip, task.rflags, task.gprs), (old.rip, old.rflags, old.gprs));
    assert_eq!((memory.kind(OLD), memory.kind(NEW)), (11, 9));
    assert_eq!(memory.word(NEW_TSS + 0x24), 2, "NT is gone from the task that ended");
}

#[test]
fn jmp_leaves_nothing_nested() {
    let (mut task, mut memory) = kernel();
    memory.put(NEW_TSS + 0x64, 1);
    memory.put(NEW_TSS + 0x60, LOCAL.into());
    assert_eq!(switch(&mut task, to(NEW, Source::Jmp), None, &mut memory), Ok(true), "T flag");
    assert_eq!((memory.kind(OLD), memory.kind(NEW), memory.word(NEW_TSS)), (9, 11, 0));
    assert_eq!((task.rflags, task.gprs[4]), (2, 0x9000));
    let ldtr = SegmentState { selector: LOCAL, base: LDT.into(), limit: 0xff, rights: 0x82 };
    assert_eq!(task.segments[6], ldtr);
}

#[test]
fn virtual_8086_segments_have_no_descriptors() {
    let (mut task, mut memory) = kernel();
    memory.put(NEW_TSS + 0x24, 1 << 17 | 2);
    for n in 0..6 {
        memory.put(NEW_TSS + 0x48 + 4 * n, 0xf000 + n);
    }
    memory.put(NEW_TSS + 0x20, 0xfff0);
    assert_eq!(switch(&mut task, to(NEW, Source::Call), None, &mut memory), Ok(false));
    let cs = SegmentState { selector: 0xf001, base: 0xf_0010, limit: 0xffff, rights: 0xf3 };
    assert_eq!((task.segments[1], task.rip), (cs, 0xfff0));
}

type Spoil = fn(&mut Task, &mut Memory);

#[test]
fn each_check_of_the_table_has_its_exception() {
    // What is wrong, the vector, the error code, and whether the old task is the one to see it.
    let cases: &[(Spoil, u8, u32, bool)] = &[
        (|_, m| m.descriptor(NEW, NEW_TSS, 0x206b, 0x09), 11, NEW as u32, true),
        (|_, m| m.descriptor(NEW, NEW_TSS, 0x66, 0x89), 10, NEW as u32, true),
        (|_, m| m.descriptor(NEW, NEW_TSS, 0x206b, 0x8b), 10, NEW as u32, true),
        (|t, _| t.gdtr.limit = 0x26, 10, NEW as u32, true),
        (|_, m| m.missing = Some(NEW_TSS), 14, 0, true),
        (|_, m| m.missing = Some(OLD_TSS), 14, 0, true),
        (|_, m| m.put(NEW_TSS + 0x60, DATA.into()), 10, DATA as u32, false),
        (|_, m| m.put(NEW_TSS + 0x60, 0x2c), 10, 0x2c, false),
        (|_, m| m.put(NEW_TSS + 0x4c, 0), 10, 0, false),
        (|_, m| m.put(NEW_TSS + 0x4c, DATA.into()), 10, DATA as u32, false),
        (|_, m| m.put(NEW_TSS + 0x50, 0x13), 10, DATA as u32, false),
        (|_, m| m.put(NEW_TSS + 0x50, CODE.into()), 10, CODE as u32, false),
        (|_, m| m.descriptor(DATA, 0, 0xf_ffff, 0xc013), 11, DATA as u32, false),
        (|_, m| m.put(NEW_TSS + 0x5c, 0xf8 | 4), 10, 0xfc, false),
        (|_, m| m.descriptor(CODE, 0, 0xffff, 0x409b), 13, 0, false),
        (|_, m| m.put(NEW_TSS + 0x38, 0x2_0000), 14, 0, false),
    ];
    for (number, (spoil, vector, code, before)) in cases.iter().enumerate() {
        let (mut task, mut memory) = kernel();
        spoil(&mut task, &mut memory);
        let old = task;
        let fault = switch(&mut task, to(NEW, Source::Gate), Some(DOUBLE_FAULT), &mut memory);
        assert_eq!(fault, Err(TaskError::Fault(Event::exception(*vector, Some(*code)))), "{number}");
        assert_eq!(task == old, *before, "{number}");
        assert_eq!(task.segments[7].selector, if *before { OLD } else { NEW }, "{number}");
    }
    let (mut task, mut memory) = kernel();
    memory.descriptor(DATA, 0, 0xf_ffff, 0xc013);
    memory.put(NEW_TSS + 0x48, 0);
    let stack = switch(&mut task, to(NEW, Source::Jmp), None, &mut memory);
    assert_eq!(stack, Err(fault(vector::STACK_FAULT, DATA)));
    assert_eq!(switch(&mut task, to(NARROW, Source::Jmp), None, &mut memory), Err(TaskError::Narrow));
}

#[test]
fn qualifications_by_the_table() {
    assert_eq!(TaskSwitch::decode(0xc000_0020), to(0x20, Source::Gate));
    assert_eq!(TaskSwitch::decode(0x4000_0018), to(0x18, Source::Iret));
    assert_eq!(TaskSwitch::decode(0x8000_0018), to(0x18, Source::Jmp));
    assert_eq!(TaskSwitch::decode(0x18), to(0x18, Source::Call));
    let int = Event::decode(0x8000_0480, 0, 2);
    assert!(to(NEW, Source::Gate).is_instruction(int) && to(NEW, Source::Jmp).is_instruction(None));
    assert!(!to(NEW, Source::Gate).is_instruction(Some(DOUBLE_FAULT)));
}

/// The guest's tables may hold anything: the switch ends in a value, and in a state that can be entered.
#[test]
fn any_tables_end_in_a_value() {
    let mut seed = 1_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed >> 33
    };
    let mut entered = 0;
    for _ in 0..20_000 {
        let (mut task, mut memory) = kernel();
        for _ in 0..random() % 6 {
            let at = [GDT, NEW_TSS, OLD_TSS][random() as usize % 3] + random() as u32 % 0x68;
            memory.put(at, random() as u32 * (random() as u32 & 1));
        }
        task.gdtr.limit = random() as u32 % 0x100;
        let source = TaskSwitch::decode(random() << 30).source;
        let old = task;
        let _ = switch(
            &mut task,
            to([NEW, random() as u16][random() as usize % 2], source),
            Some(DOUBLE_FAULT),
            &mut memory,
        );
        if task != old {
            entered += 1;
            assert_eq!(legal(&task), Ok(()), "{task:x?}");
        }
    }
    assert!(entered > 1000, "{entered}");
}

/// Whether VM entry takes the segments of a task.
fn legal(task: &Task) -> Result<(), Broken> {
    let virtual_8086 = is_virtual_8086(task);
    let regs = GuestRegs { cr0: task.cr0, segments: task.segments, virtual_8086, ..GuestRegs::default() };
    regs.check_segments(&Mode::any(true, 40))
}
