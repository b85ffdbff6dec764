//! Out of boot services and into the kernel: 32-bit protected mode without paging, EAX and EBX as Multiboot 2 has them, but
//! with our own magic number.

use alloc::string::String;
use bootinfo::{Builder, RegionKind, UEFI_MAGIC};
use core::convert::Infallible;
use core::sync::atomic::Ordering;
use uefi::boot::MemoryType;
use uefi::mem::memory_map::MemoryMap;
use uefi::system;
use uefi::table::cfg::ConfigTableEntry;

use crate::elf::Image;
use crate::memory::{Pages, Place};
use crate::settings::Settings;

/// Room for the information block: strings, modules, and a memory map of more than a thousand entries.
const INFO: usize = 512 << 10;
/// Memory that firmware sets aside for a purpose of its own (UEFI 2.10, 7.2: `EFI_MEMORY_SP`).
const SPECIAL_PURPOSE: u64 = 1 << 18;

core::arch::global_asm!(include_str!("handover.s"), options(att_syntax));

unsafe extern "C" {
    static handover_start: u8;
    static handover_end: u8;
}

/// Memory for the way into the kernel.
pub(crate) struct Stage {
    /// The kernel, until its place is free.
    staged: Pages,
    trampoline: Pages,
    /// What the kernel is told.
    block: Pages,
    _place: Place,
}

impl Stage {
    /// Takes all that will be needed.
    pub(crate) fn new(image: &Image, place: Place) -> Result<Self, String> {
        let mut staged = Pages::new((image.loaded - image.start) as usize)?;
        image.copy(staged.bytes()).ok_or("the kernel in flexvisor.efi is damaged")?;
        // SAFETY: both symbols bound the code of handover.s.
        let code = unsafe {
            let start = &raw const handover_start;
            let len = (&raw const handover_end).offset_from(start) as usize;
            core::slice::from_raw_parts(start, len)
        };
        let mut trampoline = Pages::executable(code.len())?;
        trampoline.bytes().copy_from_slice(code);
        Ok(Self { staged, trampoline, block: Pages::new(INFO)?, _place: place })
    }

    /// Builds what the kernel is told and goes. Returns only while boot services are still there.
    pub(crate) fn run(
        mut self,
        image: &Image,
        settings: &Settings,
        loader: &str,
    ) -> Result<Infallible, String> {
        let Self { staged, trampoline, block, .. } = &mut self;
        let (info, at) = (block.address(), trampoline.address());
        let parameters = [
            staged.address(),
            image.start,
            image.loaded - image.start,
            image.end - image.loaded,
            UEFI_MAGIC,
            info,
            image.entry,
        ];
        for (to, value) in trampoline.bytes().chunks_exact_mut(4).zip(parameters) {
            to.copy_from_slice(&value.to_le_bytes());
        }

        let mut builder = Builder::new(block.bytes());
        builder.command_line(&settings.line);
        builder.loader(loader);
        for module in &settings.modules {
            let start = module.pages.address();
            builder.module(start, start + module.pages.len() as u32, &module.line);
        }
        if let Some((bytes, second)) = rsdp() {
            builder.rsdp(bytes, second);
        }
        if builder.is_full() {
            return Err("the command lines of all modules do not fit into 512 KiB".into());
        }
        crate::say("leaving the firmware");
        crate::FIRMWARE.store(false, Ordering::Relaxed);
        // SAFETY: no protocol is in use any more, and nothing below allocates.
        let map = unsafe { uefi::boot::exit_boot_services(None) };
        builder.memory_map(map.entries().map(|entry| {
            let kind = match entry.ty {
                MemoryType::CONVENTIONAL if entry.att.bits() & SPECIAL_PURPOSE != 0 => RegionKind::Reserved,
                MemoryType::CONVENTIONAL
                | MemoryType::LOADER_CODE
                | MemoryType::LOADER_DATA
                | MemoryType::BOOT_SERVICES_CODE
                | MemoryType::BOOT_SERVICES_DATA => RegionKind::Usable,
                MemoryType::ACPI_RECLAIM => RegionKind::AcpiReclaimable,
                MemoryType::ACPI_NON_VOLATILE => RegionKind::AcpiNvs,
                MemoryType::UNUSABLE => RegionKind::Bad,
                _ => RegionKind::Reserved,
            };
            (entry.phys_start, entry.page_count.saturating_mul(4096), kind)
        }));
        builder.finish();
        // SAFETY: the code at `at + CODE` follows its parameters; it needs nothing but the pages named in them, which lie below
        // 4 GiB and outside of the kernel's place, and never returns.
        unsafe {
            core::arch::asm!(
                "cli",
                "lea rcx, [rax + 32]",
                "jmp rcx",
                in("rax") u64::from(at),
                options(noreturn)
            )
        }
    }
}

/// The ACPI root pointer of the system table, and whether it is that of ACPI 2.0.
fn rsdp() -> Option<(&'static [u8], bool)> {
    let find = |wanted| {
        system::with_config_table(|table| {
            table.iter().find(|entry| entry.guid == wanted).map(|entry| entry.address)
        })
    };
    let (address, len, second) = match find(ConfigTableEntry::ACPI2_GUID) {
        Some(address) => (address, 36, true),
        None => (find(ConfigTableEntry::ACPI_GUID)?, 20, false),
    };
    // SAFETY: the system table says that an RSDP of that version is there (ACPI 6.5, 5.2.5.3); firmware keeps it.
    Some((unsafe { core::slice::from_raw_parts(address.cast(), len) }, second))
}
