//! The body of a memory record: runs of pages.
//!
//! ```text
//! body := run*
//! run  := varint(count * 8 + kind)  varint(skip)  payload
//! kind 0 zero: no payload; 1 fill: 8-byte little-endian word; 2 data: count * 4096 bytes
//! kind 3 LZ4 blocks, 4 deltas: count * (2-byte little-endian length, so many bytes)
//! ```
//! `skip` is the distance in pages from the end of the run before it, from frame 0 for the first one.

mod choice;
mod decode;
mod delta;
mod encode;
mod lz4;
mod pack;
mod ram;
mod sent;
#[cfg(test)]
mod tests;
mod varint;

pub(crate) use choice::{Choice, Data, Method};
pub use choice::{Chosen, Measured};
pub use decode::{Runs, Scratch, apply};
pub use encode::Encoder;
pub(crate) use ram::RamDigest;

/// Kinds of a run on the wire.
pub(crate) mod kind {
    pub(crate) const ZERO: u64 = 0;
    pub(crate) const FILL: u64 = 1;
    pub(crate) const DATA: u64 = 2;
    pub(crate) const LZ4: u64 = 3;
    pub(crate) const DELTA: u64 = 4;
    pub(crate) const BITS: u32 = 3;
}

/// A run of pages in a memory record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// First page frame.
    pub first: u64,
    /// Pages; not 0.
    pub count: u64,
    /// What they hold.
    pub content: Content,
}

/// What the pages of a run hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Each 8-byte word of each page; 0 for zero pages.
    Fill(u64),
    /// The bytes of the first page stand at this offset of the body, the others behind it.
    Data(usize),
    /// At this offset the length of the first page's LZ4 block in 2 bytes, then the block; the others behind it.
    Lz4(usize),
    /// The same with deltas against what the pages hold.
    Delta(usize),
}
