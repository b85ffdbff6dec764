//! Guest page walks (SDM 3A chapter 5) for accesses of the hypervisor on the guest's behalf.

use core::fmt;

use vm_types::{Gpa, GuestMemory};
use x86::{EFER_LMA, EFER_NXE};

use crate::code::MAX_LEN;

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
    /// With PAE paging and without long mode the four top entries: registers, which were loaded with CR3 (SDM 3A 4.4.1). What
    /// memory holds at CR3 now says nothing. In every other mode they are not looked at.
    pub pdptes: [u64; 4],
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
    /// PKRU, which counts for data accesses where CR4.PKE is set.
    pub pkru: u32,
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
}

impl fmt::Display for WalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageFault { error_code } => write!(f, "page fault, error code {error_code:#x}"),
            Self::NonCanonical => f.write_str("address is not canonical"),
        }
    }
}

impl core::error::Error for WalkError {}

const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
pub(crate) const CR4_LA57: u64 = 1 << 12;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
pub(crate) const CR4_PKE: u64 = 1 << 22;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

const FAULT_PRESENT: u32 = 1;
const FAULT_WRITE: u32 = 1 << 1;
const FAULT_USER: u32 = 1 << 2;
const FAULT_RESERVED: u32 = 1 << 3;
const FAULT_FETCH: u32 = 1 << 4;
const FAULT_KEY: u32 = 1 << 5;

/// Where a linear address lies, and what its use leaves in the guest's tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The address. It may lie outside RAM.
    pub gpa: Gpa,
    marks: Marks,
}

/// Entries that want a flag, and their lowest byte with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Marks {
    entries: [(u64, u8); 5],
    count: u8,
}

impl Marks {
    /// Notes that `entry`, which lies at `at`, takes part.
    fn used(&mut self, at: u64, entry: u64, flags: u64) {
        if entry & flags != flags
            && let Some(mark) = self.entries.get_mut(usize::from(self.count))
        {
            *mark = (at, (entry | flags) as u8);
            self.count += 1;
        }
    }
}

impl Translation {
    /// Sets the accessed and dirty flags as the CPU does for an access that goes ahead (SDM 3A 5.8). A VM has one vCPU,
    /// and it stands still: nobody changes the entry meanwhile.
    pub fn mark<M: GuestMemory + ?Sized>(&self, mem: &M) {
        for &(at, byte) in self.marks.entries.iter().take(self.marks.count.into()) {
            // Outside RAM there is nothing to set.
            let _ = mem.write(Gpa(at), &[byte]);
        }
    }
}

/// Translates linear address `gva` and changes nothing.
///
/// # Errors
/// [`WalkError`]: what the guest's own access would have met.
pub fn walk<M: GuestMemory + ?Sized>(
    mem: &M,
    state: &PagingState,
    gva: u64,
    access: Access,
) -> Result<Gpa, WalkError> {
    Walker { mem, state, access }.any(gva, None)
}

/// Translates linear address `gva`; [`Translation::mark`] then leaves the traces of an access.
///
/// # Errors
/// [`WalkError`]: what the guest's own access would have met.
pub fn translate<M: GuestMemory + ?Sized>(
    mem: &M,
    state: &PagingState,
    gva: u64,
    access: Access,
) -> Result<Translation, WalkError> {
    let mut marks = Marks { entries: [(0, 0); 5], count: 0 };
    let gpa = Walker { mem, state, access }.any(gva, Some(&mut marks))?;
    Ok(Translation { gpa, marks })
}

/// Reads the instruction at linear address `rip` into `bytes` and returns how many were read: fewer than 15 where
/// the next page cannot be fetched from. Outside RAM all bytes are ones.
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
    let access = Access { kind: AccessKind::Execute, user, ac: false, pkru: 0 };
    let first = ((0x1000 - (rip & 0xFFF)) as usize).min(MAX_LEN);
    let (head, tail) = bytes.split_at_mut(first);
    let at = walk(mem, state, rip, access)?;
    read_or_ones(mem, at, head);
    if tail.is_empty() {
        return Ok(first);
    }
    let Ok(next) = walk(mem, state, rip.wrapping_add(first as u64), access) else { return Ok(first) };
    read_or_ones(mem, next, tail);
    Ok(MAX_LEN)
}

