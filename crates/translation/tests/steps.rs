//! A VM of 1 TiB: no step is long, and a harvest looks at what may be dirty only. Fault 3.4.

use std::sync::atomic::{AtomicU64, Ordering};
use translation::{
    Asked, Backing, Change, DirtyMethod, Ept, Features, Frames, STEP, Table, Tracked, Unmapped, poll,
};
use vm_types::{Backlog, Gpa, Hpa, PageSet};

const TIB: u64 = 1 << 40;
const PAGES: u64 = TIB >> 12;
const REGIONS: u64 = TIB >> 21;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Tables down to those of 2 MiB entries: one, two, and one for each GiB.
const UPPER: usize = 1 + 2 + 1024;

/// Memory in which the tables of 4 KiB entries, 2 GiB of them, share one page: it is counted, not looked at.
struct Vast {
    upper: Vec<Table>,
    shared: Table,
    next: AtomicU64,
    given_back: AtomicU64,
    /// Entries touched: one of an upper table, or 512 of one of 4 KiB entries, whenever it is asked for, and 512
    /// where one is made, which clears it.
    touched: AtomicU64,
    /// Tables of 4 KiB entries that were asked for, and other ones.
    leaves: AtomicU64,
    looks: AtomicU64,
}

impl Vast {
    fn new() -> Self {
        let table = || -> Table { [const { AtomicU64::new(0) }; 512] };
        Self {
            upper: (0..UPPER).map(|_| table()).collect(),
            shared: table(),
            next: AtomicU64::new(0),
            given_back: AtomicU64::new(0),
            touched: AtomicU64::new(0),
            leaves: AtomicU64::new(0),
            looks: AtomicU64::new(0),
        }
    }

    fn count(&self, counter: &AtomicU64, by: u64) -> u64 {
        counter.fetch_add(by, Ordering::Relaxed)
    }
}

impl<'m> Frames<'m> for &'m Vast {
    fn alloc(self) -> Option<Hpa> {
        self.count(&self.touched, 512);
        Some(Hpa((self.count(&self.next, 1) + 1) * 4096))
    }

    fn free(self, _: Hpa) {
        self.count(&self.given_back, 1);
    }

    fn available(self) -> u64 {
        u64::MAX
    }

    fn table(self, page: Hpa) -> &'m Table {
        let upper = self.upper.get((page.0 / 4096 - 1) as usize);
        self.count(&self.touched, if upper.is_some() { 1 } else { 512 });
        self.count(if upper.is_some() { &self.looks } else { &self.leaves }, 1);
        upper.unwrap_or(&self.shared)
    }
}

/// Does a step, which must not be a long one.
fn counted<R>(memory: &Vast, step: impl FnOnce() -> R) -> R {
    memory.touched.store(0, Ordering::Relaxed);
    let result = step();
    let touched = memory.touched.load(Ordering::Relaxed);
    assert!(touched <= STEP.into(), "a step of {touched} entries");
    result
}

struct Vm<'m> {
    memory: &'m Vast,
    ept: std::cell::RefCell<Ept<'m, &'m Vast>>,
    logged: PageSet,
    backlog: Backlog,
    /// Whether the entries of each step are counted: pages that are logged have one entry each, wherever they are.
    counts: bool,
}

impl<'m> Vm<'m> {
    fn new(memory: &'m Vast) -> Self {
        let vm = Self::of(memory, TIB);
        assert_eq!(memory.next.load(Ordering::Relaxed), UPPER as u64);
        vm
    }

    fn of(memory: &'m Vast, len: u64) -> Self {
        let features = Features { access_dirty: true, executable_large_pages: false };
        let mut ept = Ept::new(memory, features).unwrap();
        let mut left = Unmapped { gpa: Gpa(0), hpa: Hpa(TIB), len };
        while counted(memory, || left.step(&mut ept)).unwrap() {}
        let (logged, backlog) = (PageSet::new(PAGES), Backlog::new(PAGES));
        Self { memory, ept: ept.into(), logged, backlog, counts: true }
    }

    /// Runs a change; returns its figure, the number of its steps, and of tables of 4 KiB entries asked for.
    fn change(&self, change: Change) -> (u64, u64, u64) {
        let (mut steps, before) = (0, self.memory.leaves.load(Ordering::Relaxed));
        loop {
            steps += 1;
            if let std::task::Poll::Ready(done) = poll(self, change) {
                let leaves = self.memory.leaves.load(Ordering::Relaxed) - before;
                println!("{change:?}: {steps} steps");
                return (done.unwrap(), steps, leaves);
            }
        }
    }

    /// The 2 MiB entry of a region.
    fn entry(&self, region: u64) -> &'m AtomicU64 {
        let at =
            |table: u64, index: u64| &self.memory.upper[(table / 4096 - 1) as usize][index as usize & 511];
        let below = |entry: &AtomicU64| entry.load(Ordering::Relaxed) & ADDRESS;
        let third = below(at(self.ept.borrow().cached().expect("an EPT pointer").0 & ADDRESS, region >> 18));
        at(below(at(third, region >> 9)), region)
    }
}

impl<'m> Tracked for Vm<'m> {
    type Tables = Ept<'m, &'m Vast>;

