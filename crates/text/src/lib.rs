//! Text for a terminal: tables, lines no wider than its row, sizes and times.
//!
//! Nothing here does I/O: text goes out through [`core::fmt::Write`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod fold;
mod format;
mod time;

pub use fold::{COLUMNS, Folded, columns};
pub use format::{Align, Hex, Size, Table};
pub use time::{Millis, Span, Stamp, Utc, UtcMicros};
