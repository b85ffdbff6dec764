//! A client of the Network Block Device protocol (NBD proto.md), without I/O of its own: bytes in, bytes out, microseconds as
//! an argument.
//!
//! A [`Client`] keeps one disk. It says when it wants a connection ([`Client::poll`]), negotiates the export (fixed newstyle,
//! `NBD_OPT_GO` with block sizes), and carries requests, several at a time. When the server is gone the requests wait, and are
//! sent again to whatever answers at its address, if that has the same size and flags.
//!
//! **Durability.** A server may answer a write and lose it when it dies. So a write that was answered, and is not durable, is
//! kept, and sent again behind each new handshake, in order, before anything newer that overlaps it. A write is durable once a
//! FLUSH is answered that was sent on the same connection behind the write's answer, or once its own answer comes and it was
//! sent with FUA (one that overlaps what is kept waits for a flush, too). What is kept is bounded ([`Limits`]); near the bound the client flushes by itself. Where a server has FLUSH and
//! no FUA, a FLUSH behind it does the same. A server without FLUSH promises nothing, and nothing is kept for it.
//!
//! **Order.** Requests that overlap, one of them a change, are on the wire one after the other, as they were submitted.
//!
//! **What NBD cannot do.** A session has no identity, and no connection can end another. A server that is cut off with requests
//! in its hands may carry them out after the same requests, and newer ones, came by a new connection. Servers that let one
//! client in at a time (qemu-nbd without `-e`, nbdkit with `--filter=limit`) are safe from that. For that reason a server that is
//! only slow is not left while requests may wait: whether the other end is still there is TCP's to say (keep-alive).
//!
//! Structured replies are not asked for: they bring holes and partial errors, of which a disk makes no use, and a header
//! more for each read.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod client;
mod export;
mod handshake;
mod request;
mod transmission;
mod trouble;
mod url;
mod wire;

pub use client::{
    Action, Answer, Client, Failure, HANDSHAKE_US, LEAVE_US, Limits, MOST_BACKOFF_US, REPORT_AFTER_US,
    RETRY_US, Refused, SLOW_US, Standing, State,
};
pub use export::{Blocks, Export, MAX_PAYLOAD, SECTOR};
pub use request::{Command, Tag};
pub use trouble::{During, Trouble};
pub use url::{Disk, MAX_SERIAL, MAX_URL, OnError, PORT, UrlError};
pub use wire::{ErrorCode, MAX_OPTION_DATA};
