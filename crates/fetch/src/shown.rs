//! What others say, as it may be shown.

use alloc::string::String;

/// Words of a server, short and without control characters.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 60;
    bytes.iter().take(SHOWN).map(|&b| if (0x20..0x7f).contains(&b) { char::from(b) } else { '?' }).collect()
}
