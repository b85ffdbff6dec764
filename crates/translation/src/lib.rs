//! From a guest's addresses to the host's: extended page tables (SDM 28.3), and the order in which tables change and CPUs
//! drop what they cached of them.
//!
//! A CPU may keep what it once read of a table for as long as no instruction makes it drop that (SDM 28.4), and use it
//! at any time: reading memory that is another VM's by now, or writing a page without anybody noticing. So the order
//! is all: whoever changes tables goes through [`poll`], or, page by page, through [`CodePages`]; whoever puts a vCPU on a CPU
//! goes through [`load`]; and the tests run all of them over a model of the caches that keeps everything it may.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod backing;
mod code;
mod cpus;
mod ept;
mod frames;
mod order;
mod request;
mod translation;
mod unmapped;
mod view;
mod vpid;
mod words;

pub use backing::Backing;
pub use code::{Answer, Audited, CodePages, Point};
pub use cpus::{Caches, CpuSet, Tags, load};
pub use ept::{Ept, EptView, Features};
pub use frames::{Frames, Table};
pub use order::{Tracked, finish, poll};
pub use request::{FlushRequests, Wanted};
pub use translation::{AnyView, Translation};
pub use unmapped::Unmapped;
pub use view::{Cause, GuestPaging, HwPaging, Invalid, Shadowed, View};
pub use vpid::Vpids;
pub use words::{
    Admitted, Asked, Change, DirtyMethod, Eptp, Fault, Kept, OutOfMemory, Permission, STEP, Step,
};
