//! The architectural state a boot protocol asks for, as plain data for the VMCS.

use alloc::vec::Vec;

use vm_types::{Gpa, GuestMemory};
use x86::{EFER_LMA, EFER_LME, PAGE_SIZE as PAGE};

use crate::bytes::put;
use crate::error::LoadError;
use crate::layout::Space;

/// Index of RAX in [`Entry::gprs`].
pub const RAX: usize = 0;
/// Index of RBX in [`Entry::gprs`].
pub const RBX: usize = 3;
/// Index of RSP in [`Entry::gprs`].
pub const RSP: usize = x86::RSP as usize;
/// Index of RSI in [`Entry::gprs`].
pub const RSI: usize = 6;

/// The CPU mode at the first instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// 32-bit protected mode, paging off.
    Protected32,
    /// 64-bit mode, paging on, the first 4 GiB mapped to themselves.
    Long64,
}

/// A segment register. `access` are the access rights in the VMCS's format (SDM 3C 25.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Segment {
    pub selector: u16,
    pub base: u64,
    pub limit: u32,
    pub access: u32,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct TableRegister {
    pub base: u64,
    pub limit: u16,
}

/// The state of the first vCPU at the guest's first instruction. CR0 and CR4 hold what the guest is to see; bits that
/// VMX fixes are the caller's business. What is not named here is as after INIT.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Entry {
    pub mode: Mode,
    pub rip: u64,
    pub rflags: u64,
    /// By their encoding: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub gprs: [u64; 16],
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub cs: Segment,
    /// DS, ES, SS, FS and GS alike.
    pub data: Segment,
    /// Unusable.
    pub ldtr: Segment,
    /// A busy TSS, which VM entry demands.
    pub tr: Segment,
    pub gdtr: TableRegister,
    /// Limit 0: an exception before the guest has its own table is a triple fault.
    pub idtr: TableRegister,
}

/// Linux's `__BOOT_CS` and `__BOOT_DS`; PVH and Multiboot leave the selectors open.
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
const TSS_SELECTOR: u16 = 0x20;

const CODE32: u32 = 0xC09B;
const CODE64: u32 = 0xA09B;
const DATA: u32 = 0xC093;
const BUSY_TSS: u32 = 0x008B;
const UNUSABLE: u32 = 1 << 16;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const RFLAGS_FIXED: u64 = 2;

const PRESENT_WRITABLE: u64 = 3;
const PAGE_2M: u64 = 1 << 7;
/// PML4, one PDPT, and page directories for 4 GiB.
const TABLES: u64 = 6;
const TSS_OFFSET: u64 = 0x80;
const TSS_LEN: u32 = 104;

impl Entry {
    /// Flat 32-bit protected mode, paging off (PVH, Multiboot 3.2).
    pub(crate) fn protected32<M: GuestMemory + ?Sized>(
        space: &mut Space<'_, M>,
        rip: u32,
    ) -> Result<Self, LoadError> {
        Self::new(space, Mode::Protected32, u64::from(rip))
    }

    /// 64-bit mode on identity page tables of 2 MiB pages (Linux's 64-bit boot protocol).
    pub(crate) fn long64<M: GuestMemory + ?Sized>(
        space: &mut Space<'_, M>,
        rip: u64,
    ) -> Result<Self, LoadError> {
        let mut entry = Self::new(space, Mode::Long64, rip)?;
        entry.cr3 = identity_tables(space)?.0;
        entry.cr0 |= CR0_PG;
        entry.cr4 = CR4_PAE;
        entry.efer = EFER_LME | EFER_LMA;
        Ok(entry)
    }

    fn new<M: GuestMemory + ?Sized>(
        space: &mut Space<'_, M>,
        mode: Mode,
        rip: u64,
    ) -> Result<Self, LoadError> {
        let page = space.place_low("the boot GDT", PAGE, PAGE)?;
        let code = if mode == Mode::Long64 { CODE64 } else { CODE32 };
        let tr = Segment {
            selector: TSS_SELECTOR,
            base: page.0 + TSS_OFFSET,
            limit: TSS_LEN - 1,
            access: BUSY_TSS,
        };
        let cs = Segment { selector: CODE_SELECTOR, base: 0, limit: u32::MAX, access: code };
        let data = Segment { selector: DATA_SELECTOR, access: DATA, ..cs };
        let mut gdt = alloc::vec![0; PAGE as usize];
        for segment in [cs, data, tr] {
            put(&mut gdt, usize::from(segment.selector), &descriptor(&segment).to_le_bytes());
        }
        space.write(page, &gdt)?;
        Ok(Self {
            mode,
            rip,
            rflags: RFLAGS_FIXED,
            gprs: [0; 16],
            cr0: CR0_PE | CR0_ET,
            cr3: 0,
            cr4: 0,
            efer: 0,
            cs,
            data,
            ldtr: Segment { selector: 0, base: 0, limit: 0, access: UNUSABLE },
            tr,
            // The TSS descriptor takes two slots in 64-bit mode.
            gdtr: TableRegister { base: page.0, limit: TSS_SELECTOR + 15 },
            idtr: TableRegister { base: 0, limit: 0 },
        })
    }
}

/// The low eight bytes of a descriptor (SDM 3A 3.4.5).
fn descriptor(segment: &Segment) -> u64 {
    let pages = segment.access & (1 << 15) != 0;
    let limit = u64::from(if pages { segment.limit >> 12 } else { segment.limit });
    let base = segment.base;
    (limit & 0xFFFF)
        | (base & 0xFF_FFFF) << 16
        | u64::from(segment.access & 0xF0FF) << 40
        | (limit >> 16 & 0xF) << 48
        | (base >> 24 & 0xFF) << 56
}

fn identity_tables<M: GuestMemory + ?Sized>(space: &mut Space<'_, M>) -> Result<Gpa, LoadError> {
    let root = space.place_low("the boot page tables", TABLES * PAGE, PAGE)?;
    let table = |index: u64| root.0 + index * PAGE;
    let mut tables: Vec<u8> = alloc::vec![0; (TABLES * PAGE) as usize];
    put(&mut tables, 0, &(table(1) | PRESENT_WRITABLE).to_le_bytes());
    for directory in 0..4u64 {
        let at = PAGE + directory * 8;
        put(&mut tables, at as usize, &(table(2 + directory) | PRESENT_WRITABLE).to_le_bytes());
    }
    for page in 0..4 * 512u64 {
        put(
            &mut tables,
            (2 * PAGE + page * 8) as usize,
            &(page << 21 | PAGE_2M | PRESENT_WRITABLE).to_le_bytes(),
        );
    }
    space.write(root, &tables)?;
    Ok(root)
}
