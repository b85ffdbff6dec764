//! The live-migration protocol: records, source and target state machines, free of I/O.
//!
//! The wire format is specified in `docs/migration-protocol.md`. The crate owns no clock, no socket and no
//! VM: the caller polls a [`Source`] or a [`Target`] with the time in ticks, a [`Link`] (a byte stream) and
//! its VM behind [`SourceVm`] or [`TargetVm`]. One poll does a bounded amount of work.
//!
//! | module | holds |
//! |---|---|
//! | `accept` | whether a VM that comes may: name, uuid, memory |
//! | `arrival` | when bytes came that a poll finds |
//! | `limits` | every constant that a number from the wire is checked against |
//! | `wire` | stream header, record header, record types, seal |
//! | `body` | the bodies of the control records |
//! | `origin` | what a VM was made from, and the files of it that go along |
//! | `page`, `memory` | page scan, runs of pages, encoder and decoder |
//! | `inbox`, `outbox`, `link` | records out of and into a byte stream |
//! | `holding` | what was sent against what is held |
//! | `handover` | who owns the VM: the two small machines that decide it |
//! | `ownership` | what a VM is on a host, who may enter its vCPUs, what an operator may do with it |
//! | `convergence` | when the guest is stopped, slowed down or left where it is |
//! | `writers` | whose share of the CPU is cut: who writes |
//! | `source`, `target` | the two ends: `event` what they tell, `phase` how far they are, `records` what the other says, `fate` what becomes of the VM; memory in `source::rounds` and `target::fill`, files in the `files` of both |
//! | `ending` | how either closes |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod accept;
mod arrival;
pub mod body;
mod convergence;
mod ending;
mod goal;
pub mod handover;
mod holding;
mod inbox;
pub mod limits;
mod link;
pub mod memory;
pub mod origin;
mod outbox;
pub mod ownership;
mod page;
mod reason;
mod source;
mod stats;
mod target;
mod tuning;
mod vm;
pub mod wire;
mod writers;

pub use accept::{Here, Room};
pub use arrival::Arrival;
pub use body::{Hello, Id, PageRange, Purpose, Shape};
pub use goal::{Goal, Rate, Stall};
pub use link::Link;
pub use memory::{Chosen, Measured};
pub use origin::{Origin, OriginFile};
pub use page::{PAGE_BYTES, PageKind, scan, scan_shared};
pub use reason::Reason;
pub use source::{Note, Progress, Slowed, Source, SourceEvent, SourceOutcome, SourceParams, Status};
pub use stats::{Cost, Mebibytes, RoundStats, StopCause, Summary, Totals};
pub use target::{Target, TargetEvent, TargetOutcome, TargetParams};
pub use tuning::Tuning;
pub use vm::{Offer, SourceVm, TargetMemory, TargetVm};
pub use vm_types::{Compression, OnTimeout};
pub use wire::WireError;
pub use writers::Shares;
