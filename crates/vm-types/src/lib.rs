//! Newtypes and traits shared by every crate: guest-physical addresses, guest memory, guest time, state records.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod compression;
mod dirty;
mod harvest;
mod memory;
mod on_timeout;
mod record;
mod time;

pub use compression::Compression;
pub use dirty::PageSet;
pub use harvest::{WriteTracker, harvest};
pub use memory::{Gpa, GuestMemory, MemRange, MemoryError, PAGE_SIZE};
pub use on_timeout::OnTimeout;
pub use record::{StateError, StateRecord};
pub use time::Now;
