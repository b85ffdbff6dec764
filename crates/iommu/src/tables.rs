use crate::{Depth, IommuError};
use core::fmt;

pub use x86::PAGE_SIZE as PAGE;

const PRESENT: u64 = 1 << 0;
const READ_WRITE: u64 = 0b11;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// The one domain that there is; 0 is reserved where a unit caches what is not present.
const DOMAIN: u64 = 1;

/// Memory for tables, which the units read.
pub trait Memory {
    /// Physical address of a page of zeros, and none where memory is short.
    fn page(&mut self) -> Option<u64>;
    /// Reads the entry at a physical address in one of the pages.
    fn read(&self, at: u64) -> u64;
    /// Writes it, so that a unit that does not snoop caches sees it.
    fn write(&mut self, at: u64, entry: u64);
}

/// Bus, device and function of a requester (3.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceId(pub u16);

impl SourceId {
    /// Bus 0 to 255, device 0 to 31, function 0 to 7; higher bits are cut off.
    pub const fn new(bus: u8, device: u8, function: u8) -> Self {
        Self((bus as u16) << 8 | (device as u16 & 31) << 3 | function as u16 & 7)
    }

    const fn bus(self) -> u64 {
        self.0 as u64 >> 8
    }

    const fn device_and_function(self) -> u64 {
        self.0 as u64 & 0xff
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(id) = self;
        write!(f, "{:02x}:{:02x}.{}", id >> 8, id >> 3 & 31, id & 7)
    }
}

/// What devices may reach: nothing at first.
#[derive(Debug)]
pub struct Tables<M> {
    memory: M,
    depth: Depth,
    root: u64,
    second_level: u64,
    pages: u64,
}

impl<M: Memory> Tables<M> {
    /// A root table without entries.
    ///
    /// # Errors
    /// [`IommuError::NoMemory`].
    pub fn new(mut memory: M, depth: Depth) -> Result<Self, IommuError> {
        let root = memory.page().ok_or(IommuError::NoMemory)?;
        let second_level = memory.page().ok_or(IommuError::NoMemory)?;
        Ok(Self { memory, depth, root, second_level, pages: 0 })
    }

    /// Physical address of the root table.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Pages that devices reach.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Makes the pages of `start` to `last` (inclusive) readable and writable, at their own addresses, for every device
    /// that is [admitted](Self::admit).
    ///
    /// # Errors
    /// The range is none or too high, or memory is short: then a part of it may be mapped.
    pub fn map(&mut self, start: u64, last: u64) -> Result<(), IommuError> {
        if last < start {
            return Err(IommuError::BadRange(start, last));
        }
        let bits = self.depth.bits();
        if last >> bits != 0 {
            return Err(IommuError::TooHigh(last, bits));
        }
        for page in start / PAGE..=last / PAGE {
            self.map_page(page * PAGE)?;
        }
        Ok(())
    }

    fn map_page(&mut self, address: u64) -> Result<(), IommuError> {
        let mut table = self.second_level;
        for level in (1..self.depth.levels()).rev() {
            let at = entry(table, address, level);
            table = self.next(at, READ_WRITE)?;
        }
        let at = entry(table, address, 0);
        if self.memory.read(at) == 0 {
            self.memory.write(at, address | READ_WRITE);
            self.pages += 1;
        }
        Ok(())
    }

    /// The table that the entry at `at` leads to, a new one where there is none.
    fn next(&mut self, at: u64, flags: u64) -> Result<u64, IommuError> {
        let old = self.memory.read(at);
        if old & PRESENT != 0 {
            return Ok(old & ADDRESS);
        }
        let table = self.memory.page().ok_or(IommuError::NoMemory)?;
        self.memory.write(at, table | flags);
        Ok(table)
    }

    /// Lets a device use what is [mapped](Self::map): all others are stopped at the root or context table.
    ///
    /// # Errors
    /// [`IommuError::NoMemory`].
    pub fn admit(&mut self, device: SourceId) -> Result<(), IommuError> {
        let table = self.next(self.root + device.bus() * 16, PRESENT)?;
        let at = table + device.device_and_function() * 16;
        // The present bit last: a unit may read the entry at any time.
        self.memory.write(at + 8, DOMAIN << 8 | u64::from(self.depth.code()));
        self.memory.write(at, self.second_level | PRESENT);
        Ok(())
    }
}

/// Where the entry of `level` (0: the last) for `address` is in its table.
fn entry(table: u64, address: u64, level: u32) -> u64 {
    table + (address >> (12 + 9 * level) & 511) * 8
}
