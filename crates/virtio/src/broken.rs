//! What a driver can do wrong on a ring, each with its value.

use core::fmt;
use vm_types::{Gpa, MemoryError};

/// One of the three areas of a split ring (2.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The descriptor table.
    Descriptors,
    /// The available ring: the driver's.
    Available,
    /// The used ring: the device's.
    Used,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptor table",
            Self::Available => "available ring",
            Self::Used => "used ring",
        }
    }
}

/// Why a device goes no further with its driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// A queue was enabled with a size that is no power of two, is 0, or is above what is offered.
    Size {
        /// What the driver asked for.
        size: u16,
        /// What is offered.
        most: u16,
    },
    /// A queue was enabled with an area that does not begin at a multiple of its alignment, or ends beyond 64 bits.
    Place {
        /// Which.
        part: Part,
        /// Where it was put.
        at: Gpa,
    },
    /// An area of the ring is not RAM.
    Area {
        /// Which.
        part: Part,
        /// The access.
        error: MemoryError,
    },
    /// More chains are said to be available than the ring has places.
    Index {
        /// How many.
        available: u16,
        /// Places.
        size: u16,
    },
    /// A chain begins or goes on at a descriptor that is not there.
    Descriptor {
        /// The descriptor.
        index: u16,
        /// Descriptors in the table.
        count: u16,
    },
    /// A chain is longer than the ring, which it is not without a loop.
    Loop {
        /// Places of the ring.
        size: u16,
    },
    /// A buffer of no bytes.
    Empty {
        /// Where.
        at: Gpa,
    },
    /// A buffer that is not wholly RAM.
    Buffer(MemoryError),
    /// A buffer for the device to read behind one for it to write.
    Order {
        /// Where.
        at: Gpa,
    },
    /// Buffers of 4 GiB and more.
    Long,
    /// An indirect descriptor although that was not negotiated.
    NotNegotiated,
    /// An indirect descriptor in an indirect table.
    Nested,
    /// An indirect descriptor that names a next one.
    IndirectNext,
    /// An indirect table that is empty, or no multiple of 16 bytes, or has more descriptors than the ring has places.
    Table {
        /// Bytes of it.
        len: u32,
        /// Places of the ring.
        size: u16,
    },
    /// A request that its device cannot even answer: what is wrong with its shape.
    Request(&'static str),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Size { size, most } => {
                write!(f, "a queue of size {size}, powers of two up to {most} can be")
            }
            Self::Place { part, at } => write!(f, "no {} can be at {at}", part.name()),
            Self::Area { part, error } => write!(f, "{}: {error}", part.name()),
            Self::Index { available, size } => write!(f, "{available} chains available on a ring of {size}"),
            Self::Descriptor { index, count } => write!(f, "descriptor {index} of {count}"),
            Self::Loop { size } => write!(f, "a chain of more than {size} descriptors, the size of its ring"),
            Self::Empty { at } => write!(f, "a buffer of 0 bytes at {at}"),
            Self::Buffer(error) => write!(f, "buffer: {error}"),
            Self::Order { at } => write!(f, "the buffer at {at} is to be read, behind one to be written"),
            Self::Long => f.write_str("a chain of 4 GiB or more"),
            Self::NotNegotiated => f.write_str("an indirect descriptor, which was not negotiated"),
            Self::Nested => f.write_str("an indirect descriptor in an indirect table"),
            Self::IndirectNext => f.write_str("an indirect descriptor with a next one"),
            Self::Table { len, size } => write!(f, "an indirect table of {len} bytes on a ring of {size}"),
            Self::Request(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for Broken {}
