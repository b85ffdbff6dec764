use crate::regs::*;
use crate::{Capability, IommuError, SourceId};
use core::fmt;

/// The registers of one remapping unit.
pub trait Registers {
    /// Reads the register at byte offset `offset`, a multiple of 4.
    fn read32(&self, offset: u32) -> u32;
    /// Writes it; earlier writes to tables are visible to the unit before.
    fn write32(&mut self, offset: u32, value: u32);
    /// Waits at least this many microseconds.
    fn delay_us(&mut self, us: u32);
}

/// A remapping unit.
#[derive(Debug)]
pub struct Unit<R> {
    registers: R,
    capability: Capability,
}

/// An access that a unit stopped (11.4.8.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Who asked.
    pub device: SourceId,
    /// The page.
    pub address: u64,
    /// It was a read; else a write.
    pub read: bool,
    /// Why, by number (7.2.3): 2 an unknown device, 5 a page not writable, 6 one not readable.
    pub reason: u8,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, address, read, reason } = self;
        let what = if *read { "read" } else { "write" };
        write!(f, "{device} was stopped: {what} of {address:#x} (reason {reason})")
    }
}

impl<R: Registers> Unit<R> {
    /// Looks at a unit, and changes nothing.
    ///
    /// # Errors
    /// [`IommuError::NoAnswer`].
    pub fn new(registers: R) -> Result<Self, IommuError> {
        let version = registers.read32(VER);
        if version == 0 || version == u32::MAX {
            return Err(IommuError::NoAnswer);
        }
        let wide = |at| u64::from(registers.read32(at)) | u64::from(registers.read32(at + 4)) << 32;
        let capability = Capability { cap: wide(CAP), ecap: wide(ECAP) };
        Ok(Self { registers, capability })
    }

    /// What it can do.
    pub fn capability(&self) -> Capability {
        self.capability
    }

    /// Takes the unit over, from whatever the firmware left, and remaps by the tables at `root` from now on. No device
    /// may be under way: for a moment nothing is remapped.
    ///
    /// # Errors
    /// A command does not end: [`Unit::disable`] then.
    pub fn enable(&mut self, root: u64) -> Result<(), IommuError> {
        self.disable()?;
        self.registers.write32(FECTL, FECTL_MASK);
        if self.capability.has_protected_memory() && self.registers.read32(PMEN) & PMEN_ON != 0 {
            let value = self.registers.read32(PMEN);
            self.registers.write32(PMEN, value & !PMEN_ENABLE);
            self.wait("protected memory", PMEN, PMEN_ON, 0)?;
        }
        // As many as there can be: a broken unit has no end of them.
        for _ in 0..256 {
            if self.next_fault().is_none() {
                break;
            }
        }
        if self.capability.needs_write_flush() {
            self.command(WRITE_BUFFER);
            self.wait("flush of the write buffer", GSTS, WRITE_BUFFER, 0)?;
        }
        self.registers.write32(RTADDR, root as u32);
        self.registers.write32(RTADDR + 4, (root >> 32) as u32);
        self.command(ROOT_POINTER);
        self.wait("setting of the root table", GSTS, ROOT_POINTER, ROOT_POINTER)?;
        self.invalidate()?;
        self.command(TRANSLATION);
        self.wait("start of remapping", GSTS, TRANSLATION, TRANSLATION)
    }

    /// Remaps no more: every device reaches everything.
    ///
    /// # Errors
    /// [`IommuError::Stuck`].
    pub fn disable(&mut self) -> Result<(), IommuError> {
        for (what, bit) in [("end of remapping", TRANSLATION), ("end of the queue", QUEUED)] {
            let status = self.registers.read32(GSTS);
            if status & bit != 0 {
                self.registers.write32(GCMD, status & LASTING & !bit);
                self.wait(what, GSTS, bit, 0)?;
            }
        }
        Ok(())
    }

    /// Forgets what the unit remembers of the tables: after each change of them.
    ///
    /// # Errors
    /// [`IommuError::Stuck`].
    pub fn invalidate(&mut self) -> Result<(), IommuError> {
        if self.capability.needs_write_flush() {
            self.command(WRITE_BUFFER);
            self.wait("flush of the write buffer", GSTS, WRITE_BUFFER, 0)?;
        }
        self.registers.write32(CCMD, 0);
        self.registers.write32(CCMD + 4, CCMD_GLOBAL);
        self.wait("invalidation of contexts", CCMD + 4, CCMD_BUSY, 0)?;
        let iotlb = self.capability.iotlb();
        self.registers.write32(iotlb - 4, 0);
        self.registers.write32(iotlb, IOTLB_GLOBAL);
        self.wait("invalidation of translations", iotlb, IOTLB_BUSY, 0)
    }

    /// Takes a recorded fault off the unit. Faults while the records are full are lost.
    pub fn next_fault(&mut self) -> Option<Fault> {
        let status = self.registers.read32(FSTS);
        if status & (FSTS_PENDING | FSTS_OVERFLOW) == 0 || status == u32::MAX {
            return None;
        }
        let (first, count) = self.capability.faults();
        let at = first + (status >> 8 & 0xff) % count * 16;
        let record = [0, 4, 8, 12].map(|part| self.registers.read32(at + part));
        if status & FSTS_PENDING == 0 || record[3] & FAULT == 0 {
            self.registers.write32(FSTS, FSTS_OVERFLOW);
            return None;
        }
        self.registers.write32(at + 12, FAULT);
        self.registers.write32(FSTS, FSTS_OVERFLOW);
        Some(Fault {
            device: SourceId(record[2] as u16),
            address: (u64::from(record[0]) | u64::from(record[1]) << 32) & !0xfff,
            read: record[3] & FAULT_READ != 0,
            reason: record[3] as u8,
        })
    }

    fn command(&mut self, bit: u32) {
        let status = self.registers.read32(GSTS);
        self.registers.write32(GCMD, status & LASTING | bit);
    }

    fn wait(&mut self, what: &'static str, at: u32, bit: u32, wanted: u32) -> Result<(), IommuError> {
        for _ in 0..10_000 {
            if self.registers.read32(at) & bit == wanted {
                return Ok(());
            }
            self.registers.delay_us(10);
        }
        Err(IommuError::Stuck(what, at, self.registers.read32(at)))
    }
}
