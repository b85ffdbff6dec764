//! What the boot loader handed over, whichever protocol it spoke, as one owned [`BootInfo`].
//!
//! Pure: the parser sees physical memory through a function `(address, length) -> Option<bytes>` and copies what it
//! keeps, so that the loader's own structures can be overwritten afterwards. Nothing it reads is trusted: counts and
//! lengths are bounded, strings are cut at [`MAX_STRING`], and a field that cannot be read is left out.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod build;
mod bytes;
mod mb1;
mod mb2;
mod pvh;
mod ranges;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use build::Builder;
pub use ranges::RangeSet;

/// What a Multiboot 1 boot loader leaves in EAX (Multiboot 0.6.96, 3.2).
pub const MULTIBOOT1_MAGIC: u32 = 0x2bad_b002;
/// What a Multiboot 2 boot loader leaves in EAX (Multiboot 2.0, 3.3).
pub const MULTIBOOT2_MAGIC: u32 = 0x36d7_6289;
/// What our own start puts there for a PVH boot loader, which leaves EAX undefined: the magic of its start info
/// (Xen, `start_info.h`).
pub const PVH_MAGIC: u32 = 0x336e_c578;
/// What `flexvisor.efi` puts there; the information is a Multiboot 2 block.
pub const UEFI_MAGIC: u32 = 0x4945_4655;
/// Longest command line or module line that is kept, in bytes.
pub const MAX_STRING: usize = 4096;
/// Most memory map entries that are kept. Of more, RAM is lost rather than what says that something is none.
pub const MAX_REGIONS: usize = 4096;
/// Most memory map entries that are read.
const MAX_ENTRIES: usize = 4 * MAX_REGIONS;
/// Most modules that are kept.
pub const MAX_MODULES: usize = 64;

/// The protocol the boot loader spoke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// Multiboot 1 (0.6.96).
    Multiboot1,
    /// Multiboot 2 (2.0).
    Multiboot2,
    /// The same on a machine with UEFI, whose boot services are ended.
    Multiboot2Efi,
    /// PVH.
    Pvh,
    /// `flexvisor.efi`.
    Uefi,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Multiboot1 => "multiboot1",
            Self::Multiboot2 => "multiboot2",
            Self::Multiboot2Efi => "multiboot2 (efi)",
            Self::Pvh => "pvh",
            Self::Uefi => "uefi",
        })
    }
}

/// What a part of the physical address space is (the firmware's E820 types).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionKind {
    /// RAM free for use.
    Usable,
    /// Not to be touched.
    Reserved,
    /// ACPI tables; RAM once they are read.
    AcpiReclaimable,
    /// RAM the firmware keeps across sleep.
    AcpiNvs,
    /// Defective RAM.
    Bad,
    /// A type this parser has no name for: not to be touched.
    Other(u32),
}

impl RegionKind {
    /// Whether RAM is there, of whatever use.
    #[must_use]
    pub const fn is_ram(self) -> bool {
        matches!(self, Self::Usable | Self::AcpiReclaimable | Self::AcpiNvs)
    }
}

impl From<u32> for RegionKind {
    fn from(kind: u32) -> Self {
        match kind {
            1 => Self::Usable,
            2 => Self::Reserved,
            3 => Self::AcpiReclaimable,
            4 => Self::AcpiNvs,
            5 => Self::Bad,
            other => Self::Other(other),
        }
    }
}

impl From<RegionKind> for u32 {
    fn from(kind: RegionKind) -> Self {
        match kind {
            RegionKind::Usable => 1,
            RegionKind::Reserved => 2,
            RegionKind::AcpiReclaimable => 3,
            RegionKind::AcpiNvs => 4,
            RegionKind::Bad => 5,
            RegionKind::Other(other) => other,
        }
    }
}

/// One entry of the memory map, `start` to `end` (exclusive), physical addresses in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// First byte behind.
    pub end: u64,
    /// What it is.
    pub kind: RegionKind,
}

/// A file the boot loader put into memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// First byte, physical.
    pub start: u64,
    /// First byte behind the file.
    pub end: u64,
    /// The module's line without the file's name.
    pub command_line: String,
}

