//! Instructions that may fault, and where to go on when they do.
//!
//! Inline assembly puts a pair of addresses (may fault, go on) into section `.fixup`.

use super::link;

/// Where to go on after a fault at `rip`, if the code there expects one.
pub(crate) fn find(rip: u64) -> Option<u64> {
    link::fixups().iter().find(|pair| pair[0] == rip).map(|pair| pair[1])
}
