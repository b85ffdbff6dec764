//! The interface is not EPT's alone: a software TLB goes through the same order, and loses no write.

#[path = "model/choice.rs"]
mod choice;
mod software;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use choice::{Choices, explore};
use software::{Entry, Software};
use translation::{
    Asked, Backing, Caches, Cause, Change, CpuSet, DirtyMethod, Eptp, Fault, FlushRequests, GuestPaging,
    HwPaging, Invalid, Tags, Tracked, Unmapped, View, finish, load, poll,
};
use vm_types::{Backlog, Gpa, GuestMemory, Hpa, MemRange, MemoryError, PageSet};
use vmx_types::paging::{CR0_PE, CR0_PG, CR0_TS, CR4_PGE, ControlRegs};

const LEN: u64 = 0x8000;
const RAM: u64 = 0x4000_0000;
const DIRECTORY: u64 = 0x1000;
const TABLE: u64 = 0x2000;
/// The page that is written, and the linear addresses that lead to it.
const GPA: u64 = 0x3000;
const LINEAR: u64 = 0x5000;
const GLOBAL: u64 = 0x6000;
/// Present, writable, for all; accessed and dirty are the CPU's to set.
const PAGE: u32 = 7;
const DIRTY: u32 = 1 << 6;

/// The guest's memory. Whoever writes through it marks the page.
struct Ram {
    ranges: [MemRange; 1],
    bytes: RefCell<Vec<u8>>,
    logged: PageSet,
}

impl Ram {
    fn at(&self, gpa: Gpa, len: usize) -> Result<std::ops::Range<usize>, MemoryError> {
        let end = gpa.0.saturating_add(len as u64);
        if end > LEN { Err(MemoryError { gpa, len }) } else { Ok(gpa.0 as usize..end as usize) }
    }

    fn entry(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.read(Gpa(at), &mut bytes).unwrap();
        u32::from_le_bytes(bytes)
    }
}

impl GuestMemory for Ram {
    fn ranges(&self) -> &[MemRange] {
        &self.ranges
    }

    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        buf.copy_from_slice(&self.bytes.borrow()[self.at(gpa, buf.len())?]);
        Ok(())
    }

    fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), MemoryError> {
        let range = self.at(gpa, data.len())?;
        self.logged.insert(gpa.gfn());
        self.bytes.borrow_mut()[range].copy_from_slice(data);
        Ok(())
    }
}

struct Vm<'h> {
    software: RefCell<Software>,
    ram: Ram,
    backlog: Backlog,
    regs: Cell<ControlRegs>,
    /// What the CPU has cached of the vCPU's tables: each exit drops it, no other instruction does.
    cached: RefCell<BTreeMap<u64, Entry>>,
    ran_on: CpuSet,
    requests: FlushRequests,
    number: Cell<u32>,
    /// Requests are acknowledged without an exit.
    deaf: bool,
    content: Cell<u64>,
    meanwhile: Option<&'h dyn Fn(&Vm<'h>)>,
}

/// The CPU has nothing that an instruction of this kind would drop.
struct Nothing;

impl Caches for Nothing {
    fn invept(&self, eptp: Eptp) {
        panic!("{eptp:?} is flushed")
    }

    fn invvpid(&self, vpid: u16) {
        panic!("VPID {vpid} is flushed")
    }
}

impl<'h> Vm<'h> {
    fn new() -> Self {
        let ram = Ram {
            ranges: [MemRange { start: Gpa(0), len: LEN }],
            bytes: RefCell::new(vec![0; LEN as usize]),
            logged: PageSet::new(LEN / 4096),
        };
        let mut software = Software::default();
        let mut left = Unmapped { gpa: Gpa(0), hpa: Hpa(RAM), len: LEN };
        while left.step(&mut software).unwrap() {}
        let vm = Self {
            software: software.into(),
            ram,
            backlog: Backlog::new(LEN / 4096),
            regs: Cell::default(),
            cached: RefCell::default(),
            ran_on: CpuSet::new(1),
            requests: FlushRequests::default(),
            number: Cell::new(0),
            deaf: false,
            content: Cell::new(0),
            meanwhile: None,
        };
        vm.guest_maps(DIRECTORY, TABLE as u32 | PAGE);
        vm.guest_maps(TABLE + LINEAR / 4096 * 4, GPA as u32 | PAGE);
        vm.guest_maps(TABLE + GLOBAL / 4096 * 4, GPA as u32 | PAGE | 1 << 8);
        vm.guest_maps(TABLE + 7 * 4, 0xfee0_0000 | PAGE);
        load(&vm.ran_on, 0, None, Tags { eptp: vm.software.borrow().cached(), vpid: None }, &Nothing);
        vm.loads(ControlRegs { cr0: CR0_PE | CR0_PG, cr3: DIRECTORY, cr4: CR4_PGE, efer: 0 });
        vm
    }

