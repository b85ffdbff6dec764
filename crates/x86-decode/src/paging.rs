//! Guest page walks (SDM 3A chapter 5) for reads of the hypervisor on the guest's behalf.

use core::fmt;

use vm_types::{Gpa, GuestMemory, MemoryError};

use crate::decode::MAX_LEN;

/// The registers that choose the paging mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PagingState {
    /// CR0 as the guest sees it.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4 as the guest sees it.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// MAXPHYADDR of the guest: bits from here to 51 of an entry are reserved.
    pub phys_bits: u8,
}

/// What an access does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum AccessKind {
    Read,
    Write,
    Execute,
}

/// An access by its rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Read, write or fetch.
    pub kind: AccessKind,
    /// Made at CPL 3.
    pub user: bool,
    /// RFLAGS.AC: lets supervisor data accesses pass SMAP.
    pub ac: bool,
}

/// Why an address has no translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalkError {
    /// #PF with this error code.
    PageFault {
        /// As pushed on the stack.
        error_code: u32,
    },
    /// #GP (or #SS): bits above the linear-address width are not its sign.
    NonCanonical,
    /// A paging structure, or the page, is outside guest RAM.
    Memory(MemoryError),
}

impl fmt::Display for WalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageFault { error_code } => write!(f, "page fault, error code {error_code:#x}"),
            Self::NonCanonical => f.write_str("address is not canonical"),
            Self::Memory(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for WalkError {}

const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

const FAULT_PRESENT: u32 = 1;
const FAULT_WRITE: u32 = 1 << 1;
const FAULT_USER: u32 = 1 << 2;
const FAULT_RESERVED: u32 = 1 << 3;
const FAULT_FETCH: u32 = 1 << 4;

/// Translates linear address `gva`. Accessed and dirty bits are neither looked at nor set.
///
/// # Errors
/// [`WalkError`]: what the guest's own access would have met.
pub fn walk<M: GuestMemory + ?Sized>(
    mem: &M,
    state: &PagingState,
    gva: u64,
    access: Access,
) -> Result<Gpa, WalkError> {
    let walker = Walker { mem, state, access };
    if state.cr0 & CR0_PG == 0 {
        Ok(Gpa(gva & 0xFFFF_FFFF))
    } else if state.efer & EFER_LMA != 0 {
        walker.long(gva)
    } else if state.cr4 & CR4_PAE != 0 {
        walker.pae(gva & 0xFFFF_FFFF)
    } else {
        walker.legacy(gva & 0xFFFF_FFFF)
    }
}

/// Reads the instruction at linear address `rip` into `bytes` and returns how many were read: fewer than 15 where
/// the next page cannot be fetched from.
///
/// # Errors
/// [`WalkError`] when not even the first byte can be fetched.
pub fn fetch<M: GuestMemory + ?Sized>(
    mem: &M,
    state: &PagingState,
    rip: u64,
    user: bool,
    bytes: &mut [u8; MAX_LEN],
) -> Result<usize, WalkError> {
    let access = Access { kind: AccessKind::Execute, user, ac: false };
    let first = ((0x1000 - (rip & 0xFFF)) as usize).min(MAX_LEN);
    let (head, tail) = bytes.split_at_mut(first);
    let at = walk(mem, state, rip, access)?;
    mem.read(at, head).map_err(WalkError::Memory)?;
    if tail.is_empty() {
        return Ok(first);
    }
    let next = walk(mem, state, rip.wrapping_add(first as u64), access).ok();
    Ok(if next.is_some_and(|at| mem.read(at, tail).is_ok()) { MAX_LEN } else { first })
}

struct Walker<'a, M: ?Sized> {
    mem: &'a M,
    state: &'a PagingState,
    access: Access,
}

/// Rights of all levels so far together.
#[derive(Clone, Copy)]
struct Rights {
    writable: bool,
    user: bool,
    no_execute: bool,
}

const ALL_RIGHTS: Rights = Rights { writable: true, user: true, no_execute: false };

impl Rights {
    fn and(self, entry: u64) -> Self {
        Rights {
            writable: self.writable && entry & WRITABLE != 0,
            user: self.user && entry & USER != 0,
            no_execute: self.no_execute || entry & NO_EXECUTE != 0,
        }
    }
}

