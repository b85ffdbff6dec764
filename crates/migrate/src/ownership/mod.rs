//! What a VM is on this host, who may enter its vCPUs, and what an operator may do with it.
//!
//! Ownership is one [`State`]. The scheduler asks it before it runs a vCPU ([`Gate`]), each way from one state to another is
//! a row of [`State::step`], and each console command is judged against it and the [`Phase`] of a migration by [`judge`].
//! [`crate::handover`] decides when a migration takes those of the ways that are its own.
//!
//! Before there was one state, a stopped vCPU was a flag of its own. Two console commands cleared it between the export
//! of the guest's state and READY, and the guest ran on both hosts.

mod command;
mod gate;
mod judge;
mod state;

pub use command::{Command, Phase};
pub use gate::{Entering, Entry, Gate, StateCell};
pub use judge::{Code, Refusal, Ruling, judge, ruling, table};
pub use state::{Change, Misfit, State};
