//! Ethernet for the host and, later, its guests: NIC driver, learning switch and the host's TCP/IP.
//!
//! ```text
//! card <-> intel (Nic) <-> Switch port "uplink"      Switch port "host" <-> Stack (smoltcp)
//! ```
//!
//! Everything is polled and does no I/O of its own: the card is reached through [`intel::Registers`] and
//! [`intel::Dma`], time comes in as microseconds, randomness as one `u64`. [`Host`] joins the parts.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod host;
pub mod intel;
mod mac;
mod nic;
mod queue;
mod stack;
mod switch;

pub use host::{Host, HostError};
pub use mac::MacAddr;
pub use nic::{Link, Nic, TxError};
pub use queue::{FrameQueue, MAX_FRAME, MIN_FRAME};
pub use stack::{
    Address, AddressConfig, AddressEvent, Connection, ConnectionState, Listener, MAX_DATAGRAM, MAX_SOCKETS,
    NetError, PingStatus, Search, Stack, TcpTiming, WINDOW,
};
pub use switch::{MAX_PORTS, PortCounters, PortId, Switch, SwitchError, SwitchPort};
