//! What is wrong with a file.

use alloc::string::String;

use crate::state::State;

/// What is wrong with a file, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FileError {
    /// It does not begin as such a file does.
    #[error("no file of a VM: it begins with {0:02x?}")]
    NotOurs([u8; 8]),
    /// Made by another version.
    #[error("file version {0}; versions 1 to {ours} are known here", ours = crate::VERSION)]
    Version(u16),
    /// Bytes are missing.
    #[error("cut short: {have} bytes are there, {want} are due ({what})")]
    Cut {
        /// What reaches so far.
        what: &'static str,
        /// Bytes there.
        have: u64,
        /// Bytes due.
        want: u64,
    },
    /// Bytes too many.
    #[error("{have} bytes are there, {want} are due")]
    Long {
        /// Bytes there.
        have: u64,
        /// Bytes due.
        want: u64,
    },
    /// A part differs from its seal.
    #[error("altered: {what} at offset {offset:#x}")]
    Altered {
        /// The part.
        what: String,
        /// Of its first byte.
        offset: u64,
    },
    /// A part is whole, but holds what it must not.
    #[error("malformed: {what} at offset {offset:#x}: {why}")]
    Malformed {
        /// The part.
        what: &'static str,
        /// Of its first byte.
        offset: u64,
        /// What it holds.
        why: String,
    },
    /// A file that the VM was made from is not among those kept here, or not so long.
    #[error("file {0} of the VM's origin is not kept here, or has another length")]
    NoFile(u32),
    /// Memory and state did not all arrive.
    #[error("incomplete: the migration to this file did not end")]
    Incomplete,
    /// Its state forbids what was asked.
    #[error("the file is {is}; {action}")]
    State {
        /// The state.
        is: State,
        /// What is not possible then.
        action: &'static str,
    },
    /// A page frame outside the VM's RAM.
    #[error("frame {0:#x} is not guest RAM")]
    NoRam(u64),
    /// More than a file holds.
    #[error("too large for a file: {0}")]
    TooLarge(String),
    /// The storage failed.
    #[error("at offset {offset:#x}: {why}")]
    Storage {
        /// Where.
        offset: u64,
        /// In the storage's words.
        why: String,
    },
}

impl FileError {
    pub(crate) fn altered(what: impl Into<String>, offset: u64) -> Self {
        Self::Altered { what: what.into(), offset }
    }
}

/// Names the place of a storage's fault.
pub(crate) fn at<T>(offset: u64, result: Result<T, String>) -> Result<T, FileError> {
    result.map_err(|why| FileError::Storage { offset, why })
}