    /// The guest writes an entry of its tables; nobody is told, as they are not write-protected.
    fn guest_maps(&self, at: u64, entry: u32) {
        self.ram.bytes.borrow_mut()[at as usize..][..4].copy_from_slice(&entry.to_le_bytes());
    }

    /// The guest loads control registers.
    fn loads(&self, regs: ControlRegs) -> HwPaging {
        self.regs.set(regs);
        self.cached.borrow_mut().clear();
        self.with(|tables| tables.view(0).activate(&GuestPaging { regs, pdptes: None, phys_bits: 36 }))
    }

    fn invlpg(&self, linear: u64) {
        self.cached.borrow_mut().clear();
        self.with(|tables| tables.view(0).invalidate(Invalid::Page(linear)));
    }

    /// The host's page that an access reaches, or what it meets.
    fn reaches(&self, linear: u64, write: bool) -> Result<u64, Fault> {
        loop {
            let found = self.cached.borrow().get(&(linear >> 12)).copied();
            let found = found.or_else(|| self.software.borrow().entry(0, linear));
            if let Some(entry) = found.filter(|entry| !write || entry.writable) {
                self.cached.borrow_mut().insert(linear >> 12, entry);
                return Ok(entry.page);
            }
            // the exit, which drops all
            self.cached.borrow_mut().clear();
            let error_code = u32::from(found.is_some()) | u32::from(write) << 1;
            let mut software = self.software.borrow_mut();
            let cause = Cause::page_fault(linear, error_code);
            match software.view(0).fault(cause, &self.ram, &self.ram.logged).unwrap() {
                Fault::Resolved => {}
                other => return Err(other),
            }
        }
    }

    fn writes(&self, linear: u64) {
        assert_eq!(self.reaches(linear, true), Ok(RAM + GPA));
        self.content.set(self.content.get() + 1);
    }

    fn interrupted(&self) {
        if let Some(meanwhile) = self.meanwhile {
            meanwhile(self);
        }
    }
}

impl Tracked for Vm<'_> {
    type Tables = Software;

    fn with<R>(&self, f: impl FnOnce(&mut Software) -> R) -> R {
        self.interrupted();
        f(&mut self.software.borrow_mut())
    }

    fn logged(&self) -> &PageSet {
        &self.ram.logged
    }

    fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    fn ask(&self, asked: Asked) {
        assert_eq!(asked, Asked::Flush, "no CPU has a log");
        self.interrupted();
        self.number.set(self.requests.ask(self.software.borrow().cached()));
    }

    fn has_answered(&self, _: Asked) -> bool {
        let done = self.requests.has_done(self.number.get());
        // the kick makes the CPU exit, and it serves what it was asked for
        if !done && !self.deaf {
            self.cached.borrow_mut().clear();
        }
        self.requests.serve(|wanted| panic!("{wanted:?}: the exit is all that is needed"));
        self.interrupted();
        done
    }
}

/// Two harvests with a copy of the page after each where it was noticed, and one with the guest stopped. True where a
/// run was found for which the copy is not the page.
fn loses(deaf: bool) -> bool {
    let (runs, lost) = explore(|choices: &Choices| {
        let left = Cell::new(3);
        let meanwhile = |vm: &Vm<'_>| {
            if left.get() != 0 {
                match choices.pick(3) {
                    0 => return,
                    1 => assert!(vm.reaches(LINEAR, false).is_ok()),
                    _ => vm.writes(LINEAR),
                }
                left.set(left.get() - 1);
            }
        };
        let mut vm = Vm::new();
        vm.writes(LINEAR);
        assert_eq!(finish(&vm, Change::Track(DirtyMethod::WriteProtect)), Ok(0));
        vm.meanwhile = Some(&meanwhile);
        vm.deaf = deaf;
        let copy = Cell::new(vm.content.get());
        for round in 0..3 {
            if round == 2 {
                left.set(0);
            }
            while poll(&vm, Change::Harvest).is_pending() {}
            while let Some(page) = vm.backlog.take(0) {
                if page == GPA >> 12 {
                    copy.set(vm.content.get());
                }
            }
        }
        copy.get() == vm.content.get()
    });
    println!("{runs} runs, a write is lost: {lost}");
    lost
}

