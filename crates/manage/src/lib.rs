//! Console commands from a workstation over the keyed link: version 1 of the protocol that `docs/management.md`
//! specifies. [`Server`] is the host's end, [`Client`] the workstation's; the caller moves bytes and tells the time in
//! microseconds.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod client;
mod server;
mod wire;

pub use client::{Client, Said};
pub use server::{Asked, Server};
pub use wire::{MAX_BODY, WireError};

/// The version of the protocol.
pub const VERSION: u8 = 1;
/// Longest command line in bytes.
pub const MAX_LINE: usize = MAX_BODY;
/// An end that says nothing for this long is given up, in microseconds.
pub const PATIENCE_US: u64 = 30_000_000;
/// How often an end says that it is there, in microseconds.
pub const ALIVE_US: u64 = 5_000_000;
/// Most bytes that wait for the other end to read them.
pub const MAX_QUEUED: usize = 1 << 20;
