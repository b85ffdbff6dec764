//! The bits of an entry (SDM tables 28-1 to 28-6).

pub(crate) const READ: u64 = 1 << 0;
pub(crate) const WRITE: u64 = 1 << 1;
pub(crate) const EXECUTE: u64 = 1 << 2;
pub(crate) const WRITE_BACK: u64 = 6 << 3;
pub(crate) const LARGE: u64 = 1 << 7;
pub(crate) const ACCESSED: u64 = 1 << 8;
pub(crate) const DIRTY: u64 = 1 << 9;
/// Ignored by the CPU: the large page was split for tracking or the audit alone and may be put back.
pub(crate) const SPLIT_MAY_MERGE: u64 = 1 << 52;
/// Ignored by the CPU: the audit keeps the page from being written. It is executable once it is decoded; else CPUs are to
/// drop what they have cached of it first.
pub(crate) const KEPT: u64 = 1 << 53;
/// Ignored by the CPU: the audit has let the page be executed at some time.
pub(crate) const EXECUTED: u64 = 1 << 54;
/// Ignored by the CPU: the last harvest found the table that the entry leads to accessed.
pub(crate) const RECENT: u64 = 1 << 55;
/// Ignored by the CPU: the page is a device's, not memory, or the region has one. No change of tables looks at it.
pub(crate) const DEVICE: u64 = 1 << 56;
pub(crate) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
pub(crate) const PRESENT: u64 = READ | WRITE | EXECUTE;

pub(crate) const SIZE_4K: u64 = 1 << 12;
pub(crate) const SIZE_2M: u64 = 1 << 21;

/// True where an entry above the last level leads to a table. One that is present is readable, so that two bits tell.
pub(crate) const fn is_table(entry: u64) -> bool {
    entry & (READ | LARGE) == READ
}

/// Where the entry for `gpa` is in a table of `level`, 1 for entries of 4 KiB.
pub(crate) const fn index(gpa: u64, level: u32) -> usize {
    (gpa >> (12 + 9 * (level - 1))) as usize & 511
}
