//! A guest's virtio devices, free of I/O: split rings (virtio 1.2, 2.7), the registers of the modern interface (4.1.4.3) and the
//! devices behind them. A transport hands [`Virtio`] the accesses, and the guest's memory in [`Virtio::service`].
//!
//! The driver is not trusted. Whatever it puts on a ring ends in a [`Broken`]: the device then wants to be reset, by
//! DEVICE_NEEDS_RESET, and does nothing until it is. One look at a ring does a bounded amount of work ([`Ring`]).
//!
//! References are to the specification, version 1.2, by section.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod blk;
mod broken;
mod bytes;
mod chain;
mod device;
mod queue;
mod registers;
mod ring;
mod rng;
mod state;

pub use blk::{Blk, Disk, Order, Outcome, What};
pub use broken::{Broken, Part};
pub use chain::{Buffer, Chain};
pub use device::{CONFIG_MOST, Device, Host};
pub use queue::{Queue, QueueState};
pub use registers::{COMMON, Virtio};
pub use ring::{Ended, Ring, Rules};
pub use rng::Rng;
