//! An Ethernet switch in memory: frames, addresses, ports with bounded queues, and what a network card is to it.
//!
//! A port belongs to whoever puts frames in and takes them out: a card's driver, a host's TCP/IP, a guest. None of them is
//! needed for it to exist. Everything is polled and does no I/O of its own; time comes in as microseconds.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod mac;
mod nic;
mod port;
mod queue;
mod switch;
mod table;
#[cfg(test)]
mod tests;
mod uplink;

pub use mac::MacAddr;
pub use nic::{Link, Nic, TxError};
pub use port::{MAX_PORTS, PortCounters, PortId};
pub use queue::{FrameQueue, MAX_FRAME, MIN_FRAME};
pub use switch::{Switch, SwitchError};
pub use uplink::{SwitchPort, Uplink};
