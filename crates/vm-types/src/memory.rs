//! Guest-physical memory as the pure crates see it.

use core::fmt;

pub use x86::PAGE_SIZE;

/// A guest-physical address in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Gpa(pub u64);

impl Gpa {
    /// The number of the 4 KiB page that holds this address.
    #[must_use]
    pub const fn gfn(self) -> u64 {
        self.0 / PAGE_SIZE
    }
}

impl fmt::Debug for Gpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gpa {:#x}", self.0)
    }
}

impl fmt::Display for Gpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A host-physical address in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hpa(pub u64);

impl fmt::Debug for Hpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hpa {:#x}", self.0)
    }
}

impl fmt::Display for Hpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A run of guest RAM: `start` and `len` in bytes, both multiples of [`PAGE_SIZE`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemRange {
    /// First byte.
    pub start: Gpa,
    /// Length in bytes.
    pub len: u64,
}

impl MemRange {
    /// First byte behind the range.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.start.0 + self.len
    }
}

/// An access that is not wholly inside guest RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryError {
    /// Where the access began.
    pub gpa: Gpa,
    /// Its length in bytes.
    pub len: usize,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {} are not guest RAM", self.len, self.gpa)
    }
}

impl core::error::Error for MemoryError {}

/// Guest RAM. Every write of the hypervisor goes through [`GuestMemory::write`], which marks the pages dirty.
pub trait GuestMemory {
    /// The RAM of the guest in ascending order, without overlap.
    fn ranges(&self) -> &[MemRange];

    /// Copies guest bytes out.
    ///
    /// # Errors
    /// [`MemoryError`] where any byte is outside RAM; `buf` is then unspecified.
    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError>;

    /// The 8 bytes at `gpa`, little-endian, in one access where it is a multiple of 8: an entry of a table. `None` where
    /// any of them is outside RAM.
    fn read_u64(&self, gpa: Gpa) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(gpa, &mut bytes).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// Copies bytes in and marks the pages dirty.
    ///
    /// # Errors
    /// [`MemoryError`] where any byte is outside RAM; nothing is written then.
    fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), MemoryError>;

    /// Writes two bytes, little-endian, as [`GuestMemory::write`] does, in one access where `gpa` is even: a number that a
    /// guest reads at any time.
    ///
    /// # Errors
    /// As [`GuestMemory::write`].
    fn write_u16(&self, gpa: Gpa, value: u16) -> Result<(), MemoryError> {
        self.write(gpa, &value.to_le_bytes())
    }
}
