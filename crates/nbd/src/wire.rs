//! Numbers of the protocol (NBD proto.md), and the codes of errors.

use core::fmt;

pub(crate) const NBD_MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
pub(crate) const I_HAVE_OPT: u64 = u64::from_be_bytes(*b"IHAVEOPT");
/// What servers of before 2011 say in its place.
pub(crate) const OLD_STYLE: u64 = 0x4202_8186_1253;
pub(crate) const OPTION_REPLY: u64 = 0x3_e889_0455_65a9;
pub(crate) const REQUEST: u32 = 0x2560_9513;
pub(crate) const REPLY: u32 = 0x6744_6698;

pub(crate) const FIXED_NEWSTYLE: u16 = 1;
pub(crate) const NO_ZEROES: u16 = 2;

pub(crate) const OPT_GO: u32 = 7;
pub(crate) const REP_ACK: u32 = 1;
pub(crate) const REP_INFO: u32 = 3;
pub(crate) const REP_ERROR: u32 = 1 << 31;
pub(crate) const REP_UNSUPPORTED: u32 = REP_ERROR + 1;

pub(crate) const INFO_EXPORT: u16 = 0;
pub(crate) const INFO_BLOCK_SIZE: u16 = 3;

pub(crate) const CMD_READ: u16 = 0;
pub(crate) const CMD_WRITE: u16 = 1;
pub(crate) const CMD_DISC: u16 = 2;
pub(crate) const CMD_FLUSH: u16 = 3;
pub(crate) const CMD_TRIM: u16 = 4;
pub(crate) const CMD_WRITE_ZEROES: u16 = 6;

pub(crate) const CMD_FUA: u16 = 1;
pub(crate) const CMD_NO_HOLE: u16 = 2;

/// Most bytes of one option reply that are taken; names and texts have at most 4096.
pub const MAX_OPTION_DATA: u32 = 8192;
/// Bytes of a request's header.
pub(crate) const REQUEST_LEN: usize = 28;
/// Bytes of a simple reply's header.
pub(crate) const REPLY_LEN: usize = 16;

pub(crate) fn request(flags: u16, kind: u16, cookie: u64, offset: u64, len: u32) -> [u8; REQUEST_LEN] {
    let mut bytes = [0; REQUEST_LEN];
    bytes[..4].copy_from_slice(&REQUEST.to_be_bytes());
    bytes[4..6].copy_from_slice(&flags.to_be_bytes());
    bytes[6..8].copy_from_slice(&kind.to_be_bytes());
    bytes[8..16].copy_from_slice(&cookie.to_be_bytes());
    bytes[16..24].copy_from_slice(&offset.to_be_bytes());
    bytes[24..].copy_from_slice(&len.to_be_bytes());
    bytes
}

/// What a server answers a request with that it cannot serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorCode {
    /// EPERM: the export is read-only.
    Perm,
    /// EIO.
    Io,
    /// ENOMEM.
    NoMem,
    /// EINVAL, and every code that the protocol does not know.
    Inval,
    /// ENOSPC.
    NoSpc,
    /// EOVERFLOW: longer than the server takes.
    Overflow,
    /// ENOTSUP.
    NotSup,
    /// ESHUTDOWN: the server is about to end.
    Shutdown,
}

impl ErrorCode {
    /// None for 0, which is success.
    pub(crate) fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => return None,
            1 => Self::Perm,
            5 => Self::Io,
            12 => Self::NoMem,
            28 => Self::NoSpc,
            75 => Self::Overflow,
            95 => Self::NotSup,
            108 => Self::Shutdown,
            _ => Self::Inval,
        })
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Perm => "EPERM",
            Self::Io => "EIO",
            Self::NoMem => "ENOMEM",
            Self::Inval => "EINVAL",
            Self::NoSpc => "ENOSPC",
            Self::Overflow => "EOVERFLOW",
            Self::NotSup => "ENOTSUP",
            Self::Shutdown => "ESHUTDOWN",
        })
    }
}

/// The beginning of bytes as a number; `at + N` bytes are there.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    number(bytes, at, 2) as u16
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    number(bytes, at, 4) as u32
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    number(bytes, at, 8)
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes.iter().skip(at).take(len).fold(0, |number, &byte| number << 8 | u64::from(byte))
}
