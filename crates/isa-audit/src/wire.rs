//! Findings as CBOR with numbered fields, to travel with the VM.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use cpu_policy::Feature;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use x86_decode::MAX_LEN;

use crate::findings::{Findings, MAX_ROWS, Row, Without};

/// Most bytes that encoded findings have.
pub const MAX_ENCODED: usize = 16 << 10;

/// Why bytes are no findings.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Longer than [`MAX_ENCODED`].
    #[error("findings of {0} bytes, at most {MAX_ENCODED} are possible")]
    TooLong(usize),
    /// Not what this version knows as findings.
    #[error("findings: {0}")]
    Cbor(String),
    /// More than [`MAX_ROWS`].
    #[error("{0} rows of findings, at most {MAX_ROWS} are possible")]
    TooMany(usize),
    /// An instruction that is none by its length.
    #[error("finding of {feature}: an instruction of {len} bytes")]
    Instruction {
        /// The feature.
        feature: String,
        /// Length in bytes.
        len: usize,
    },
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireFindings {
    #[n(0)]
    pages: u64,
    #[n(1)]
    again: u64,
    #[n(2)]
    instructions: u64,
    #[n(3)]
    undecodable: u64,
    #[n(4)]
    rows: Vec<WireRow>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireRow {
    /// The SDM's name: numbers differ between versions.
    #[n(0)]
    feature: String,
    #[n(1)]
    without: u8,
    #[n(2)]
    stopped: bool,
    #[n(3)]
    reached: u64,
    #[n(4)]
    swept: u64,
    #[n(5)]
    linear: u64,
    #[n(6)]
    gpa: u64,
    #[n(7)]
    bytes: ByteVec,
}

impl Findings {
    /// The findings as bytes, [`MAX_ENCODED`] at most.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let rows = self.rows.iter().map(|row| WireRow {
            feature: row.feature.name().to_string(),
            without: row.without as u8,
            stopped: row.stopped,
            reached: row.reached,
            swept: row.swept,
            linear: row.linear,
            gpa: row.gpa,
            bytes: row.instruction().to_vec().into(),
        });
        let wire = WireFindings {
            pages: self.pages,
            again: self.again,
            instructions: self.instructions,
            undecodable: self.undecodable,
            rows: rows.collect(),
        };
        minicbor::to_vec(&wire).unwrap_or_default() // writing to memory does not fail
    }

    /// Findings of encoded bytes. Rows about features that this version does not know are left out.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_ENCODED {
            return Err(DecodeError::TooLong(bytes.len()));
        }
        let wire: WireFindings = vm_types::decode_strict(bytes).map_err(DecodeError::Cbor)?;
        if wire.rows.len() > MAX_ROWS {
            return Err(DecodeError::TooMany(wire.rows.len()));
        }
        let mut findings = Self {
            pages: wire.pages,
            again: wire.again,
            instructions: wire.instructions,
            undecodable: wire.undecodable,
            rows: Vec::new(),
        };
        for row in wire.rows {
            let len = row.bytes.len();
            if len == 0 || len > MAX_LEN {
                return Err(DecodeError::Instruction { feature: row.feature, len });
            }
            let known = Feature::by_name(&row.feature).zip(Without::ALL.get(usize::from(row.without)));
            let Some((feature, without)) = known else { continue };
            let mut bytes = [0; MAX_LEN];
            bytes[..len].copy_from_slice(&row.bytes);
            findings.rows.push(Row {
                feature,
                without: *without,
                stopped: row.stopped,
                reached: row.reached,
                swept: row.swept,
                linear: row.linear,
                gpa: row.gpa,
                bytes,
                len: len as u8,
            });
        }
        Ok(findings)
    }
}
