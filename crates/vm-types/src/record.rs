//! State of one device or vCPU as it travels to another host.

use alloc::string::String;
use alloc::vec::Vec;

/// The exported state of one device or vCPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateRecord {
    /// What it is, e.g. `"uart"`, `"lapic"`, `"vcpu"`.
    pub kind: String,
    /// Which of several, from 0.
    pub instance: u16,
    /// Version of the body's schema; a reader takes its own and the one before.
    pub version: u16,
    /// CBOR (minicbor), numbered fields.
    pub body: Vec<u8>,
}

/// Why a record was refused; the VM that should have taken it is unchanged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateError {
    /// Kind of the record.
    pub kind: String,
    /// The field and value at fault, in words.
    pub why: String,
}

impl core::fmt::Display for StateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "state record {}: {}", self.kind, self.why)
    }
}

impl core::error::Error for StateError {}
