//! A VM of a simulated host, as the protocol's `SourceVm` and `TargetVm`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::task::Poll;

use migrate::{Offer, PAGE_BYTES, PageRange, SourceVm, TargetMemory, TargetVm};
use vm_types::{Gpa, MemoryError, StateError, StateRecord};

use super::guest::{Guest, Page, Registers, Timeline};

/// How the host sees its VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Running,
    Stopped,
    Given,
    Unknown,
    Incoming,
}

pub struct Vm {
    pub guest: Guest,
    pub status: Status,
    tracking: bool,
    written: BTreeSet<u64>,
    harvested: BTreeSet<u64>,
    pub share: u8,
    credit: u32,
}

impl Vm {
    pub fn new(guest: Guest, status: Status) -> Self {
        let (written, harvested) = (BTreeSet::new(), BTreeSet::new());
        Self { guest, status, tracking: false, written, harvested, share: 100, credit: 0 }
    }

    /// The guest gets its turn.
    pub fn run(&mut self, place: &str) {
        if self.status != Status::Running {
            return;
        }
        self.credit += u32::from(self.share);
        while self.credit >= 100 {
            self.credit -= 100;
            let frame = self.guest.step(place);
            if self.tracking {
                self.written.extend(frame);
            }
        }
    }

    /// No migration has left a trace.
    pub fn assert_unharmed(&self) {
        assert!(!self.tracking && self.share == 100, "tracking {}, share {}", self.tracking, self.share);
        assert!(self.harvested.is_empty() && self.written.is_empty(), "pages are still marked");
    }
}

/// What a host holds.
#[derive(Clone, Default)]
pub struct Store {
    pub vm: Rc<RefCell<Option<Rc<RefCell<Vm>>>>>,
    /// Pages of guest memory in use.
    pub used: Rc<Cell<u64>>,
}

impl Store {
    pub fn put(&self, vm: Vm) -> Rc<RefCell<Vm>> {
        self.used.set(self.used.get() + vm.guest.pages.len() as u64);
        let vm = Rc::new(RefCell::new(vm));
        assert!(self.vm.borrow().is_none(), "a second VM on one host");
        *self.vm.borrow_mut() = Some(vm.clone());
        vm
    }

    /// Frees the VM and its memory.
    pub fn free(&self) {
        if let Some(vm) = self.vm.borrow_mut().take() {
            self.used.set(self.used.get() - vm.borrow().guest.pages.len() as u64);
        }
    }

    pub fn status(&self) -> Option<Status> {
        self.vm.borrow().as_ref().map(|vm| vm.borrow().status)
    }

    pub fn set(&self, status: Status) {
        self.vm.borrow().as_ref().expect("a VM").borrow_mut().status = status;
    }
}

fn index(ranges: &[PageRange], gfn: u64) -> Result<usize, MemoryError> {
    let mut before = 0;
    for r in ranges {
        if (r.first..r.first + r.pages).contains(&gfn) {
            return Ok((before + gfn - r.first) as usize);
        }
        before += r.pages;
    }
    Err(MemoryError { gpa: Gpa(gfn.saturating_mul(4096)), len: PAGE_BYTES })
}

/// The VM on the host that it leaves.
pub struct Leaving {
    pub vm: Rc<RefCell<Vm>>,
    pub store: Store,
    delay: u32,
}

impl Leaving {
    pub fn new(store: &Store) -> Option<Self> {
        let vm = store.vm.borrow().clone()?;
        Some(Self { vm, store: store.clone(), delay: 2 })
    }
}

impl SourceVm for Leaving {
    fn start_tracking(&mut self) -> Poll<Result<(), String>> {
        self.vm.borrow_mut().tracking = true;
        Poll::Ready(Ok(()))
    }

    fn harvest(&mut self) -> Poll<u64> {
        let vm = &mut *self.vm.borrow_mut();
        assert!(vm.tracking);
        vm.harvested.append(&mut vm.written);
        Poll::Ready(vm.harvested.len() as u64)
    }

    fn take_dirty(&mut self, from: u64) -> Option<u64> {
        let vm = &mut *self.vm.borrow_mut();
        let gfn = *vm.harvested.range(from..).next()?;
        vm.harvested.remove(&gfn);
        Some(gfn)
    }

    fn read_page(&mut self, gfn: u64, page: &mut Page) -> Result<(), MemoryError> {
        let vm = self.vm.borrow();
        *page = vm.guest.pages[index(&vm.guest.ranges, gfn)?];
        Ok(())
    }

    fn throttle(&mut self, share: u8) {
        self.vm.borrow_mut().share = share;
    }

    fn pause(&mut self) -> Poll<()> {
        if self.delay > 0 {
            self.delay -= 1;
            return Poll::Pending;
        }
        self.vm.borrow_mut().status = Status::Stopped;
        Poll::Ready(())
    }

