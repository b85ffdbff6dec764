//! The CPUID table of a guest, indexed directly: one look-up answers an exit.

use alloc::boxed::Box;
use alloc::vec::Vec;

use vm_types::nospec;

use crate::feature::{Reg, is_indexed};
use crate::xsave::{compacted_size, standard_size};

/// Most rows that a table may have.
pub const MAX_ROWS: usize = 128;
/// The basic, hypervisor and extended leaves have as many slots each.
const SLOTS: u32 = 32;

const CR4_OSXSAVE: u64 = 1 << 18;
const CR4_PKE: u64 = 1 << 22;
const OSXSAVE: u32 = 1 << 27;
const OSPKE: u32 = 1 << 4;
/// XSAVEC and XSAVES in CPUID.D.1:EAX: with either, EBX is a size.
const COMPACTS: u32 = 1 << 1 | 1 << 3;

/// One row of a CPUID table: EAX and ECX on input; EAX, EBX, ECX, EDX of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Row {
    /// EAX on input.
    #[n(0)]
    pub leaf: u32,
    /// ECX on input; 0 for a leaf without sub-leaves.
    #[n(1)]
    pub subleaf: u32,
    /// The answer: EAX, EBX, ECX, EDX, before [`Dynamic`] is applied.
    #[n(2)]
    pub regs: [u32; 4],
}

/// The state of a vCPU that some answers depend on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dynamic {
    /// The (x2)APIC id.
    pub apic_id: u32,
    /// CR4 as the guest sees it.
    pub cr4: u64,
    /// XCR0.
    pub xcr0: u64,
}

/// What [`Dynamic`] changes in an answer: bits to be tested one by one, as a `match` would become a jump table,
/// and the exit path has no indirect branch.
mod fixup {
    /// APIC id in EBX, OSXSAVE in ECX.
    pub(super) const LEAF1: u32 = 1;
    /// OSPKE in ECX.
    pub(super) const LEAF7: u32 = 1 << 1;
    /// Sub-leaf in ECX, APIC id in EDX.
    pub(super) const TOPOLOGY: u32 = 1 << 2;
    /// Size of the enabled components in EBX, standard format.
    pub(super) const STANDARD: u32 = 1 << 3;
    /// The same, compacted.
    pub(super) const COMPACTED: u32 = 1 << 4;
    /// CPUID faulting is on: no answer above CPL 0.
    pub(super) const FAULTS: u32 = 1 << 5;
}

/// One answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    regs: [u32; 4],
    fixups: u32,
}

static ZERO: Entry = Entry { regs: [0; 4], fixups: 0 };

/// The rows of one leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Span {
    first: u16,
    count: u16,
    /// Answers sub-leaves from `count` on.
    rest: u16,
    /// ANDed with the sub-leaf: all ones where the leaf has sub-leaves, else 0.
    mask: u32,
}

/// Why rows are no table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TableError {
    /// More than [`MAX_ROWS`].
    #[error("{0} CPUID rows")]
    TooMany(usize),
    /// A leaf outside the three ranges.
    #[error("CPUID leaf {0:#x} is out of range")]
    Leaf(u32),
    /// Rows that are not sorted, double, or skip a sub-leaf.
    #[error("CPUID row {0:#x}.{1} is out of order")]
    Order(u32, u32),
}

/// A guest's whole CPUID table. A leaf that is not in it answers zero, one above the highest basic leaf too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpuidTable {
    spans: Box<[Span; 4 * SLOTS as usize]>,
    entries: Vec<Entry>,
    rows: Vec<Row>,
}

/// True for a leaf that lists the levels of the topology.
pub(crate) const fn is_topology(leaf: u32) -> bool {
    matches!(leaf, 0xb | 0x1f)
}

/// The slot of a leaf; None for one outside the three ranges.
#[inline(always)]
const fn slot(leaf: u32) -> Option<usize> {
    if leaf & 0x3fff_ffe0 == 0 { Some(((leaf >> 30) * SLOTS + leaf % SLOTS) as usize) } else { None }
}

impl CpuidTable {
    /// Makes a table of rows sorted by leaf and sub-leaf, each leaf's sub-leaves from 0 on without a gap.
    ///
    /// # Errors
    /// Which row is at fault.
    pub fn new(rows: Vec<Row>) -> Result<Self, TableError> {
        if rows.len() > MAX_ROWS {
            return Err(TableError::TooMany(rows.len()));
        }
        let none = Span { first: 0, count: 0, rest: 0, mask: 0 };
        let (mut spans, mut entries) = (Box::new([none; 4 * SLOTS as usize]), Vec::new());
        entries.push(ZERO);
        let mut last: Option<&Row> = None;
        for row in &rows {
            let span = slot(row.leaf).filter(|_| row.leaf >> 30 != 3).and_then(|slot| spans.get_mut(slot));
            let span = span.ok_or(TableError::Leaf(row.leaf))?;
            let follows = last.is_none_or(|last| last.leaf < row.leaf);
            let next = last.is_some_and(|last| {
                last.leaf == row.leaf && is_indexed(row.leaf) && last.subleaf + 1 == row.subleaf
            });
            if !(follows && row.subleaf == 0 || next) {
                return Err(TableError::Order(row.leaf, row.subleaf));
            }
            if follows {
                let rest = if is_topology(row.leaf) {
                    entries.push(Entry { regs: [0; 4], fixups: fixup::TOPOLOGY });
                    entries.len() as u16 - 1
                } else {
                    0
                };
                let mask = if is_indexed(row.leaf) { u32::MAX } else { 0 };
                *span = Span { first: entries.len() as u16, count: 0, rest, mask };
            }
            span.count += 1;
            entries.push(Entry { regs: row.regs, fixups: fixups(row) });
            last = Some(row);
        }
        Ok(Self { spans, entries, rows })
    }

