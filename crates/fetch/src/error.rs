//! Why a file did not come.

use alloc::boxed::Box;
use alloc::string::String;

use crate::url::{Url, UrlError};

/// A file that did not come: which one, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{url}: {why}")]
pub struct FetchError {
    /// The file.
    pub url: Url,
    /// What happened.
    pub why: Why,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// Nothing came for that many microseconds.
    #[error("the server has been silent for {} s, {received} bytes came", .us / 1_000_000)]
    Silent {
        /// For how long, in microseconds.
        us: u64,
        /// Bytes of the file that came before.
        received: u64,
    },
    /// Less came than [`crate::LEAST_RATE`].
    #[error("the server is too slow: {received} bytes in {} s", .us / 1_000_000)]
    Slow {
        /// Since the request, in microseconds.
        us: u64,
        /// Bytes of the file that came.
        received: u64,
    },
    /// The connection ended before the file.
    #[error("truncated: the server ended after {received} of {}", Total(*.total))]
    Truncated {
        /// Bytes of the file that came.
        received: u64,
        /// What the server announced.
        total: Option<u64>,
    },
    /// More came than was announced.
    #[error("{received} bytes came where the server announced {total}")]
    TooLong {
        /// Bytes that came.
        received: u64,
        /// What the server announced.
        total: u64,
    },
    /// An HTTP status other than 200.
    #[error("the server answers {code} {reason}")]
    Status {
        /// The status code.
        code: u16,
        /// Its words, shortened.
        reason: String,
    },
    /// The server sends the client elsewhere too often or to another scheme.
    #[error("redirected to '{to}', which is not followed: {why}")]
    Redirect {
        /// The `Location`, shortened.
        to: String,
        /// Why not.
        why: RedirectError,
    },
    /// What came is no HTTP/1.x response.
    #[error("no HTTP response: {0}")]
    Http(&'static str),
    /// A header field that cannot be used, with its value.
    #[error("header field {name} is '{value}', which this client does not take")]
    Field {
        /// The field.
        name: &'static str,
        /// Its value, shortened.
        value: String,
    },
    /// The header is too large.
    #[error("the header has more than {0} bytes")]
    HeadTooLarge(usize),
    /// The server's ERROR packet (RFC 1350, 5).
    #[error("the server answers error {code}: {text}")]
    Tftp {
        /// The error code.
        code: u16,
        /// Its words, shortened.
        text: String,
    },
    /// A datagram that is no TFTP packet of this transfer.
    #[error("no TFTP packet: {0}")]
    Packet(&'static str),
    /// An option that was acknowledged with a value that was not asked for.
    #[error("option {name} is acknowledged as '{value}'")]
    Option {
        /// The option.
        name: String,
        /// Its value, shortened.
        value: String,
    },
    /// The file has another digest than it must.
    #[error("SHA-256 is {}, and must be {}", Hex(.0[0]), Hex(.0[1]))]
    Digest(Box<[[u8; 32]; 2]>),
    /// The sink does not take it.
    #[error("{0}")]
    Sink(String),
}

/// Why a redirection is not followed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RedirectError {
    /// It is no URL of ours.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// It is another scheme.
    #[error("another scheme")]
    Scheme,
    /// One too many.
    #[error("the last of {0} in a row")]
    TooMany(u8),
}

struct Hex([u8; 32]);

impl core::fmt::Display for Hex {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

struct Total(Option<u64>);

impl core::fmt::Display for Total {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(total) => write!(f, "{total} bytes"),
            None => f.write_str("an unknown number of bytes"),
        }
    }
}
