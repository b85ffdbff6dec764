//! A VM of a simulated host, as the protocol's `SourceVm` and `TargetVm`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::task::Poll;

use migrate::ownership::{Change, Entry, Gate, State, StateCell};
use migrate::{Offer, PAGE_BYTES, PageRange, SourceVm, TargetMemory, TargetVm};
use vm_types::{Gpa, MemoryError, StateError, StateRecord};

use super::guest::{Guest, Page, Registers, Timeline};

/// A VM as the kernel has it: what it is and whether its vCPU is off are the types that the kernel uses.
pub struct Vm {
    pub guest: Guest,
    state: StateCell,
    gate: Gate,
    /// Why the guest ended by itself.
    pub over: Option<String>,
    /// It was told to power off.
    pub power_button: bool,
    tracking: bool,
    written: BTreeSet<u64>,
    harvested: BTreeSet<u64>,
    pub share: u8,
    credit: u32,
}

impl Vm {
    /// Paused.
    pub fn new(guest: Guest) -> Self {
        Self {
            guest,
            state: StateCell::new(),
            gate: Gate::new(),
            over: None,
            power_button: false,
            tracking: false,
            written: BTreeSet::new(),
            harvested: BTreeSet::new(),
            share: 100,
            credit: 0,
        }
    }

    pub fn state(&self) -> State {
        self.state.get()
    }

    /// What the kernel's `Vm::apply` does.
    pub fn apply(&mut self, change: Change) -> bool {
        let changed = self.state.change(change);
        if changed.is_ok_and(|(_, now)| now.may_run()) {
            self.share = 100;
        }
        changed.is_ok()
    }

    /// The same where nothing else could have happened.
    pub fn must(&mut self, change: Change) {
        let before = self.state();
        assert!(self.apply(change), "{change:?} while it is {before:?}");
    }

    /// What goes on by itself once the vCPU is off. A guest that boots anew goes on counting here, so that each of its
    /// instructions is known. False where the VM is to be freed.
    pub fn goes_on(&mut self) -> bool {
        match self.state() {
            State::Resetting if !self.is_on() => {
                (self.over, self.power_button) = (None, false);
                self.must(Change::Anew);
                self.must(Change::Run);
            }
            State::Ending => return self.is_on(),
            _ => {}
        }
        true
    }

    /// The vCPU is taken off for a moment, where it is on.
    pub fn held(&mut self) {
        let ran = self.apply(Change::Pause);
        if self.is_on() {
            self.gate.close();
        }
        if ran {
            self.must(Change::Run);
        }
    }

    /// Whether its vCPU is on a CPU.
    pub fn is_on(&self) -> bool {
        !self.gate.is_off()
    }

    /// The guest gets its turn.
    pub fn run(&mut self, place: &str) {
        match self.gate.enter(&self.state) {
            Entry::Run if self.power_button => {
                self.over = Some("power-off".into());
                self.must(Change::End);
                return self.gate.close();
            }
            Entry::Run => {}
            Entry::TakeOff => return self.gate.close(),
            Entry::Off => return,
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
        assert!(
            !self.vm.borrow().as_ref().is_some_and(|vm| vm.borrow().is_on()),
            "freed with its VMCS loaded"
        );
        if let Some(vm) = self.vm.borrow_mut().take() {
            self.used.set(self.used.get() - vm.borrow().guest.pages.len() as u64);
        }
    }

    pub fn state(&self) -> Option<State> {
        self.vm.borrow().as_ref().map(|vm| vm.borrow().state())
    }

    pub fn must(&self, change: Change) {
        self.vm.borrow().as_ref().expect("a VM").borrow_mut().must(change);
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
    stopped: bool,
}

impl Leaving {
    pub fn new(store: &Store) -> Option<Self> {
        let vm = store.vm.borrow().clone()?;
        Some(Self { vm, store: store.clone(), stopped: false })
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

    fn throttle(&mut self, shares: &migrate::Shares) {
        self.vm.borrow_mut().share = shares.of(0);
    }

    fn pause(&mut self) -> Poll<u64> {
        let mut vm = self.vm.borrow_mut();
        if !std::mem::replace(&mut self.stopped, true) {
            vm.apply(Change::Still);
        }
        if vm.is_on() { Poll::Pending } else { Poll::Ready(0) }
    }

    fn resume(&mut self) {
        if std::mem::take(&mut self.stopped) {
            let mut vm = self.vm.borrow_mut();
            assert!(vm.apply(Change::Back) || vm.state() == State::Stopped, "resumed while {:?}", vm.state());
        }
    }

    fn ended(&self) -> Option<String> {
        self.vm.borrow().over.clone()
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
        assert!(vm.state() == State::Leaving && !vm.is_on());
        let record = |kind: &str, body| StateRecord { kind: kind.into(), instance: 0, version: 1, body };
        Ok(vec![record("uart", vec![0xa0]), record("vcpu", vm.guest.registers.to_bytes())])
    }

    fn give_up(&mut self) -> Result<(), String> {
        let mut vm = self.vm.borrow_mut();
        let given = !vm.is_on() && vm.apply(Change::GiveUp);
        given.then_some(()).ok_or_else(|| format!("it is {}", vm.state().name()))
    }

    fn free(&mut self) {
        assert!(matches!(self.vm.borrow().state(), State::Given | State::Unknown));
        self.store.free();
    }

    fn mark_unknown(&mut self) {
        self.vm.borrow_mut().must(Change::Doubt);
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
        assert_eq!(vm.state(), State::Incoming, "memory comes to a VM that is not incoming");
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
        let mut vm = Vm::new(guest);
        vm.must(Change::Arrive);
        self.vm = Some(self.store.put(vm));
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
        vm.must(Change::Take);
        // Before its first instruction.
        vm.guest.check().unwrap_or_else(|why| panic!("at the target: {why}"));
    }

    fn destroy(&mut self) {
        if let Some(vm) = self.vm.take() {
            assert!(matches!(vm.borrow().state(), State::Incoming | State::Unknown), "destroyed");
            self.store.free();
        }
    }
}
