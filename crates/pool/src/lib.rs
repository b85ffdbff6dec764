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
mod event;
mod family;
mod host_id;
mod link;
mod machine;
mod member;
mod own;
mod peer;
mod preview;
mod set;
mod show;
mod tsc;
mod view;
mod watch;

pub use body::{Beat, Hello, Record, VmEntry, is_name};
pub use error::{RecordError, Refusal, WireError};
pub use event::{Change, Event};
pub use host_id::HostId;
pub use limits::Timing;
pub use link::Link;
pub use machine::{Dial, Pool, Presence};
pub use member::{Member, RunningVm};
pub use own::{Own, Status};
pub use peer::LinkId;
pub use preview::{Newcomer, Preview};
pub use tsc::{TOLERANCE_PPM, Tsc, TscMeans};
pub use view::{LevelView, VmView, Way, can_take};
pub use watch::{Seen, Watch};
