//! The bodies of the messages: CBOR maps with numbered fields, so that a later version can add some.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::error::{RecordError, Refusal, WireError};
use crate::limits::{MAX_NAME, MAX_SOFTWARE, MAX_TEXT};
use crate::wire::Kind;

/// HELLO.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// The sender's pool; none where it is in none yet.
    #[n(0)]
    pub pool: Option<String>,
    /// The sender's name.
    #[n(1)]
    pub name: String,
    /// Its machine.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub id: [u8; 16],
    /// Drawn when it started.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub boot: [u8; 16],
    /// It wants to know the others, and is no member nor will be by this link.
    #[n(4)]
    pub asks: bool,
    /// Its software.
    #[n(5)]
    pub software: String,
}

/// BEAT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Beat {
    /// Of the pool's level as the sender computes it.
    #[n(0)]
    pub fingerprint: u64,
    /// Of all records that the sender has.
    #[n(1)]
    pub digest: u64,
    /// Members that it counts, itself and lost ones included.
    #[n(2)]
    pub members: u32,
}

/// REFUSE.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Refuse {
    /// Why, for people.
    #[n(0)]
    pub(crate) why: String,
}

/// A running VM.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct VmEntry {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Index of its policy.
    #[n(1)]
    pub policy: u32,
}

/// RECORD: what a host says of itself. Others pass it on as it is.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Record {
    /// Its machine.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub id: [u8; 16],
    /// Grows with every change. Of two records of a host the greater holds.
    #[n(1)]
    pub version: u64,
    /// 0: a member; 1: left; 2: forgotten by an operator. The others are then empty but for the name.
    #[n(2)]
    pub state: u8,
    /// Its name.
    #[n(3)]
    pub name: String,
    /// Drawn when it started.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub boot: [u8; 16],
    /// IPv4 address; 0.0.0.0 where it has none.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub ip: [u8; 4],
    /// TCP port of its links.
    #[n(6)]
    pub port: u16,
    /// Its software.
    #[n(7)]
    pub software: String,
    /// `HostPolicy`.
    #[n(8)]
    pub policy: ByteVec,
    /// Rate of its TSC.
    #[n(9)]
    pub tsc_hz: u64,
    /// It can show guests another rate.
    #[n(10)]
    pub scaling: bool,
    /// Memory in MiB.
    #[n(11)]
    pub memory_mib: u64,
    /// Memory that no VM has, in MiB.
    #[n(12)]
    pub free_mib: u64,
    /// It takes VMs that come.
    #[n(13)]
    pub accepts: bool,
    /// `GuestPolicy` of the VMs, each once.
    #[n(14)]
    pub policies: Vec<ByteVec>,
    /// VMs that run on it.
    #[n(15)]
    pub vms: Vec<VmEntry>,
    /// How many more run on it.
    #[n(16)]
    pub more: u32,
    /// The uuids of all VMs that it has, in whatever state, 16 bytes each; absent from a host of before.
    #[n(17)]
    pub uuids: Option<ByteVec>,
}

/// Encodes a body.
pub(crate) fn encode<T: Encode<()>>(body: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written: Result<(), minicbor::encode::Error<core::convert::Infallible>> =
        minicbor::encode(body, &mut bytes);
    debug_assert!(written.is_ok(), "a Vec takes everything");
    bytes
}

/// Decodes a whole body, or says where it ceases to be one.
pub(crate) fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, usize> {
    let mut decoder = minicbor::Decoder::new(bytes);
    match decoder.decode() {
        Ok(body) if decoder.position() == bytes.len() => Ok(body),
        _ => Err(decoder.position()),
    }
}

impl Hello {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let hello: Self = decode(bytes).map_err(|at| WireError::Body { kind: Kind::Hello.name(), at })?;
        let bad = |why| Refusal::Record { name: "?".to_string(), why };
        check_name("host", &hello.name).map_err(bad)?;
        if let Some(pool) = &hello.pool {
            check_name("pool", pool).map_err(bad)?;
        }
        check_software(&hello.software).map_err(bad)?;
        Ok(hello)
    }
}

impl Beat {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        Ok(decode(bytes).map_err(|at| WireError::Body { kind: Kind::Beat.name(), at })?)
    }
}

impl Refuse {
    /// The reason, fit for a log.
    pub(crate) fn read(bytes: &[u8]) -> Result<String, Refusal> {
        let refuse: Self = decode(bytes).map_err(|at| WireError::Body { kind: Kind::Refuse.name(), at })?;
        Ok(printable(&refuse.why))
    }
}

/// At most [`MAX_TEXT`] bytes, on one line.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        out.push(if c.is_control() { '?' } else { c });
    }
    out
}

pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), RecordError> {
    if is_name(name) { Ok(()) } else { Err(RecordError::Name { what, name: printable(name) }) }
}

/// `[a-z0-9-]{1,31}`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fits)
}

pub(crate) fn check_software(text: &str) -> Result<(), RecordError> {
    let fits = text.len() <= MAX_SOFTWARE && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if fits {
        Ok(())
    } else {
        Err(RecordError::Range { what: "software version, bytes", value: text.len() as u64 })
    }
}