/// Everything the boot loader said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BootInfo {
    /// The protocol.
    pub via: Via,
    /// The boot loader's name, empty where it gave none.
    pub loader: String,
    /// The boot line without the image's name.
    pub command_line: String,
    /// The firmware's memory map, in its order.
    pub memory: Vec<Region>,
    /// Boot modules in their order.
    pub modules: Vec<Module>,
    /// The copy of the ACPI RSDP, where the protocol carries one.
    pub rsdp: Option<Vec<u8>>,
}

/// What [`BootInfo::cut_above`] left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Bytes of RAM free for use.
    pub usable: u64,
    /// Boot modules.
    pub modules: usize,
}

/// Why the hand-over is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BootError {
    /// EAX holds no magic number that is known.
    #[error("boot magic {0:#x} is neither Multiboot 1, Multiboot 2 nor PVH")]
    Magic(u32),
    /// The information structure itself cannot be read.
    #[error("boot information at {0:#x} cannot be read")]
    Unreadable(u64),
    /// Nothing says where RAM is.
    #[error("the boot loader gave no memory map")]
    NoMemoryMap,
}

impl BootInfo {
    /// Parses what `magic` (EAX) and `info` (EBX) name. `memory` gives the bytes at a physical address, or `None` where
    /// nothing can be read.
    ///
    /// # Errors
    /// [`BootError`] where nothing usable was handed over.
    pub fn parse<'m, M>(magic: u32, info: u64, memory: &M) -> Result<Self, BootError>
    where
        M: Fn(u64, usize) -> Option<&'m [u8]>,
    {
        let parsed = match magic {
            MULTIBOOT1_MAGIC => mb1::parse(info, memory)?,
            MULTIBOOT2_MAGIC => mb2::parse(info, memory)?,
            UEFI_MAGIC => Self { via: Via::Uefi, ..mb2::parse(info, memory)? },
            PVH_MAGIC => pvh::parse(info, memory)?,
            other => return Err(BootError::Magic(other)),
        };
        if parsed.memory.iter().any(|r| r.kind == RegionKind::Usable) {
            Ok(parsed)
        } else {
            Err(BootError::NoMemoryMap)
        }
    }

    /// RAM free for use in whole pages of `page` bytes (a power of two): usable regions less everything that any other
    /// region claims.
    #[must_use]
    pub fn usable(&self, page: u64) -> RangeSet {
        let mask = page - 1;
        let mut set = RangeSet::new();
        for r in self.memory.iter().filter(|r| r.kind == RegionKind::Usable) {
            if let Some(start) = r.start.checked_add(mask) {
                set.insert(start & !mask, r.end & !mask);
            }
        }
        for r in self.memory.iter().filter(|r| r.kind != RegionKind::Usable) {
            set.remove(r.start & !mask, r.end.saturating_add(mask) & !mask);
        }
        set
    }

    /// Leaves out what lies at `limit` or above: addresses that the CPU or its page tables cannot give. Returns what was
    /// lost by it.
    pub fn cut_above(&mut self, limit: u64) -> Cut {
        let modules = self.modules.len();
        let usable = self.usable(1).total();
        for region in &mut self.memory {
            region.end = region.end.min(limit);
        }
        self.memory.retain(|region| region.start < region.end);
        self.modules.retain(|module| module.end <= limit);
        Cut { usable: usable - self.usable(1).total(), modules: modules - self.modules.len() }
    }

    fn empty(via: Via) -> Self {
        Self {
            via,
            loader: String::new(),
            command_line: String::new(),
            memory: Vec::new(),
            modules: Vec::new(),
            rsdp: None,
        }
    }

    fn push_region(&mut self, start: u64, len: u64, kind: u32) {
        let end = start.saturating_add(len);
        let region = Region { start, end, kind: kind.into() };
        if end <= start {
            return;
        }
        if self.memory.len() < MAX_REGIONS {
            self.memory.push(region);
        } else if region.kind != RegionKind::Usable
            && let Some(ram) = self.memory.iter_mut().rev().find(|r| r.kind == RegionKind::Usable)
        {
            *ram = region;
        }
    }

    fn push_module(&mut self, start: u64, end: u64, command_line: String) {
        if end >= start && self.modules.len() < MAX_MODULES {
            self.modules.push(Module { start, end, command_line });
        }
    }
}
