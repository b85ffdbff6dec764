//! The host's TCP/IP on one port of a switch.
//!
//! ```text
//! card (Nic) <-> Switch port "uplink"      Switch port "host" <-> Stack (smoltcp)
//! ```
//!
//! Everything is polled and does no I/O of its own: time comes in as microseconds, randomness as one `u64`. A [`Station`] is
//! a stack on a port of a switch that stands without it; [`Host`] joins card, switch and station.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod host;
mod stack;

pub use host::{Host, HostError, Station};
pub use stack::{
    Address, AddressConfig, AddressEvent, Connection, ConnectionState, Listener, MAX_DATAGRAM, MAX_SOCKETS,
    NetError, PingStatus, Search, Stack, TcpTiming, WINDOW,
};
