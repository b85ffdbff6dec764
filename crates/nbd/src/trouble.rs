//! Why a connection is of no use.

use alloc::string::String;

use crate::wire::{ErrorCode, MAX_OPTION_DATA};

/// Why a connection came to nothing or to an end. The client tries again after each of them.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// There was none, as the caller says.
    #[error("no connection: {0}")]
    Connect(String),
    /// The server, or what lies between, has ended it.
    #[error("the connection was closed {0}")]
    Closed(During),
    /// The server says nothing; a qemu-nbd that serves somebody else does that.
    #[error("no answer for {} s {during}", .us / 1_000_000)]
    Silent {
        /// For how long, in microseconds.
        us: u64,
        /// What was waited for.
        during: During,
    },
    /// No server of NBD.
    #[error("the greeting begins with {0:#018x}, which is not NBDMAGIC")]
    Greeting(u64),
    /// A server of before 2011.
    #[error("the server speaks the oldstyle handshake, which has no NBD_OPT_GO")]
    OldStyle,
    /// Neither style.
    #[error("the handshake is of style {0:#018x}, which is not IHAVEOPT")]
    Style(u64),
    /// Newstyle without options.
    #[error("handshake flags {0:#x}: the server does not speak fixed newstyle, and has no NBD_OPT_GO")]
    NotFixed(u16),
    /// The server has no NBD_OPT_GO.
    #[error("the server does not know NBD_OPT_GO (NBD_REP_ERR_UNSUP)")]
    NoGo,
    /// An option reply that begins with something else.
    #[error("an option reply begins with {0:#018x}, which is not its magic number")]
    OptionMagic(u64),
    /// A reply to what was not asked.
    #[error("a reply to option {0}, where NBD_OPT_GO (7) was sent")]
    OtherOption(u32),
    /// A reply of a type that has no place there.
    #[error("NBD_OPT_GO is answered with reply type {0}")]
    OptionType(u32),
    /// A reply longer than any that the protocol has.
    #[error("NBD_OPT_GO is answered with {0} bytes, at most {most} are taken", most = MAX_OPTION_DATA)]
    OptionLength(u32),
    /// A reply before the question.
    #[error("NBD_OPT_GO is answered before it was sent whole")]
    OptionEarly,
    /// Replies without an end.
    #[error("NBD_OPT_GO is answered more than {0} times without an end")]
    OptionCount(u32),
    /// The server will not serve the export.
    #[error("the server refuses the export: {}{}", Refusal(*.code), Said(.text))]
    Refused {
        /// The reply type without bit 31.
        code: u32,
        /// Its words, shortened.
        text: String,
    },
    /// Information of a length that it cannot have.
    #[error("{name} has {len} bytes")]
    InfoLength {
        /// Which one.
        name: &'static str,
        /// Bytes.
        len: usize,
    },
    /// The same information again, and differently.
    #[error("{0} is said twice, and differently")]
    InfoTwice(&'static str),
    /// The export is served without a word about it.
    #[error("NBD_OPT_GO is acknowledged without NBD_INFO_EXPORT")]
    NoInfo,
    /// Transmission flags without NBD_FLAG_HAS_FLAGS.
    #[error("transmission flags {0:#x} are without NBD_FLAG_HAS_FLAGS")]
    Flags(u16),
    /// Nothing, or more than a file can have.
    #[error("the export has {0} bytes")]
    Size(u64),
    /// A part of a block at the end.
    #[error("the export has {size} bytes, which is no multiple of its block of {block}")]
    SizeOfBlocks {
        /// Bytes of the export.
        size: u64,
        /// Bytes of a block.
        block: u32,
    },
    /// Block sizes that the protocol does not have.
    #[error("block sizes {min}, {preferred}, {max} (least, preferred, most) cannot be")]
    Blocks {
        /// Least.
        min: u32,
        /// Preferred.
        preferred: u32,
        /// Most bytes of a request.
        max: u32,
    },
    /// A disk that is to be written.
    #[error("the export is read-only, and the disk is not (add ',ro')")]
    ReadOnly,
    /// It is not the disk that it was.
    #[error("{what} was {was:#x} and is {is:#x} now: this is not the disk that it was")]
    Changed {
        /// Size, flags or block.
        what: &'static str,
        /// Before.
        was: u64,
        /// Now.
        is: u64,
    },
    /// A reply that begins with something else.
    #[error("a reply begins with {0:#010x}, which is not its magic number")]
    ReplyMagic(u32),
    /// A reply to no request.
    #[error("a reply to request {0:#x}, which was not sent")]
    UnknownCookie(u64),
    /// Two replies.
    #[error("a second reply to request {0:#x}")]
    AnsweredTwice(u64),
    /// A reply to what the server cannot have read.
    #[error("a reply to request {0:#x} before it was sent whole")]
    AnsweredEarly(u64),
    /// ESHUTDOWN.
    #[error("the server is about to end (ESHUTDOWN)")]
    Shutdown,
    /// A write that was answered before is refused when it is sent again.
    #[error("a write of {len} bytes at {offset:#x}, answered before, is refused now: {code}")]
    RefusedAgain {
        /// Where.
        offset: u64,
        /// Bytes.
        len: u32,
        /// Why.
        code: ErrorCode,
    },
    /// A flush that the client needs fails.
    #[error("the server cannot flush: {0}")]
    Flush(ErrorCode),
}

/// What a connection was at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum During {
    /// It was being opened.
    Connect,
    /// Nothing of the server's greeting, or not all, was there.
    Greeting,
    /// The export was asked for.
    Go,
    /// That many requests were without an answer.
    Requests(usize),
}

impl core::fmt::Display for During {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Connect => f.write_str("while it was opened"),
            Self::Greeting => f.write_str("before the server's greeting"),
            Self::Go => f.write_str("while the export was asked for"),
            Self::Requests(0) => f.write_str("while nothing was asked"),
            Self::Requests(1) => f.write_str("with 1 request open"),
            Self::Requests(count) => write!(f, "with {count} requests open"),
        }
    }
}

struct Refusal(u32);

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self.0 {
            2 => "NBD_REP_ERR_POLICY",
            3 => "NBD_REP_ERR_INVALID",
            4 => "NBD_REP_ERR_PLATFORM",
            5 => "NBD_REP_ERR_TLS_REQD (this client has no TLS)",
            6 => "NBD_REP_ERR_UNKNOWN (there is no such export)",
            7 => "NBD_REP_ERR_SHUTDOWN",
            8 => "NBD_REP_ERR_BLOCK_SIZE_REQD",
            9 => "NBD_REP_ERR_TOO_BIG",
            code => return write!(f, "error {code}"),
        })
    }
}

struct Said<'a>(&'a str);

impl core::fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// Words of a server, short and on one line.
pub(crate) fn said(bytes: &[u8]) -> String {
    const SHOWN: usize = 100;
    let text = String::from_utf8_lossy(bytes.get(..SHOWN).unwrap_or(bytes));
    text.trim().chars().flat_map(char::escape_debug).collect()
}
