//! Memory below 4 GiB, where a 32-bit hand-over can name it.

use alloc::format;
use alloc::string::String;
use core::ptr::NonNull;
use uefi::boot::{self, AllocateType, MemoryType};
use uefi::mem::memory_map::MemoryMap;

use crate::elf::Image;

const PAGE: u64 = 4096;
const BELOW: u64 = 0xffff_ffff;

/// Pages that outlive the application. Zeroed.
pub(crate) struct Pages {
    start: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// At least one page for `len` bytes.
    pub(crate) fn new(len: usize) -> Result<Self, String> {
        Self::of(MemoryType::LOADER_DATA, len)
    }

    /// The same for code.
    pub(crate) fn executable(len: usize) -> Result<Self, String> {
        Self::of(MemoryType::LOADER_CODE, len)
    }

    fn of(kind: MemoryType, len: usize) -> Result<Self, String> {
        let pages = len.div_ceil(PAGE as usize).max(1);
        let start = boot::allocate_pages(AllocateType::MaxAddress(BELOW), kind, pages)
            .map_err(|_| format!("{len} bytes do not fit into memory below 4 GiB"))?;
        // SAFETY: the firmware just gave these pages to us alone.
        unsafe { start.write_bytes(0, pages * PAGE as usize) };
        Ok(Self { start, len })
    }

    /// Its first byte, physical: firmware maps memory one to one.
    pub(crate) fn address(&self) -> u32 {
        self.start.as_ptr() as usize as u32
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: ours alone, initialised by `of`, never freed.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// The range that the kernel is linked for: nothing of ours lies in it.
pub(crate) struct Place(());

impl Place {
    /// Takes what is free of the range. The rest must be memory that the firmware gives back with its boot services.
    pub(crate) fn claim(image: &Image) -> Result<Self, String> {
        let start = u64::from(image.start) & !(PAGE - 1);
        let end = u64::from(image.end).next_multiple_of(PAGE);
        let map = boot::memory_map(MemoryType::LOADER_DATA)
            .map_err(|error| crate::because("memory map", &error))?;
        let mut known = 0;
        for entry in map.entries() {
            let from = entry.phys_start.max(start);
            let to = entry.phys_start.saturating_add(entry.page_count.saturating_mul(PAGE)).min(end);
            if from >= to {
                continue;
            }
            known += to - from;
            match entry.ty {
                MemoryType::CONVENTIONAL => {
                    let pages = ((to - from) / PAGE) as usize;
                    boot::allocate_pages(AllocateType::Address(from), MemoryType::LOADER_DATA, pages)
                        .map_err(|error| crate::because(&format!("memory {from:#x}-{to:#x}"), &error))?;
                }
                MemoryType::BOOT_SERVICES_CODE | MemoryType::BOOT_SERVICES_DATA => {}
                other => {
                    return Err(format!("memory {from:#x}-{to:#x}, where the kernel goes, is {other:?}"));
                }
            }
        }
        if known == end - start {
            Ok(Self(()))
        } else {
            Err(format!("no memory at {start:#x}-{end:#x} for the kernel"))
        }
    }
}
