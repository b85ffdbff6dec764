//! What a guest's virtio devices have in common, free of I/O: split rings (virtio 1.2, 2.7).
//!
//! The driver is not trusted. Whatever it puts on a ring ends in a [`Broken`]. One look at a ring does a bounded amount of work
//! ([`Ring`]).
//!
//! References are to the specification, version 1.2, by section.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod broken;
mod bytes;
mod chain;
mod queue;
mod ring;

pub use broken::{Broken, Part};
pub use chain::{Buffer, Chain};
pub use queue::{Queue, QueueState};
pub use ring::{Ended, Ring, Rules};
