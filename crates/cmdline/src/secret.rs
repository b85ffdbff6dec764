//! Values that are never shown: keys and seeds.

use alloc::string::{String, ToString};
use core::fmt;

use zeroize::Zeroize;

use crate::wipe::wipe;
use crate::words::Words;

/// Options whose values are secret.
const OPTIONS: [&str; 3] = ["key", "hostkey", "seed"];
/// What stands in place of a secret.
const HIDDEN: &str = "...";
/// So many hexadecimal digits in a row may be a key, whatever they are called.
const SUSPICIOUS: usize = 32;

/// 32 secret bytes, written as 64 hexadecimal digits. Erased when they go.
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

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
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
        match word.text.split_once('=') {
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

/// Takes what [`redacted`] hides out of a line that is kept: digits become zeros, other characters `x`. The line reads as
/// before, option by option, and the memory that held it is erased.
pub fn erase(line: &mut String) {
    let mut kept = String::with_capacity(line.len());
    let mut words = Words::whole(line);
    for (raw, word) in words.by_ref() {
        match (word.text.split_once('='), raw.split_once('=')) {
            (Some((name, _)), Some((before, value))) if is_secret(name) => {
                kept.push_str(before);
                kept.push('=');
                kept.extend(value.chars().map(|c| if c.is_alphanumeric() { blank(c) } else { c }));
            }
            _ => map_runs(raw, &mut kept, erased_run),
        }
    }
    map_runs(words.left(), &mut kept, erased_run);
    wipe(core::mem::replace(line, kept));
}

fn blank(c: char) -> char {
    if c.is_ascii_hexdigit() { '0' } else { 'x' }
}

fn erased_run(run: &str, out: &mut String) {
    out.extend(run.chars().map(|c| if run.len() >= SUSPICIOUS { '0' } else { c }));
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
    map_runs(text, &mut out, |run, out| out.push_str(if run.len() >= SUSPICIOUS { HIDDEN } else { run }));
    out
}

/// The text with each run of hexadecimal digits as `put` writes it.
fn map_runs(text: &str, out: &mut String, put: impl Fn(&str, &mut String)) {
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(from.len());
        let (run, behind) = from.split_at(end);
        out.push_str(before);
        put(run, out);
        rest = behind;
    }
    out.push_str(rest);
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

    /// Fault 5.9: keys and seeds stayed in the kept copies of the command line for as long as the host ran.
    #[test]
    fn a_kept_line_reads_the_same_without_its_secrets() {
        let line = alloc::format!(
            "/boot/flexvisor.elf --ip=dhcp key={HEX} \"seed={HEX}\" hostkey=0x12 keyy={HEX} key=zz -- rest {HEX}"
        );
        let mut kept = line.clone();
        erase(&mut kept);
        assert!(!kept.contains("11223344") && !kept.contains("AABB"), "{kept}");
        assert_eq!(redacted(&kept), redacted(&line));
        let sources = |line| crate::HostOptions::in_force(&[("boot line", line)]);
        assert_eq!(sources(kept.as_str()), sources(line.as_str()));
        assert_eq!(kept.len(), line.len());
    }

    #[test]
    fn a_secret_is_erased_when_it_goes() {
        assert!(core::mem::needs_drop::<Secret>());
        let (mut options, _) = crate::HostOptions::parse(&alloc::format!("key={HEX} seed={HEX}"));
        let secrets = options.take_secrets();
        assert!(secrets.key.is_some() && secrets.seed.is_some() && secrets.host_key.is_none());
        assert!(options.key.is_none() && options.seed.is_none());
    }
}
