//! How what an operator asked for ended, where that took its time: a migration, say.

use alloc::string::String;

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// As asked.
    Done,
    /// The other host said no.
    Refused(String),
    /// It failed; the text says where the VM is.
    Failed(String),
}
