//! Newtypes and traits shared by every crate: guest-physical addresses, guest memory, guest time, state records.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod apic_page;
pub mod apic_register;
mod backlog;
mod compression;
mod dirty;
mod memory;
pub mod nospec;
mod on_reset;
mod on_timeout;
mod posted;
mod record;
mod restarts;
mod strict;
mod time;
mod topology;

pub use apic_page::ApicPage;
pub use backlog::{Adding, Backlog};
pub use compression::Compression;
pub use dirty::{PageSet, PageSetGrowing, Words};
pub use memory::{Gpa, GuestMemory, Hpa, MemRange, MemoryError, PAGE_SIZE};
pub use on_reset::OnReset;
pub use on_timeout::OnTimeout;
pub use posted::{PostedInterrupts, PostedTable};
pub use record::{StateError, StateRecord};
pub use restarts::Restarts;
pub use strict::decode_strict;
pub use time::{Megahertz, Now};
pub use topology::{Topology, TopologyError};

/// The most vCPUs that the board and the CPU policy of a VM can describe. How many this version runs is `cmdline`'s to say.
pub const MAX_VCPUS: u32 = 64;