    fn with<R>(&self, f: impl FnOnce(&mut Self::Tables) -> R) -> R {
        let harvested = self.backlog.count();
        self.memory.touched.store(0, Ordering::Relaxed);
        let result = f(&mut self.ept.borrow_mut());
        let touched = self.memory.touched.load(Ordering::Relaxed);
        assert!(!self.counts || touched <= STEP.into(), "a step of {touched} entries");
        let harvested = self.backlog.count().saturating_sub(harvested);
        assert!(harvested <= STEP.into(), "a step of {harvested} pages");
        result
    }

    fn logged(&self) -> &PageSet {
        &self.logged
    }

    fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    fn ask(&self, _: Asked) {}

    fn has_answered(&self, _: Asked) -> bool {
        true
    }
}

#[test]
fn no_step_touches_more_than_4096_entries() {
    assert_eq!(STEP, 4096);
    let memory = Vast::new();
    let mut vm = Vm::new(&memory);
    let (split, steps, _) = vm.change(Change::Track(DirtyMethod::Pml));
    assert_eq!(split, REGIONS);
    assert!(steps > REGIONS * 1024 / u64::from(STEP));
    // 4 GiB of it are written at once
    vm.counts = false;
    vm.logged.insert_range(0, 1 << 20);
    assert_eq!(vm.change(Change::Harvest).0, 1 << 20);
    vm.counts = true;
    assert_eq!(vm.change(Change::Untrack).0, REGIONS);
    assert_eq!(vm.backlog.count(), 0);
    assert_eq!(memory.given_back.load(Ordering::Relaxed), REGIONS);
}

/// The guest stands while the last harvest runs.
#[test]
fn a_harvest_of_dirty_flags_looks_at_what_was_accessed() {
    let memory = Vast::new();
    let vm = Vm::new(&memory);
    vm.change(Change::Track(DirtyMethod::AccessDirty));
    let used = [0, 1000, REGIONS - 1];
    for region in used {
        vm.entry(region).fetch_or(ACCESSED, Ordering::Relaxed);
    }
    memory.shared[7].fetch_or(DIRTY, Ordering::Relaxed);
    let (pages, steps, tables) = vm.change(Change::Harvest);
    assert_eq!((pages, tables), (1, used.len() as u64));
    // a word for 64 pages, an entry for 512 of them
    assert!(steps <= 2 + PAGES / 64 / u64::from(STEP - 512) + REGIONS / u64::from(STEP - 1024), "{steps}");
    // once more, because a CPU may have had them cached at the flush; then no more
    assert_eq!(vm.change(Change::Harvest).2, used.len() as u64);
    assert_eq!(vm.change(Change::Harvest).2, 0);
}

/// Every GiB has a table of 512 regions: what lies behind the last one of a small VM is not looked at.
#[test]
fn a_small_vm_is_looked_at_to_its_end() {
    let memory = Vast::new();
    let vm = Vm::of(&memory, 36 << 21);
    vm.change(Change::Track(DirtyMethod::AccessDirty));
    memory.looks.store(0, Ordering::Relaxed);
    assert_eq!(vm.change(Change::Harvest).0, 0);
    assert_eq!(memory.looks.load(Ordering::Relaxed), 36);
}

/// A VM that is destroyed in the middle of its migration has a table for each region.
#[test]
fn tables_are_given_back_in_steps() {
    for tracked in [false, true] {
        let memory = Vast::new();
        let vm = Vm::new(&memory);
        if tracked {
            vm.change(Change::Track(DirtyMethod::Pml));
        }
        let mut steps = 1;
        loop {
            let before = memory.given_back.load(Ordering::Relaxed);
            let more = counted(&memory, || vm.ept.borrow_mut().take_apart());
            assert!(memory.given_back.load(Ordering::Relaxed) - before <= 64, "pages given back at once");
            if !more {
                break;
            }
            steps += 1;
        }
        println!("tracked {tracked}: {steps} steps");
        let taken = memory.next.load(Ordering::Relaxed);
        assert!(taken == UPPER as u64 + if tracked { REGIONS } else { 0 });
        // The root goes with the rest of it.
        assert_eq!(memory.given_back.load(Ordering::Relaxed), taken - 1);
        drop(vm);
        assert_eq!(memory.given_back.load(Ordering::Relaxed), taken);
    }
}

/// Memory in small pages: a run that does not begin and end on a large page, and one that lies askew.
#[test]
fn small_pages_are_mapped_in_steps() {
    for (gpa, hpa, len, steps) in
        [(0x1_0000, 0x4001_0000, 0x41_0000, 2), (0x20_0000, 0x4000_1000, 0x80_3000, 5)]
    {
        let memory = Vast::new();
        let features = Features { access_dirty: false, executable_large_pages: false };
        let mut ept = Ept::new(&memory, features).unwrap();
        let mut left = Unmapped { gpa: Gpa(gpa), hpa: Hpa(hpa), len };
        let mut took = 1;
        while counted(&memory, || left.step(&mut ept)).unwrap() {
            took += 1;
        }
        assert_eq!((took, left.gpa.0, left.hpa.0), (steps, gpa + len, hpa + len));
    }
}
