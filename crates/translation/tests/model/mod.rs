//! A model of what the SDM lets CPUs cache of EPT tables (28.4), and a host that runs the crate over it.
//!
//! A CPU of the model keeps every entry and every translation that it ever read, with the tags that the SDM gives them,
//! until an instruction drops them by these tags; at each access it may use any of them, or walk from any of them, or
//! from the root. A page of memory that is given back is somebody else's at once: it is full of entries that lead to
//! [`VICTIM`].
#![allow(dead_code)]

pub(crate) mod choice;
pub(crate) mod cpu;
pub(crate) mod host;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use translation::{Frames, Table};
use vm_types::{Gpa, GuestMemory, Hpa, MemRange, MemoryError};

pub(crate) const PRESENT: u64 = 7;
pub(crate) const WRITE: u64 = 1 << 1;
pub(crate) const EXECUTE: u64 = 1 << 2;
pub(crate) const LARGE: u64 = 1 << 7;
pub(crate) const ACCESSED: u64 = 1 << 8;
pub(crate) const DIRTY: u64 = 1 << 9;
pub(crate) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Somebody else's memory.
pub(crate) const VICTIM: u64 = 0xdead_0000_0000 & ADDRESS;

/// Memory for tables: the lowest page that is free is the next one to be used, as in the hypervisor.
pub(crate) struct Memory {
    pages: Vec<Table>,
    free: Mutex<BTreeSet<usize>>,
    /// Tables that were asked for.
    pub(crate) asked: AtomicU64,
}

impl Memory {
    pub(crate) fn new(pages: usize) -> Self {
        let pages: Vec<Table> = (0..pages).map(|_| [const { AtomicU64::new(0) }; 512]).collect();
        let free = (0..pages.len()).collect();
        Self { pages, free: Mutex::new(free), asked: AtomicU64::new(0) }
    }

    pub(crate) fn free_pages(&self) -> usize {
        self.free.lock().unwrap().len()
    }

    /// Takes a bit from every entry that there is.
    pub(crate) fn clear_everywhere(&self, bit: u64) {
        for entry in self.pages.iter().flatten() {
            entry.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    fn number(at: u64) -> usize {
        (at / 4096 - 1) as usize
    }

    /// An entry of a page, as a CPU reads it, whoever has the page.
    pub(crate) fn entry(&self, table: u64, index: usize) -> Option<&AtomicU64> {
        Some(&self.pages.get(Self::number((table & ADDRESS).max(4096)))?[index])
    }
}

impl<'m> Frames<'m> for &'m Memory {
    fn alloc(self) -> Option<Hpa> {
        let page = self.free.lock().unwrap().pop_first()?;
        self.pages[page].iter().for_each(|entry| entry.store(0, Ordering::Relaxed));
        Some(Hpa((page as u64 + 1) * 4096))
    }

    fn free(self, page: Hpa) {
        let number = Memory::number(page.0);
        assert!(self.free.lock().unwrap().insert(number), "{page} is free already");
        self.pages[number].iter().for_each(|entry| entry.store(VICTIM | PRESENT, Ordering::Relaxed));
    }

    fn available(self) -> u64 {
        self.free_pages() as u64
    }

    fn table(self, page: Hpa) -> &'m Table {
        let number = Memory::number(page.0);
        assert!(!self.free.lock().unwrap().contains(&number), "{page} is no table");
        self.asked.fetch_add(1, Ordering::Relaxed);
        &self.pages[number]
    }
}

/// Guest memory that nobody looks at: the CPU walks the guest's tables.
pub(crate) struct Unseen;

impl GuestMemory for Unseen {
    fn ranges(&self) -> &[MemRange] {
        &[]
    }

    fn read(&self, gpa: Gpa, _: &mut [u8]) -> Result<(), MemoryError> {
        panic!("{gpa} is read")
    }

    fn write(&self, gpa: Gpa, _: &[u8]) -> Result<(), MemoryError> {
        panic!("{gpa} is written")
    }
}
