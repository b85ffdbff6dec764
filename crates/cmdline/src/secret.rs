//! Values that are never shown: keys and seeds.

use alloc::string::{String, ToString};
use core::fmt;

use crate::words::Words;

/// Options whose values are secret.
const OPTIONS: [&str; 3] = ["key", "hostkey", "seed"];
/// What stands in place of a secret.
const HIDDEN: &str = "...";
/// So many hexadecimal digits in a row may be a key, whatever they are called.
const SUSPICIOUS: usize = 32;

/// 32 secret bytes, written as 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Reads 64 hexadecimal digits: nothing else, so no passphrase.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                *byte = *byte << 4 | char::from(*digit).to_digit(16)? as u8;
            }
        }
        Some(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A line as it may be shown: values of secret options, and whatever looks like a key, are left out.
#[must_use]
pub fn redacted(line: &str) -> String {
    let mut shown = String::new();
    let mut words = Words::whole(line);
    for (raw, word) in words.by_ref() {
        let blanks = raw.len() - raw.trim_start_matches([' ', '\t', '\r', '\n']).len();
        match word.split_once('=') {
            Some((name, _)) if is_secret(name) => {
                shown.push_str(raw.get(..blanks).unwrap_or_default());
                shown.push_str(&assignment(name));
            }
            _ => shown.push_str(&without_digits(raw)),
        }
    }
    shown.push_str(&without_digits(words.left()));
    shown
}

/// A value as a warning may show it. The name may be mistyped: `near` is the option it resembles.
pub(crate) fn value(name: &str, near: Option<&str>, value: &str) -> String {
    if is_secret(name) || near.is_some_and(is_secret) { HIDDEN.to_string() } else { without_digits(value) }
}

/// A whole word as a warning may show it.
pub(crate) fn word(text: &str, near: Option<&str>) -> String {
    match text.split_once('=') {
        Some((name, _)) if is_secret(name) || near.is_some_and(is_secret) => assignment(name),
        _ => without_digits(text),
    }
}

fn assignment(name: &str) -> String {
    [name, "=", HIDDEN].concat()
}

fn is_secret(name: &str) -> bool {
    let name = name.strip_prefix("--").unwrap_or(name);
    OPTIONS.iter().any(|option| option.eq_ignore_ascii_case(name))
}

/// The text without long runs of hexadecimal digits.
fn without_digits(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(from.len());
        let (run, behind) = from.split_at(end);
        out.push_str(before);
        out.push_str(if run.len() >= SUSPICIOUS { HIDDEN } else { run });
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";

    #[test]
    fn hex_and_nothing_else() {
        let secret = Secret::from_hex(HEX).unwrap();
        assert_eq!(secret.bytes()[..3], [0, 0x11, 0x22]);
        assert_eq!(secret.bytes()[31], 0xff);
        for wrong in ["", "x", "correct horse battery staple", &HEX[1..], &HEX.replace("aa", "+a")] {
            assert_eq!(Secret::from_hex(wrong), None, "{wrong}");
        }
        assert_eq!(Secret::from_hex(&"\u{fc}".repeat(32)), None);
    }

    #[test]
    fn lines_are_shown_without_secrets() {
        for (line, shown) in [
            ("", ""),
            ("/boot/x.elf a=1  b", "/boot/x.elf a=1  b"),
            (&["ip=off key=", HEX, " idle=poll"].concat(), "ip=off key=... idle=poll"),
            (&["\tkey=\"", HEX, " x\" seed=short "].concat(), "\tkey=... seed=... "),
            (&["\"hostkey=", HEX, "\" b -- key=", HEX, " c"].concat(), "hostkey=... b -- key=... c"),
            (&["kye=", HEX].concat(), "kye=..."),
            (&["KEY=1 key", " ", HEX].concat(), "KEY=... key ..."),
            ("vm=deadbeef key=\"open", "vm=deadbeef key=..."),
        ] {
            assert_eq!(redacted(line), shown);
        }
    }
}