#[test]
fn no_write_is_missed() {
    assert!(!loses(false));
}

#[test]
fn a_cpu_that_does_not_exit_is_found_out() {
    assert!(loses(true));
}

/// Flags that the hypervisor sets for the CPU are writes to the guest's memory.
#[test]
fn what_is_set_in_the_guests_tables_is_harvested() {
    let vm = Vm::new();
    finish(&vm, Change::Track(DirtyMethod::WriteProtect)).unwrap();
    vm.writes(LINEAR);
    assert_eq!(vm.ram.entry(TABLE + LINEAR / 4096 * 4) & DIRTY, DIRTY);
    finish(&vm, Change::Harvest).unwrap();
    let pages: Vec<u64> = std::iter::from_fn(|| vm.backlog.take(0)).collect();
    assert_eq!(pages, [DIRECTORY >> 12, TABLE >> 12, GPA >> 12]);
}

/// What the guest has not invalidated may be used, what it has may not (SDM 3A 4.10).
#[test]
fn its_guest_has_a_tlb_like_any_other() {
    let vm = Vm::new();
    let regs = vm.regs.get();
    let other = |vm: &Vm<'_>, linear: u64| vm.guest_maps(TABLE + linear / 4096 * 4, 0x4000 | PAGE);
    let page = |vm: &Vm<'_>, linear| vm.reaches(linear, false).unwrap() - RAM;
    vm.writes(LINEAR);
    vm.writes(GLOBAL);
    other(&vm, LINEAR);
    other(&vm, GLOBAL);
    vm.loads(ControlRegs { cr0: regs.cr0 | CR0_TS, ..regs });
    assert_eq!((page(&vm, LINEAR), page(&vm, GLOBAL)), (GPA, GPA), "TS drops nothing");
    vm.loads(vm.regs.get());
    assert_eq!((page(&vm, LINEAR), page(&vm, GLOBAL)), (0x4000, GPA), "CR3 with the value that it had");
    vm.guest_maps(TABLE + LINEAR / 4096 * 4, GPA as u32 | PAGE);
    vm.invlpg(GLOBAL);
    assert_eq!(
        (page(&vm, LINEAR), page(&vm, GLOBAL)),
        (0x4000, 0x4000),
        "INVLPG drops one page, a global one too"
    );
    vm.loads(ControlRegs { cr4: 0, ..vm.regs.get() });
    assert_eq!(page(&vm, LINEAR), GPA, "PGE");
}

/// A fault is the guest's own, a device's, or ours.
#[test]
fn a_fault_says_whose_it_is() {
    let vm = Vm::new();
    assert_eq!(vm.reaches(0x4000, true), Err(Fault::Guests(2)), "not present, a write");
    assert_eq!(vm.reaches(0x7010, false), Err(Fault::Unmapped(Gpa(0xfee0_0010))));
    vm.guest_maps(TABLE + 7 * 4, 0);
    assert_eq!(vm.reaches(0x7010, false), Err(Fault::Guests(0)), "nothing of a device is kept");
}

/// Each vCPU has its own tables, and tells the VMCS where.
#[test]
fn vcpus_have_a_side_each() {
    let vm = Vm::new();
    let paging = |vcpu| {
        let guest = GuestPaging { regs: vm.regs.get(), pdptes: None, phys_bits: 36 };
        match vm.software.borrow_mut().view(vcpu).activate(&guest) {
            HwPaging::Shadowed(shadowed) => shadowed,
            nested @ HwPaging::Nested(_) => panic!("{nested:?}"),
        }
    };
    assert_ne!(paging(0).cr3, paging(1).cr3);
    vm.writes(LINEAR);
    assert!(
        vm.software.borrow().entry(0, LINEAR).is_some() && vm.software.borrow().entry(1, LINEAR).is_none()
    );
    vm.with(|tables| tables.view(1).invalidate(Invalid::All));
    assert!(vm.software.borrow().entry(0, LINEAR).is_some());
    vm.with(|tables| tables.view(0).invalidate(Invalid::All));
    assert!(vm.software.borrow().entry(0, LINEAR).is_none());
}
