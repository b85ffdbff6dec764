//! Little-endian numbers in guest memory.

use vm_types::{Gpa, GuestMemory, MemoryError};

/// The two bytes at `gpa`, which is even, in one access: the driver may be writing them.
pub(crate) fn read_u16(memory: &dyn GuestMemory, gpa: Gpa) -> Result<u16, MemoryError> {
    let word = memory.read_u64(Gpa(gpa.0 & !7)).ok_or(MemoryError { gpa, len: 2 })?;
    Ok((word >> (8 * (gpa.0 & 6))) as u16)
}

/// The number in the first `N` bytes of `bytes` at `at`; what is beyond their end is 0.
pub(crate) fn le<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let part = bytes.get(at..).unwrap_or_default();
    part.iter().take(N).rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
