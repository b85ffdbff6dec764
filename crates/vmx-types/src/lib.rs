//! VMX as data: VMCS fields, controls, exit reasons and qualifications, decoded once into an enum.
//!
//! Section numbers are those of the Intel SDM volume 3C, order number 326019, revision 081.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod apic;
pub mod capability;
mod check;
pub mod control;
pub mod controls;
pub mod event;
pub mod exit;
pub mod field;
pub mod flow;
pub mod paging;
pub mod qualification;
pub mod reason;
pub mod rules;
pub mod slice;
mod start;
pub mod state;
pub mod task;
pub mod vmcs;

pub use event::{Event, EventKind, PackedEvent};
pub use exit::{Exit, ExitFields};
pub use field::{Field, Natural, ReadOnly, Width};
pub use reason::ExitReason;
pub use state::VcpuState;