    fn resume(&mut self) {
        let mut vm = self.vm.borrow_mut();
        // Given: only where the target said that it has destroyed its copy.
        let may = matches!(vm.status, Status::Stopped | Status::Running | Status::Given | Status::Unknown);
        assert!(may, "resumed while {:?}", vm.status);
        vm.status = Status::Running;
    }

    fn give_back(&mut self) {
        // The next attempt begins with every page.
    }

    fn stop_tracking(&mut self) {
        let vm = &mut *self.vm.borrow_mut();
        vm.tracking = false;
        vm.written.clear();
        vm.harvested.clear();
    }

    fn export_state(&mut self) -> Result<Vec<StateRecord>, String> {
        let vm = self.vm.borrow();
        assert_eq!(vm.status, Status::Stopped);
        let record = |kind: &str, body| StateRecord { kind: kind.into(), instance: 0, version: 1, body };
        Ok(vec![record("uart", vec![0xa0]), record("vcpu", vm.guest.registers.to_bytes())])
    }

    fn give_up(&mut self) {
        self.vm.borrow_mut().status = Status::Given;
    }

    fn free(&mut self) {
        assert!(matches!(self.vm.borrow().status, Status::Given | Status::Unknown));
        self.store.free();
    }

    fn mark_unknown(&mut self) {
        assert_eq!(self.vm.borrow().status, Status::Given);
        self.vm.borrow_mut().status = Status::Unknown;
    }
}

/// The VM on the host that it comes to.
pub struct Arriving {
    pub vm: Option<Rc<RefCell<Vm>>>,
    store: Store,
    timeline: Timeline,
    writes: u64,
}

impl Arriving {
    pub fn new(store: &Store, timeline: &Timeline, writes: u64) -> Self {
        Self { vm: None, store: store.clone(), timeline: timeline.clone(), writes }
    }

    fn made(&self) -> std::cell::RefMut<'_, Vm> {
        self.vm.as_ref().expect("the VM is made").borrow_mut()
    }
}

impl TargetMemory for Arriving {
    fn write_page(&mut self, gfn: u64, page: &Page) -> Result<(), MemoryError> {
        let mut vm = self.made();
        assert_eq!(vm.status, Status::Incoming, "memory comes to a VM that is not incoming");
        let at = index(&vm.guest.ranges, gfn)?;
        vm.guest.pages[at] = *page;
        Ok(())
    }

    fn fill_page(&mut self, gfn: u64, word: u64) -> Result<(), MemoryError> {
        let mut page = [0; PAGE_BYTES];
        page.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&word.to_le_bytes()));
        self.write_page(gfn, &page)
    }

    fn read_page(&self, gfn: u64, page: &mut Page) -> Result<(), MemoryError> {
        let vm = self.made();
        *page = vm.guest.pages[index(&vm.guest.ranges, gfn)?];
        Ok(())
    }
}

impl TargetVm for Arriving {
    fn check(&mut self, offer: &Offer<'_>) -> Result<(), String> {
        let _ = offer;
        if self.store.vm.borrow().is_some() { Err("vm demo is on this host already".into()) } else { Ok(()) }
    }

    fn create(&mut self, offer: &Offer<'_>) -> Poll<Result<(), String>> {
        let ranges: Vec<_> = offer.shape.ranges.iter().map(|r| (r.first, r.pages)).collect();
        let mut guest = Guest::new(&ranges, 0, self.writes);
        guest.pages.iter_mut().for_each(|page| page.fill(0));
        guest.timeline = self.timeline.clone();
        self.vm = Some(self.store.put(Vm::new(guest, Status::Incoming)));
        Poll::Ready(Ok(()))
    }

    fn import_state(&mut self, records: &[StateRecord]) -> Result<(), StateError> {
        let bad = |why: &str| StateError { kind: "vcpu".into(), why: why.into() };
        let vcpu = records.iter().find(|r| r.kind == "vcpu").ok_or_else(|| bad("absent"))?;
        let registers = Registers::from_bytes(&vcpu.body).ok_or_else(|| bad("short"))?;
        self.made().guest.registers = registers;
        Ok(())
    }

    fn run(&mut self, _elapsed_ns: u64) {
        let mut vm = self.made();
        assert!(matches!(vm.status, Status::Incoming | Status::Unknown), "{:?} runs", vm.status);
        vm.status = Status::Running;
        // Before its first instruction.
        vm.guest.check().unwrap_or_else(|why| panic!("at the target: {why}"));
    }

    fn destroy(&mut self) {
        if let Some(vm) = self.vm.take() {
            assert!(matches!(vm.borrow().status, Status::Incoming | Status::Unknown), "destroyed");
            self.store.free();
        }
    }
}
