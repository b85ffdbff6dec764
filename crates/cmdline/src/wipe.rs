//! Erasing what may hold a secret.

use alloc::string::String;

use zeroize::Zeroize;

/// Erases text that may hold a secret before its memory is free again.
pub(crate) fn wipe(text: String) {
    text.into_bytes().as_mut_slice().zeroize();
}