impl<M: GuestMemory + ?Sized> Walker<'_, M> {
    fn long(&self, gva: u64) -> Result<Gpa, WalkError> {
        let levels = if self.state.cr4 & CR4_LA57 != 0 { 5 } else { 4 };
        let unused = 64 - (12 + 9 * levels);
        if ((gva << unused) as i64 >> unused) as u64 != gva {
            return Err(WalkError::NonCanonical);
        }
        self.wide(gva, self.state.cr3 & ADDRESS, levels, ALL_RIGHTS)
    }

    fn pae(&self, gva: u64) -> Result<Gpa, WalkError> {
        let table = self.state.cr3 & 0xFFFF_FFE0;
        let entry = self.entry64(table + (gva >> 30) * 8)?;
        if entry & PRESENT == 0 {
            return Err(self.fault(0));
        }
        // The four top entries carry no rights.
        self.wide(gva, entry & ADDRESS, 2, ALL_RIGHTS)
    }

    /// Walks `levels` tables of 64-bit entries.
    fn wide(&self, gva: u64, table: u64, levels: u32, mut rights: Rights) -> Result<Gpa, WalkError> {
        let mut table = table;
        for level in (1..=levels).rev() {
            let shift = 12 + 9 * (level - 1);
            let entry = self.entry64(table + (gva >> shift & 0x1FF) * 8)?;
            if entry & PRESENT == 0 {
                return Err(self.fault(0));
            }
            let large = level > 1 && entry & LARGE != 0;
            let offset = (1u64 << shift) - 1;
            // Bits between the PAT bit and a large page's address are reserved.
            let low = if large { offset & ADDRESS & !0x1000 } else { 0 };
            if entry & (self.reserved() | low) != 0 || (large && level > 3) {
                return Err(self.fault(FAULT_PRESENT | FAULT_RESERVED));
            }
            rights = rights.and(entry);
            if large || level == 1 {
                self.permit(rights)?;
                return Ok(Gpa(entry & ADDRESS & !offset | gva & offset));
            }
            table = entry & ADDRESS;
        }
        Err(self.fault(0))
    }

    fn legacy(&self, gva: u64) -> Result<Gpa, WalkError> {
        let directory = self.state.cr3 & 0xFFFF_F000;
        let pde = self.entry32(directory + (gva >> 22) * 4)?;
        if pde & PRESENT == 0 {
            return Err(self.fault(0));
        }
        let rights = ALL_RIGHTS.and(pde);
        if pde & LARGE != 0 && self.state.cr4 & CR4_PSE != 0 {
            if pde & 1 << 21 != 0 {
                return Err(self.fault(FAULT_PRESENT | FAULT_RESERVED));
            }
            self.permit(rights)?;
            // PSE-36: bits 20:13 are address bits 39:32.
            let high = (pde >> 13 & 0xFF) << 32;
            return Ok(Gpa(high | pde & 0xFFC0_0000 | gva & 0x3F_FFFF));
        }
        let pte = self.entry32((pde & 0xFFFF_F000) + (gva >> 12 & 0x3FF) * 4)?;
        if pte & PRESENT == 0 {
            return Err(self.fault(0));
        }
        self.permit(rights.and(pte))?;
        Ok(Gpa(pte & 0xFFFF_F000 | gva & 0xFFF))
    }

    fn entry64(&self, at: u64) -> Result<u64, WalkError> {
        let mut bytes = [0; 8];
        self.mem.read(Gpa(at), &mut bytes).map_err(WalkError::Memory)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn entry32(&self, at: u64) -> Result<u64, WalkError> {
        let mut bytes = [0; 4];
        self.mem.read(Gpa(at), &mut bytes).map_err(WalkError::Memory)?;
        Ok(u32::from_le_bytes(bytes).into())
    }

    /// Reserved bits of every 64-bit entry.
    fn reserved(&self) -> u64 {
        let beyond = ADDRESS & u64::MAX.checked_shl(self.state.phys_bits.into()).unwrap_or(0);
        let no_execute = if self.state.efer & EFER_NXE == 0 { NO_EXECUTE } else { 0 };
        // Without long mode, bits 62:52 are reserved, too.
        let upper = if self.state.efer & EFER_LMA == 0 { 0x7FF0_0000_0000_0000 } else { 0 };
        beyond | no_execute | upper
    }

    /// SDM 3A 5.6: the rights of the translation against those of the access.
    fn permit(&self, rights: Rights) -> Result<(), WalkError> {
        let Access { kind, user, ac } = self.access;
        let cr4 = |bit| self.state.cr4 & bit != 0;
        let allowed = match kind {
            _ if user && !rights.user => false,
            AccessKind::Execute => !rights.no_execute && (user || !rights.user || !cr4(CR4_SMEP)),
            _ if !user && rights.user && cr4(CR4_SMAP) && !ac => false,
            AccessKind::Write => rights.writable || (!user && self.state.cr0 & CR0_WP == 0),
            AccessKind::Read => true,
        };
        if allowed { Ok(()) } else { Err(self.fault(FAULT_PRESENT)) }
    }

    fn fault(&self, cause: u32) -> WalkError {
        let user = if self.access.user { FAULT_USER } else { 0 };
        let fetches = self.state.cr4 & CR4_SMEP != 0
            || (self.state.efer & EFER_NXE != 0 && self.state.cr4 & CR4_PAE != 0);
        let kind = match self.access.kind {
            AccessKind::Write => FAULT_WRITE,
            AccessKind::Execute if fetches => FAULT_FETCH,
            _ => 0,
        };
        WalkError::PageFault { error_code: cause | user | kind }
    }
}
