//! The ledger as bytes, and what else a migration takes along for the operator's eyes: CBOR with numbered fields.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Ledger, LedgerRow, Means};

const VERSION: u16 = 1;
/// Most rows of a ledger.
pub const MAX_LEDGER_ROWS: usize = 1024;
/// Most bytes of a ledger.
pub const MAX_LEDGER_ENCODED: usize = 32 * 1024;
/// Most bytes of what the audit has seen.
pub const MAX_SEEN: usize = 16 * 1024;
/// Most bytes of a companion.
pub const MAX_COMPANION: usize = MAX_LEDGER_ENCODED + MAX_SEEN + 64;
const MAX_NAME: usize = 48;
const MAX_REMAINS: usize = 80;

#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Wire<'a> {
    #[n(0)]
    version: u16,
    #[cbor(b(1))]
    level: Cow<'a, str>,
    #[n(2)]
    level_version: u16,
    #[cbor(b(3))]
    cpu: Cow<'a, str>,
    #[n(4)]
    signature: u32,
    #[cbor(b(5))]
    rows: Vec<WireRow<'a>>,
}

#[derive(minicbor::Encode, minicbor::Decode)]
struct WireRow<'a> {
    #[cbor(b(0))]
    name: Cow<'a, str>,
    #[n(1)]
    means: u8,
    #[n(2)]
    argument: u64,
    #[n(3)]
    values: Option<(u64, u64)>,
    #[cbor(b(4))]
    remains: Option<Cow<'a, str>>,
}

#[derive(minicbor::Decode)]
#[cbor(map)]
struct Head {
    #[n(0)]
    version: u16,
}

/// Why bytes are no ledger.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LedgerError {
    /// Too many bytes.
    #[error("{what} of {len} bytes")]
    Length {
        /// Of what.
        what: &'static str,
        /// How many.
        len: usize,
    },
    /// Not CBOR, or a field is missing or of another type.
    #[error("ledger is malformed at byte {0}")]
    Malformed(usize),
    /// Bytes behind the end.
    #[error("ledger has {0} bytes too many")]
    Trailing(usize),
    /// Written by a version that this one does not know.
    #[error("ledger of format version {0}, this host knows {VERSION}")]
    Version(u16),
    /// Too many rows.
    #[error("ledger of {0} rows")]
    Rows(usize),
    /// A text that is too long or not printable.
    #[error("ledger with a bad text: {0}")]
    Text(&'static str),
    /// A name twice.
    #[error("ledger names {0} twice")]
    Double(String),
}

fn to_bytes<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written: Result<(), minicbor::encode::Error<core::convert::Infallible>> =
        minicbor::encode(value, &mut bytes);
    debug_assert!(written.is_ok(), "a Vec takes everything");
    bytes
}

/// A text that is fit for a console.
fn text(from: &str, max: usize, what: &'static str) -> Result<String, LedgerError> {
    let printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if from.len() > max || !from.bytes().all(printable) {
        return Err(LedgerError::Text(what));
    }
    Ok(from.into())
}

impl Ledger {
    /// The ledger as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let row = |row: &'_ LedgerRow| {
            let (means, argument) = row.means.number();
            let remains = (!row.remains.is_empty()).then(|| row.remains.clone().into_owned().into());
            WireRow {
                name: row.name.clone().into_owned().into(),
                means,
                argument,
                values: row.values,
                remains,
            }
        };
        to_bytes(&Wire {
            version: VERSION,
            level: self.level.as_str().into(),
            level_version: self.level_version,
            cpu: self.cpu.as_str().into(),
            signature: self.signature,
            rows: self.rows.iter().map(row).collect(),
        })
    }

    /// Reads and checks a ledger.
    ///
    /// # Errors
    /// What is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        if bytes.len() > MAX_LEDGER_ENCODED {
            return Err(LedgerError::Length { what: "ledger", len: bytes.len() });
        }
        // The version first: of another one nothing else need be readable.
        let head: Head = minicbor::decode(bytes).map_err(|_| LedgerError::Malformed(0))?;
        if head.version != VERSION {
            return Err(LedgerError::Version(head.version));
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let wire: Wire<'_> = decoder.decode().map_err(|_| LedgerError::Malformed(decoder.position()))?;
        if decoder.position() != bytes.len() {
            return Err(LedgerError::Trailing(bytes.len() - decoder.position()));
        }
        if wire.rows.len() > MAX_LEDGER_ROWS {
            return Err(LedgerError::Rows(wire.rows.len()));
        }
        let mut rows: Vec<LedgerRow> = Vec::with_capacity(wire.rows.len());
        for row in &wire.rows {
            let name = text(&row.name, MAX_NAME, "a name")?;
            if name.is_empty() {
                return Err(LedgerError::Text("no name"));
            }
            if rows.iter().any(|before| before.name == name) {
                return Err(LedgerError::Double(name));
            }
            let remains = row.remains.as_deref().unwrap_or_default();
            rows.push(LedgerRow {
                name: name.into(),
                values: row.values,
                means: Means::from_number(row.means, row.argument),
                remains: text(remains, MAX_REMAINS, "what remains")?.into(),
            });
        }
        Ok(Self {
            level: text(&wire.level, MAX_NAME, "the level")?,
            level_version: wire.level_version,
            cpu: text(&wire.cpu, MAX_NAME, "the CPU")?,
            signature: wire.signature,
            rows,
        })
    }
}

/// What travels with a VM for the operator's eyes: it decides over nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Companion {
    /// The ledger on the host that it left.
    pub ledger: Option<Ledger>,
    /// What the audit has seen, as the audit writes it.
    pub seen: Option<Vec<u8>>,
}

#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct WireCompanion {
    #[cbor(n(0), with = "minicbor::bytes")]
    ledger: Option<Vec<u8>>,
    #[cbor(n(1), with = "minicbor::bytes")]
    seen: Option<Vec<u8>>,
}

impl Companion {
    /// The companion as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_bytes(&WireCompanion { ledger: self.ledger.as_ref().map(Ledger::encode), seen: self.seen.clone() })
    }

    /// Reads and checks a companion; no bytes are an empty one.
    ///
    /// # Errors
    /// What is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        if bytes.len() > MAX_COMPANION {
            return Err(LedgerError::Length { what: "companion", len: bytes.len() });
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let wire: WireCompanion = decoder.decode().map_err(|_| LedgerError::Malformed(decoder.position()))?;
        if decoder.position() != bytes.len() {
            return Err(LedgerError::Trailing(bytes.len() - decoder.position()));
        }
        if let Some(seen) = wire.seen.as_ref().filter(|seen| seen.len() > MAX_SEEN) {
            return Err(LedgerError::Length { what: "audit", len: seen.len() });
        }
        let ledger = wire.ledger.as_deref().map(Ledger::decode).transpose()?;
        Ok(Self { ledger, seen: wire.seen })
    }
}
