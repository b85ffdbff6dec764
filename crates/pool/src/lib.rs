//! How hosts form a pool by themselves.
//!
//! Each host tells the others its CPU's policy, its clock and its limits in a [`Record`]. All of them pass on what
//! they know, and each computes the same level from the same records: no vote, no leader. The crate owns no socket and
//! no clock: the caller polls a [`Pool`] with the time in microseconds, dials what it asks for, and lends it each
//! connection as a [`Link`]. Wire format and rules are in `docs/pool.md`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod limits;
pub mod wire;

mod body;
mod error;
mod link;
mod member;
mod set;
mod tsc;

pub use body::{Beat, Hello, Record, VmEntry, is_name};
pub use error::{RecordError, Refusal, WireError};
pub use limits::Timing;
pub use link::Link;
pub use member::{HostId, Member};
pub use tsc::{TOLERANCE_PPM, Tsc, TscMeans};