/// What is not RAM reads as ones, as on a bus.
fn read_or_ones<M: GuestMemory + ?Sized>(mem: &M, at: Gpa, bytes: &mut [u8]) {
    if mem.read(at, bytes).is_err() {
        bytes.fill(0xFF);
    }
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
    /// Of the last entry: the protection key, which the CPU looks at in long mode alone.
    key: Option<u8>,
}

const ALL_RIGHTS: Rights = Rights { writable: true, user: true, no_execute: false, key: None };

impl Rights {
    fn and(self, entry: u64) -> Self {
        Rights {
            writable: self.writable && entry & WRITABLE != 0,
            user: self.user && entry & USER != 0,
            no_execute: self.no_execute || entry & NO_EXECUTE != 0,
            key: self.key,
        }
    }
}

impl<M: GuestMemory + ?Sized> Walker<'_, M> {
    /// Walks the tables of the mode in use. What the access leaves in them goes to `marks`, where somebody asks.
    fn any(&self, gva: u64, marks: Option<&mut Marks>) -> Result<Gpa, WalkError> {
        if self.state.cr0 & CR0_PG == 0 {
            Ok(Gpa(gva & 0xFFFF_FFFF))
        } else if self.state.efer & EFER_LMA != 0 {
            self.long(gva, marks)
        } else if self.state.cr4 & CR4_PAE != 0 {
            self.pae(gva & 0xFFFF_FFFF, marks)
        } else {
            self.legacy(gva & 0xFFFF_FFFF, marks)
        }
    }

    fn long(&self, gva: u64, marks: Option<&mut Marks>) -> Result<Gpa, WalkError> {
        let levels = if self.state.cr4 & CR4_LA57 != 0 { 5 } else { 4 };
        let unused = 64 - (12 + 9 * levels);
        if ((gva << unused) as i64 >> unused) as u64 != gva {
            return Err(WalkError::NonCanonical);
        }
        self.wide(gva, self.state.cr3 & ADDRESS, levels, marks)
    }

    fn pae(&self, gva: u64, marks: Option<&mut Marks>) -> Result<Gpa, WalkError> {
        let [first, second, third, fourth] = self.state.pdptes;
        let entry = match gva >> 30 {
            0 => first,
            1 => second,
            2 => third,
            _ => fourth,
        };
        if entry & PRESENT == 0 {
            return Err(self.fault(0));
        }
        // The four top entries carry neither rights nor flags.
        self.wide(gva, entry & ADDRESS, 2, marks)
    }

    /// Walks `levels` tables of 64-bit entries.
    fn wide(
        &self,
        gva: u64,
        table: u64,
        levels: u32,
        mut marks: Option<&mut Marks>,
    ) -> Result<Gpa, WalkError> {
        let (mut table, mut rights) = (table, ALL_RIGHTS);
        let reserved = self.reserved();
        for level in (1..=levels).rev() {
            let shift = 12 + 9 * (level - 1);
            let at = table + (gva >> shift & 0x1FF) * 8;
            let entry = self.entry64(at);
            if entry & PRESENT == 0 {
                return Err(self.fault(0));
            }
            let large = level > 1 && entry & LARGE != 0;
            let offset = (1u64 << shift) - 1;
            // Bits between the PAT bit and a large page's address are reserved.
            let low = if large { offset & ADDRESS & !0x1000 } else { 0 };
            if entry & (reserved | low) != 0 || (large && level > 3) {
                return Err(self.fault(FAULT_PRESENT | FAULT_RESERVED));
            }
            rights = rights.and(entry);
            if large || level == 1 {
                if self.state.efer & EFER_LMA != 0 {
                    rights.key = Some((entry >> 59) as u8 & 15);
                }
                self.permit(rights)?;
                if let Some(marks) = marks {
                    marks.used(at, entry, self.leaf_flags());
                }
                return Ok(Gpa(entry & ADDRESS & !offset | gva & offset));
            }
            if let Some(marks) = &mut marks {
                marks.used(at, entry, ACCESSED);
            }
            table = entry & ADDRESS;
        }
        Err(self.fault(0))
    }

    fn legacy(&self, gva: u64, mut marks: Option<&mut Marks>) -> Result<Gpa, WalkError> {
        let directory = self.state.cr3 & 0xFFFF_F000;
        let pde_at = directory + (gva >> 22) * 4;
        let pde = self.entry32(pde_at);
        if pde & PRESENT == 0 {
            return Err(self.fault(0));
        }
        let rights = ALL_RIGHTS.and(pde);
        if pde & LARGE != 0 && self.state.cr4 & CR4_PSE != 0 {
            // PSE-36: bits 20:13 are address bits 39:32, reserved from the guest's width on (SDM 3A 5.3).
            let high = (pde >> 13 & 0xFF) << 32;
            if pde & 1 << 21 != 0 || high & self.beyond() != 0 {
                return Err(self.fault(FAULT_PRESENT | FAULT_RESERVED));
            }
            self.permit(rights)?;
            if let Some(marks) = marks {
                marks.used(pde_at, pde, self.leaf_flags());
            }
            return Ok(Gpa(high | pde & 0xFFC0_0000 | gva & 0x3F_FFFF));
        }
        if let Some(marks) = &mut marks {
            marks.used(pde_at, pde, ACCESSED);
        }
        let at = (pde & 0xFFFF_F000) + (gva >> 12 & 0x3FF) * 4;
        let pte = self.entry32(at);
        if pte & PRESENT == 0 {
            return Err(self.fault(0));
        }
        self.permit(rights.and(pte))?;
        if let Some(marks) = marks {
            marks.used(at, pte, self.leaf_flags());
        }
        Ok(Gpa(pte & 0xFFFF_F000 | gva & 0xFFF))
    }

    /// What is not RAM reads as ones.
    fn entry64(&self, at: u64) -> u64 {
        self.mem.read_u64(Gpa(at)).unwrap_or(u64::MAX)
    }

    fn entry32(&self, at: u64) -> u64 {
        let mut bytes = [0; 4];
        read_or_ones(self.mem, Gpa(at), &mut bytes);
        u32::from_le_bytes(bytes).into()
    }

    fn leaf_flags(&self) -> u64 {
        if self.access.kind == AccessKind::Write { ACCESSED | DIRTY } else { ACCESSED }
    }

    /// Address bits that a guest of this width does not have.
    fn beyond(&self) -> u64 {
        ADDRESS & u64::MAX.checked_shl(self.state.phys_bits.into()).unwrap_or(0)
    }

    /// Reserved bits of every 64-bit entry.
    fn reserved(&self) -> u64 {
        let no_execute = if self.state.efer & EFER_NXE == 0 { NO_EXECUTE } else { 0 };
        // Without long mode, bits 62:52 are reserved, too.
        let upper = if self.state.efer & EFER_LMA == 0 { 0x7FF0_0000_0000_0000 } else { 0 };
        self.beyond() | no_execute | upper
    }

    /// SDM 3A 5.6: the rights of the translation against those of the access.
    fn permit(&self, rights: Rights) -> Result<(), WalkError> {
        let Access { kind, user, ac, .. } = self.access;
        let cr4 = |bit| self.state.cr4 & bit != 0;
        let allowed = match kind {
            _ if user && !rights.user => false,
            AccessKind::Execute => !rights.no_execute && (user || !rights.user || !cr4(CR4_SMEP)),
            _ if !user && rights.user && cr4(CR4_SMAP) && !ac => false,
            AccessKind::Write => rights.writable || (!user && self.state.cr0 & CR0_WP == 0),
            AccessKind::Read => true,
        };
        let key = if self.locked(rights) { FAULT_KEY } else { 0 };
        if allowed && key == 0 { Ok(()) } else { Err(self.fault(FAULT_PRESENT | key)) }
    }

    /// SDM 3A 5.6.2: whether PKRU forbids the access. The error code says so beside another reason, too.
    fn locked(&self, rights: Rights) -> bool {
        let Some(key) = rights.key else { return false };
        let Access { kind, user, pkru, .. } = self.access;
        if self.state.cr4 & CR4_PKE == 0 || !rights.user || kind == AccessKind::Execute {
            return false;
        }
        let rule = pkru >> (2 * key) & 3;
        let write_forbidden = kind == AccessKind::Write && (user || self.state.cr0 & CR0_WP != 0);
        rule & 1 != 0 || (rule & 2 != 0 && write_forbidden)
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
