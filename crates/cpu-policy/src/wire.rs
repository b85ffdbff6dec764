//! A policy as bytes: CBOR with numbered fields, so that a later version can add some.

use alloc::string::String;
use alloc::vec::Vec;

use crate::policy::GuestPolicy;
use crate::render::RenderError;
use crate::table::{Row, TableError};

/// Version of the format.
pub(crate) const VERSION: u16 = 1;
/// Most bytes that a policy may have.
pub const MAX_ENCODED: usize = 16 * 1024;

#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct Wire {
    #[n(0)]
    pub(crate) version: u16,
    #[n(1)]
    pub(crate) level: String,
    #[n(2)]
    pub(crate) level_version: u16,
    #[n(3)]
    pub(crate) vcpus: u32,
    #[n(4)]
    pub(crate) tsc_hz: u64,
    #[n(5)]
    pub(crate) apic_hz: u32,
    #[n(6)]
    pub(crate) rows: Vec<Row>,
    #[n(7)]
    pub(crate) msrs: Vec<(u32, u64)>,
}

/// Why bytes are no policy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// More than [`MAX_ENCODED`].
    #[error("CPU policy of {0} bytes")]
    Length(usize),
    /// Not CBOR, or a field is missing or of another type.
    #[error("CPU policy is malformed at byte {0}")]
    Malformed(usize),
    /// Bytes behind the end.
    #[error("CPU policy has {0} bytes too many")]
    Trailing(usize),
    /// Written by a version that this one does not know.
    #[error("CPU policy of format version {0}, this host knows {VERSION}")]
    Version(u16),
    /// A level name that is none.
    #[error("CPU policy with a bad level name")]
    LevelName,
    /// A number of the shape out of range.
    #[error("CPU policy: {0}")]
    Shape(RenderError),
    /// Rows that are no table.
    #[error("CPU policy: {0}")]
    Table(TableError),
    /// A row that is missing, unknown, or contradicts the others.
    #[error("CPU policy: CPUID {leaf:#x}.{subleaf}: {why}")]
    Row {
        /// Its leaf.
        leaf: u32,
        /// Its sub-leaf.
        subleaf: u32,
        /// What is wrong.
        why: &'static str,
    },
    /// Feature bits that this version does not know.
    #[error("CPU policy: unknown bits {bits:#x} in {place}")]
    UnknownBits {
        /// Where.
        place: crate::Place,
        /// Which.
        bits: u64,
    },
    /// A feature without what it needs.
    #[error("CPU policy: {feature} without {need}")]
    Contradiction {
        /// The feature.
        feature: crate::Feature,
        /// What it needs.
        need: crate::Feature,
    },
    /// A constant MSR that is missing, unknown or double.
    #[error("CPU policy: constant MSR {0:#x} is not as it should be")]
    Msr(u32),
}

/// Its text is part of this one's: as a source too it would be said twice.
impl From<RenderError> for DecodeError {
    fn from(error: RenderError) -> Self {
        Self::Shape(error)
    }
}

/// Its text is part of this one's: as a source too it would be said twice.
impl From<TableError> for DecodeError {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

impl GuestPolicy {
    /// The policy as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            version: VERSION,
            level: self.level.clone(),
            level_version: self.level_version,
            vcpus: self.shape.vcpus(),
            tsc_hz: self.shape.tsc_hz,
            apic_hz: self.shape.apic_hz,
            rows: self.table.rows().into(),
            msrs: self.msrs.values().0.clone(),
        };
        let mut bytes = Vec::new();
        let written: Result<(), minicbor::encode::Error<core::convert::Infallible>> =
            minicbor::encode(&wire, &mut bytes);
        debug_assert!(written.is_ok(), "a Vec takes everything");
        bytes
    }
}
