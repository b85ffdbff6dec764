//! The host's page tables: everything one to one, nothing both writable and executable.
//!
//! The image in 4 KiB pages by section, all other RAM writable and never executable in the largest pages that fit,
//! device registers uncached; page 0 and the pages below stacks are left out. Built once on the bootstrap CPU; later
//! changes only add mappings (or happen before another CPU can have cached one), so no CPU is ever told to flush.

use core::sync::atomic::{AtomicU64, Ordering};

use bootinfo::{BootInfo, RegionKind};
use spin::Mutex;

use super::{Hpa, PAGE, frame, image};
use crate::arch::{cpu, insn, stack::Stacks};

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const UNCACHED: u64 = 1 << 4 | 1 << 3;
const ACCESSED_DIRTY: u64 = 1 << 6 | 1 << 5;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const SIZE: [u64; 4] = [PAGE, 2 << 20, 1 << 30, 512 << 30];

/// What may be done with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Constants.
    Read,
    /// Code.
    ReadExecute,
    /// Data.
    ReadWrite,
    /// Device registers.
    Device,
}

struct Tables {
    root: u64,
    large_1g: bool,
    no_execute: u64,
}

static TABLES: Mutex<Tables> = Mutex::new(Tables { root: 0, large_1g: false, no_execute: 0 });
static ROOT: AtomicU64 = AtomicU64::new(0);

/// What [`init`] made.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Bytes mapped.
    pub mapped: u64,
    /// Pages of 4 KiB, 2 MiB and 1 GiB.
    pub pages: [u64; 3],
    /// Tables, of a page each.
    pub tables: u64,
    /// The CPU can forbid execution.
    pub no_execute: bool,
}

/// The first address that cannot be mapped one to one: beyond the CPU's physical addresses, or beyond the lower half of
/// the linear addresses that four levels of tables give.
pub fn limit() -> u64 {
    const LOWER_HALF: u8 = 47;
    let sizes = cpu::id().get_processor_capacity_feature_info();
    // Without the leaf: 36 bits (SDM 3A 4.1.4).
    1 << sizes.map_or(36, |sizes| sizes.physical_address_bits()).clamp(32, LOWER_HALF)
}

/// Builds the tables, with `devices` (address, bytes) that are in use already, switches to them, and checks them.
///
/// # Panics
/// Where memory runs out, or a page came out both writable and executable.
pub fn init(info: &BootInfo, devices: &[(Hpa, u64)]) -> Summary {
    let mut ram = info.usable(PAGE);
    for r in &info.memory {
        if matches!(r.kind, RegionKind::AcpiReclaimable | RegionKind::AcpiNvs) {
            ram.insert(r.start & !(PAGE - 1), r.end.next_multiple_of(PAGE));
        }
    }
    // BIOS data, EBDA, ROM and the trampoline. Page 0 stays out: a null pointer must fault.
    ram.insert(0, 1 << 20);
    ram.remove(0, PAGE);
    let image = image();
    ram.remove(image.start, image.end);

    let extended = cpu::id().get_extended_processor_and_feature_identifiers();
    let mut tables = TABLES.lock();
    tables.large_1g = extended.is_some_and(|f| f.has_1gib_pages());
    tables.no_execute = if cpu::no_execute() { NO_EXECUTE } else { 0 };
    tables.root = frame::alloc_page().expect("a page for the page tables").0;
    for &(start, end) in ram.ranges() {
        tables.map(start, end, Access::ReadWrite);
    }
    tables.map(image.start, image.text_end, Access::ReadExecute);
    tables.map(image.text_end, image.rodata_end, Access::Read);
    tables.map(image.rodata_end, image.end, Access::ReadWrite);
    for &(at, len) in devices {
        tables.map_device(at, len);
    }
    for guard in Stacks::boot().guards() {
        tables.set(guard, 0, 0);
    }
    // SAFETY: the tables map the running code, its stack and all data where they are mapped now.
    unsafe { insn::set_cr3(tables.root) };
    ROOT.store(tables.root, Ordering::Release);
    tables.check()
}

/// The root of the page tables, for CPUs that come up. Below 4 GiB.
pub fn root() -> Hpa {
    Hpa(ROOT.load(Ordering::Acquire))
}

/// Maps device registers uncached. Mapping the same twice is fine; RAM is left alone.
pub fn map_mmio(at: Hpa, len: u64) {
    TABLES.lock().map_device(at, len);
}

/// Changes what may be done with pages that only the calling CPU uses.
pub fn protect(at: Hpa, len: u64, access: Access) {
    let tables = TABLES.lock();
    for page in (at.0..at.0 + len).step_by(PAGE as usize) {
        tables.set(page, 0, page | tables.bits(access));
        insn::invlpg(page);
    }
}

