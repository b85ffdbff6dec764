//! Memory for tables.

use core::sync::atomic::AtomicU64;
use vm_types::Hpa;

/// The entries of a table.
pub type Table = [AtomicU64; 512];

/// Memory for tables, which CPUs read and write by themselves.
pub trait Frames<'m>: Copy + Send {
    /// A page of zeros; `None` where there is none left.
    fn alloc(self) -> Option<Hpa>;
    /// Gives a page back: the next who gets it may be anybody.
    fn free(self, page: Hpa);
    /// Pages that [`Frames::alloc`] has to give now.
    fn available(self) -> u64;
    /// The entries of a page from [`Frames::alloc`] that has not been given back.
    fn table(self, page: Hpa) -> &'m Table;
}