    /// The entry that answers EAX = `leaf`, ECX = `subleaf`.
    #[must_use]
    #[inline(always)]
    pub fn lookup(&self, leaf: u32, subleaf: u32) -> &Entry {
        let Some(slot) = slot(leaf) else { return self.zero() };
        let span = &self.spans[slot];
        let index = subleaf & span.mask;
        let (index, count) = (u64::from(index), u64::from(span.count));
        let at = nospec::select(index, count, u64::from(span.first) + index, span.rest.into());
        self.entries.get(at as usize).unwrap_or(&ZERO)
    }

    /// What is answered for a leaf that the guest does not have.
    #[inline]
    fn zero(&self) -> &Entry {
        self.entries.first().unwrap_or(&ZERO)
    }

    /// Switches CPUID faulting on or off. Every entry is told, so that an answer costs nothing while it is off.
    pub fn set_faulting(&mut self, on: bool) {
        for entry in &mut self.entries {
            entry.fixups = if on { entry.fixups | fixup::FAULTS } else { entry.fixups & !fixup::FAULTS };
        }
    }

    /// True where CPUID faulting is on.
    #[must_use]
    pub fn is_faulting(&self) -> bool {
        self.zero().faults()
    }

    /// The registers that answer EAX = `leaf`, ECX = `subleaf`; `state` is asked only where they depend on it.
    #[must_use]
    #[inline(always)]
    pub fn answer(&self, leaf: u32, subleaf: u32, state: impl FnOnce() -> Dynamic) -> [u32; 4] {
        let entry = self.lookup(leaf, subleaf);
        if entry.fixups == 0 { entry.regs } else { entry.fixed(subleaf, &state()) }
    }

    /// The rows that the table was made of.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// A register before [`Dynamic`] is applied; 0 where there is no such row.
    #[must_use]
    pub fn reg(&self, leaf: u32, subleaf: u32, reg: Reg) -> u32 {
        let row = self.rows.iter().find(|row| row.leaf == leaf && row.subleaf == subleaf);
        row.map_or(0, |row| row.regs[reg as usize])
    }
}

impl Entry {
    /// The registers before [`Dynamic`] is applied.
    #[must_use]
    #[inline]
    pub fn regs(&self) -> &[u32; 4] {
        &self.regs
    }

    /// True where the answer depends on [`Dynamic`], or where there may be none ([`Entry::faults`]).
    #[must_use]
    #[inline]
    pub fn is_dynamic(&self) -> bool {
        self.fixups != 0
    }

    /// True where CPUID faulting is on: above CPL 0 the answer is #GP(0).
    #[must_use]
    #[inline]
    pub fn faults(&self) -> bool {
        self.fixups & fixup::FAULTS != 0
    }

    /// The registers for a vCPU in this state.
    #[must_use]
    #[inline(never)]
    pub fn fixed(&self, subleaf: u32, state: &Dynamic) -> [u32; 4] {
        let [eax, mut ebx, mut ecx, mut edx] = self.regs;
        if self.fixups & fixup::LEAF1 != 0 {
            ebx |= state.apic_id << 24;
            if state.cr4 & CR4_OSXSAVE != 0 {
                ecx |= OSXSAVE;
            }
        }
        if self.fixups & fixup::LEAF7 != 0 && state.cr4 & CR4_PKE != 0 {
            ecx |= OSPKE;
        }
        if self.fixups & fixup::TOPOLOGY != 0 {
            ecx |= subleaf & 0xff;
            edx = state.apic_id;
        }
        if self.fixups & fixup::STANDARD != 0 {
            ebx = standard_size(state.xcr0);
        }
        if self.fixups & fixup::COMPACTED != 0 {
            ebx = compacted_size(state.xcr0);
        }
        [eax, ebx, ecx, edx]
    }
}

fn fixups(row: &Row) -> u32 {
    match (row.leaf, row.subleaf) {
        (1, _) => fixup::LEAF1,
        (7, 0) => fixup::LEAF7,
        (leaf, _) if is_topology(leaf) => fixup::TOPOLOGY,
        (0xd, 0) if row.regs[0] != 0 => fixup::STANDARD,
        (0xd, 1) if row.regs[0] & COMPACTS != 0 => fixup::COMPACTED,
        _ => 0,
    }
}
