//! The file of a suspended VM, over any storage that reads and writes at a position.
//!
//! The format is specified in `docs/vm-file.md`. A [`Writer`] takes pages in any order and as often as rounds bring them;
//! an [`Image`] opens what it made, checks every byte, and moves the file through its states.
//!
//! | module | holds |
//! |---|---|
//! | `layout` | header, state slot, numbers |
//! | `write` | [`Writer`] |
//! | `tail` | index of pages and state records, as bytes |
//! | `read` | [`Image`] |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
mod layout;
mod read;
mod state;
mod tail;
mod write;

use alloc::string::String;

pub use error::FileError;
pub use layout::{MAGIC, Meta};
pub use read::{Counts, Image};
pub use state::State;
pub use write::Writer;

/// The newest version of the format that this crate writes and reads: one with what the VM was made from. A file without is
/// of version 1.
pub const VERSION: u16 = 2;
/// The oldest that it reads.
pub(crate) const OLDEST: u16 = 1;

/// Where the bytes are.
pub trait Storage {
    /// Bytes in it.
    ///
    /// # Errors
    /// In words.
    fn size(&self) -> Result<u64, String>;

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// In words; also where fewer bytes are there.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), String>;

    /// Writes all of `data` at `offset`; what lies between the end and `offset` reads as zero.
    ///
    /// # Errors
    /// In words.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), String>;

    /// Cuts off what lies behind `size` bytes.
    ///
    /// # Errors
    /// In words.
    fn truncate(&mut self, size: u64) -> Result<(), String>;

    /// Returns when all that was written would outlive a loss of power.
    ///
    /// # Errors
    /// In words.
    fn sync(&mut self) -> Result<(), String>;
}

/// Where a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Held {
    /// This word over and over; never zero: zero pages are not held.
    Fill(u64),
    /// In the page slot of this number, sealed.
    Data { slot: u32, seal: u64 },
}

/// Of a page, so that it can neither change nor change places.
pub(crate) fn page_seal(gfn: u64, page: &[u8; migrate::PAGE_BYTES]) -> u64 {
    xxhash_rust::xxh64::xxh64(page, gfn)
}
