//! Guest memory, and a driver's side of a ring in it that can be put wrong in every place.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::cell::RefCell;

use virtio::{Broken, Queue, QueueState, Rules};
use vm_types::{Gpa, GuestMemory, MemRange, MemoryError};

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// RAM in two ranges with a hole between.
pub struct Ram {
    ranges: [MemRange; 2],
    bytes: RefCell<Vec<u8>>,
    /// What was written by the device's side, as places and lengths.
    pub written: RefCell<Vec<(u64, usize)>>,
}

pub const HOLE: u64 = 0x4_0000;
pub const HIGH: u64 = 0x5_0000;
pub const END: u64 = 0x6_0000;

impl Ram {
    pub fn new() -> Self {
        let range = |start, end| MemRange { start: Gpa(start), len: end - start };
        Self {
            ranges: [range(0, HOLE), range(HIGH, END)],
            bytes: RefCell::new(vec![0; END as usize]),
            written: RefCell::default(),
        }
    }

    fn place(&self, gpa: Gpa, len: usize) -> Result<std::ops::Range<usize>, MemoryError> {
        let error = MemoryError { gpa, len };
        let end = gpa.0.checked_add(len as u64).ok_or(error)?;
        let holds = |range: &MemRange| range.start.0 <= gpa.0 && end <= range.end();
        if self.ranges.iter().any(holds) { Ok(gpa.0 as usize..end as usize) } else { Err(error) }
    }

    /// What the guest itself writes.
    pub fn put(&self, at: u64, bytes: &[u8]) {
        let at = self.place(Gpa(at), bytes.len()).unwrap();
        self.bytes.borrow_mut()[at].copy_from_slice(bytes);
    }

    pub fn get(&self, at: u64, len: usize) -> Vec<u8> {
        self.bytes.borrow()[self.place(Gpa(at), len).unwrap()].to_vec()
    }

    pub fn word(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.get(at, 2).try_into().unwrap())
    }
}

impl GuestMemory for Ram {
    fn ranges(&self) -> &[MemRange] {
        &self.ranges
    }

    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        let at = self.place(gpa, buf.len())?;
        buf.copy_from_slice(&self.bytes.borrow()[at]);
        Ok(())
    }

    fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), MemoryError> {
        let at = self.place(gpa, data.len())?;
        self.bytes.borrow_mut()[at].copy_from_slice(data);
        self.written.borrow_mut().push((gpa.0, data.len()));
        Ok(())
    }
}

pub const TABLE: u64 = 0x1000;
pub const AVAILABLE: u64 = 0x2000;
pub const USED: u64 = 0x3000;
/// Where a test puts indirect tables and buffers.
pub const TABLES: u64 = 0x4000;
pub const DATA: u64 = 0x1_0000;

/// A queue in these places, that has come to `index`.
pub fn placed(most: u16, size: u16, places: [u64; 3], index: u16) -> Result<Queue, Broken> {
    let [descriptors, available, used] = places;
    let (next_available, next_used) = (index, index);
    let fresh = Queue::new(most).state().clone();
    Queue::placed(most, QueueState { size, descriptors, available, used, next_available, next_used, ..fresh })
}

/// The driver's side.
pub struct Driver {
    pub ram: Ram,
    pub size: u16,
    pub available: u16,
    /// The used index up to which it has looked.
    pub seen: u16,
    pub rules: Rules,
}

impl Driver {
    pub fn new(size: u16, rules: Rules) -> Self {
        Self { ram: Ram::new(), size, available: 0, seen: 0, rules }
    }

    /// The queue that it has set up.
    pub fn queue(&self, most: u16) -> Queue {
        placed(most, self.size, [TABLE, AVAILABLE, USED], self.available).unwrap()
    }

    pub fn descriptor(at: u64, len: u32, flags: u16, next: u16) -> Vec<u8> {
        [&at.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat()
    }

    /// Writes descriptor `index` of the ring's table.
    pub fn describe(&self, index: u16, at: u64, len: u32, flags: u16, next: u16) {
        self.ram.put(TABLE + 16 * u64::from(index), &Self::descriptor(at, len, flags, next));
    }

    /// Makes the chain at `head` available. True where the device wants to be told.
    pub fn offer(&mut self, head: u16) -> bool {
        let old = self.available;
        self.ram.put(AVAILABLE + 4 + 2 * u64::from(old % self.size), &head.to_le_bytes());
        self.available = old.wrapping_add(1);
        self.ram.put(AVAILABLE + 2, &self.available.to_le_bytes());
        let event = self.ram.word(USED + 4 + 8 * u64::from(self.size));
        // As `vring_need_event` of the specification's header says.
        !self.rules.event_idx
            || self.available.wrapping_sub(event).wrapping_sub(1) < self.available.wrapping_sub(old)
    }

    /// What has come back since the last call, and asks to be told of the next.
    pub fn collect(&mut self) -> Vec<(u32, u32)> {
        let mut back = Vec::new();
        while self.seen != self.ram.word(USED + 2) {
            let element = self.ram.get(USED + 4 + 8 * u64::from(self.seen % self.size), 8);
            let word = |at: usize| u32::from_le_bytes(element[at..at + 4].try_into().unwrap());
            back.push((word(0), word(4)));
            self.seen = self.seen.wrapping_add(1);
        }
        self.ram.put(AVAILABLE + 4 + 2 * u64::from(self.size), &self.seen.to_le_bytes());
        back
    }
}
