//! The judge of `tests/guests/chatter.c`: whether what came out of one or two serial ports is, byte by byte and each
//! byte once, what the guest printed.

use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;

/// Bytes of a line, without the carriage return: `00000042 x`.
pub const LINE: usize = 11;
/// Where the typed character stands in it.
const TYPED: usize = 9;

/// What a port has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Of the guest.
    pub text: String,
    /// What the port itself said, in brackets.
    pub notes: Vec<String>,
}

impl Shown {
    /// Takes the port's own notes out of the text of a console.
    pub fn parse(text: &str) -> Self {
        let mut shown = Self::default();
        let mut rest = text;
        while let Some((before, (note, after))) =
            rest.split_once("\n[").and_then(|(before, rest)| Some((before, rest.split_once("]\n")?)))
        {
            shown.text.push_str(before);
            shown.notes.push(note.to_string());
            rest = after;
        }
        shown.text.push_str(rest);
        shown
    }

    /// The sum of the counts in notes that contain `text`.
    pub fn noted(&self, text: &str) -> usize {
        let notes = self.notes.iter().filter(|note| note.contains(text));
        notes.filter_map(|note| note.split(' ').next()?.parse::<usize>().ok()).sum()
    }
}

/// Bytes without carriage returns of the first `printed` bytes of the output, of which they are one in twelve.
pub fn without_returns(printed: usize) -> usize {
    printed - (printed + 1) / (LINE + 1)
}

/// What the guest printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Bytes in all, carriage returns aside.
    pub bytes: usize,
    /// The typed characters that it echoed.
    pub typed: String,
    /// How often the output went on at the other port.
    pub changes: usize,
}

/// Whether byte `at` of the guest's output may be `byte`.
fn fits(at: usize, byte: u8) -> bool {
    let (line, column) = (at / LINE + 1, at % LINE);
    match column {
        0..8 => byte == b'0' + (line / 10_usize.pow(7 - column as u32) % 10) as u8,
        8 => byte == b' ',
        TYPED => byte.is_ascii_graphic(),
        _ => byte == b'\n',
    }
}

/// Puts the texts of two ports together to one output, with as few changes between them as there can be.
///
/// # Errors
/// Where there is no way to do it: something is lost, or there twice.
pub fn merge(first: &str, second: &str) -> Result<Story> {
    let texts = [first.as_bytes(), second.as_bytes()];
    let total = texts[0].len() + texts[1].len();
    // Bytes of the first text used, and which text the last one was of: the changes so far, and what was typed.
    let mut ways = BTreeMap::from([((0, 0), (0, String::new()))]);
    for at in 0..total {
        let mut next: BTreeMap<(usize, usize), (usize, String)> = BTreeMap::new();
        for ((used, last), (changes, typed)) in ways {
            for port in [0, 1] {
                let place = if port == 0 { used } else { at - used };
                let Some(&byte) = texts[port].get(place).filter(|byte| fits(at, **byte)) else { continue };
                let mut typed = typed.clone();
                if at % LINE == TYPED && byte != b'-' {
                    typed.push(char::from(byte));
                }
                let way = (changes + usize::from(port != last), typed);
                let key = (used + usize::from(port == 0), port);
                if next.get(&key).is_none_or(|known| way.0 < known.0) {
                    next.insert(key, way);
                }
            }
        }
        ensure!(!next.is_empty(), "byte {at} of the output, in line {}, is on neither port", at / LINE + 1);
        ways = next;
    }
    let (changes, typed) = ways.into_values().min_by_key(|(changes, _)| *changes).context("no output")?;
    Ok(Story { bytes: total, typed, changes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(numbers: std::ops::RangeInclusive<usize>) -> String {
        numbers.map(|number| format!("{number:08} -\n")).collect()
    }

    #[test]
    fn whole_outputs_are_put_together() {
        let all = lines(1..=30);
        let story = Story { bytes: 330, typed: String::new(), changes: 0 };
        assert_eq!(merge(&all, "").unwrap(), story);
        let (a, b, c) = (&all[..100], &all[100..205], &all[205..]);
        let story = Story { changes: 2, ..story };
        assert_eq!(merge(&[a, c].concat(), b).unwrap(), story);
        let typed = all.replace("00000007 -", "00000007 x");
        assert_eq!(merge(&typed, "").unwrap().typed, "x");
    }

    #[test]
    fn lost_doubled_and_torn_bytes_are_found() {
        let all = lines(1..=30);
        let (a, b) = all.split_at(150);
        for (first, second) in [
            (&a[..149], b),
            (a, &b[1..]),
            (&all[..151], b),
            (a, &all[140..]),
            (&a.replace('5', "6"), b),
            (&all[11..], ""),
        ] {
            assert!(merge(first, second).is_err(), "{first:?} and {second:?}");
        }
    }

    #[test]
    fn carriage_returns_do_not_count() {
        let all: String = lines(1..=3).replace('\n', "\r\n");
        for printed in 0..=all.len() {
            assert_eq!(without_returns(printed), all[..printed].replace('\r', "").len());
        }
    }

    #[test]
    fn notes_are_no_output() {
        let shown = Shown::parse("00000\n[3 bytes typed here are gone]\n001 -\n\n[7 bytes left out]\n");
        assert_eq!(shown.text, "00000001 -\n");
        assert_eq!(shown.notes, ["3 bytes typed here are gone", "7 bytes left out"]);
        assert_eq!((shown.noted("left out"), shown.noted("typed here")), (7, 3));
    }
}
