//! Files over HTTP/1.1 (RFC 9110, RFC 9112) and TFTP (RFC 1350, 2347 to 2349), without I/O of its own.
//!
//! The caller moves bytes or datagrams and tells the time in microseconds; the file goes to a [`Sink`] piece by
//! piece. Addresses are IPv4 numbers: there is no DNS.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod digest;
mod error;
mod http;
mod shown;
mod tftp;
mod url;

pub use digest::Digested;
pub use error::{FetchError, Why};
pub use http::{HttpGet, MAX_HEAD};
pub use tftp::{Reply, TftpGet};
pub use url::{MAX_URL, Scheme, Url, UrlError};

use alloc::string::String;

/// A server that says nothing for this long is given up, in microseconds.
pub const PATIENCE_US: u64 = 20_000_000;

/// After this time a server must have sent [`LEAST_RATE`] bytes a second, in microseconds.
pub const GRACE_US: u64 = 60_000_000;
/// A slower one is given up: it could hold memory, and the operator, for as long as it likes.
pub const LEAST_RATE: u64 = 1024;

/// Whether so few bytes in so many microseconds are too few.
const fn is_slow(received: u64, us: u64) -> bool {
    received < us.saturating_sub(GRACE_US) / 1_000_000 * LEAST_RATE
}

/// Where the file goes.
pub trait Sink {
    /// The server says how many bytes the file has, before the first of them. It is no more than its word: memory that is
    /// set aside for it must cost nothing.
    ///
    /// # Errors
    /// Why it cannot be taken, in words.
    fn size(&mut self, bytes: u64) -> Result<(), String>;

    /// The next bytes of the file.
    ///
    /// # Errors
    /// Why they cannot be taken, in words.
    fn write(&mut self, bytes: &[u8]) -> Result<(), String>;
}

/// How far it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Status {
    /// The server has not sent everything.
    More,
    /// The file is whole.
    Done,
    /// It lies there instead: fetch that.
    Moved(Url),
}