/// Takes pages that only the calling CPU can know out of the tables.
pub fn unmap(at: Hpa, len: u64) {
    let tables = TABLES.lock();
    for page in (at.0..at.0 + len).step_by(PAGE as usize) {
        tables.set(page, 0, 0);
        insn::invlpg(page);
    }
}

impl Tables {
    /// Maps registers uncached where nothing is mapped.
    fn map_device(&self, at: Hpa, len: u64) {
        let end = at.0.saturating_add(len).checked_next_multiple_of(PAGE).unwrap_or(!(PAGE - 1));
        for page in (at.0 & !(PAGE - 1)..end).step_by(PAGE as usize) {
            if self.leaf(page).is_none() {
                self.map(page, page + PAGE, Access::Device);
            }
        }
    }

    fn bits(&self, access: Access) -> u64 {
        let (protection, executable) = match access {
            Access::Read => (0, false),
            Access::ReadExecute => (0, true),
            Access::ReadWrite => (WRITE, false),
            Access::Device => (WRITE | UNCACHED, false),
        };
        let no_execute = if executable { 0 } else { self.no_execute };
        PRESENT | GLOBAL | ACCESSED_DIRTY | protection | no_execute
    }

    /// Maps `start..end` (whole pages) one to one in the largest pages that fit.
    fn map(&self, start: u64, end: u64, access: Access) {
        let bits = self.bits(access);
        let mut at = start;
        while at < end {
            let fits = |level: usize| at.is_multiple_of(SIZE[level]) && end - at >= SIZE[level];
            let level = if self.large_1g && fits(2) { 2 } else { usize::from(fits(1)) };
            self.set(at, level, at | bits | if level > 0 { LARGE } else { 0 });
            at += SIZE[level];
        }
    }

    /// Sets the entry of `level` (0: 4 KiB) for `address`, splitting larger pages and making tables on the way.
    fn set(&self, address: u64, level: usize, value: u64) {
        let mut table = self.root;
        for above in (level + 1..=3).rev() {
            let entry = entry(table, address, above);
            // SAFETY: `entry` yields entries of our tables, which the lock's holder alone changes.
            let old = unsafe { entry.read_volatile() };
            if old & PRESENT == 0 || old & LARGE != 0 {
                let next = frame::alloc_page().expect("a page for the page tables").0;
                if old & PRESENT != 0 {
                    let (size, large) = (SIZE[above - 1], if above > 1 { LARGE } else { 0 });
                    let base = old & !LARGE;
                    for i in 0..512 {
                        // SAFETY: the new table is ours.
                        unsafe { (next as *mut u64).add(i).write_volatile((base + i as u64 * size) | large) };
                    }
                }
                // SAFETY: as above. The new table says what the old entry said, so the change can be seen at any time.
                unsafe { entry.write_volatile(next | PRESENT | WRITE | ACCESSED_DIRTY & 1 << 5) };
                table = next;
            } else {
                table = old & ADDRESS;
            }
        }
        // SAFETY: as above.
        unsafe { entry(table, address, level).write_volatile(value) };
    }

    /// The entry that maps `address`.
    fn leaf(&self, address: u64) -> Option<u64> {
        let mut table = self.root;
        for level in (0..=3).rev() {
            // SAFETY: as in `set`.
            let value = unsafe { entry(table, address, level).read_volatile() };
            if value & PRESENT == 0 {
                return None;
            }
            if level == 0 || value & LARGE != 0 {
                return Some(value);
            }
            table = value & ADDRESS;
        }
        None
    }

    /// Walks every entry.
    fn check(&self) -> Summary {
        let mut summary = Summary { mapped: 0, pages: [0; 3], tables: 0, no_execute: self.no_execute != 0 };
        self.check_table(self.root, 3, 0, &mut summary);
        assert!(self.leaf(0).is_none(), "page 0 is mapped");
        for guard in Stacks::boot().guards() {
            assert!(self.leaf(guard).is_none(), "guard page {guard:#x} is mapped");
        }
        summary
    }

    fn check_table(&self, table: u64, level: usize, base: u64, summary: &mut Summary) {
        summary.tables += 1;
        for i in 0..512_u64 {
            let address = base + i * SIZE[level];
            // SAFETY: as in `set`.
            let value = unsafe { entry(table, address, level).read_volatile() };
            if value & PRESENT == 0 {
                continue;
            }
            if level > 0 && value & LARGE == 0 {
                self.check_table(value & ADDRESS, level - 1, address, summary);
                continue;
            }
            assert!(
                value & WRITE == 0 || value & self.no_execute == self.no_execute,
                "page {address:#x} is writable and executable"
            );
            assert!(value & ADDRESS == address, "page {address:#x} is not mapped one to one");
            summary.pages[level] += 1;
            summary.mapped += SIZE[level];
        }
    }
}

fn entry(table: u64, address: u64, level: usize) -> *mut u64 {
    let index = address / SIZE[level] % 512;
    (table + index * 8) as *mut u64
}
