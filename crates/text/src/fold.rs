//! Lines that fit a terminal's row.

use alloc::string::String;
use core::fmt::{self, Write};

/// Columns of the narrowest terminal that serial lines are read on; its last one is left free, for some terminals go to
/// the next row once it is taken.
pub const COLUMNS: usize = 80;

/// The most columns that a line takes.
pub(crate) const ROOM: usize = COLUMNS - 1;

/// Columns that text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// Columns that a character takes on a terminal: 2 for those of East Asian scripts and pictures, 0 for marks that
/// stand on the one before. Coarse (whole blocks of Unicode), and enough to rub out what was typed.
pub const fn columns(c: char) -> usize {
    match c as u32 {
        0x0300..=0x036F
        | 0x0483..=0x0489
        | 0x0591..=0x05BD
        | 0x0610..=0x061A
        | 0x064B..=0x065F
        | 0x1AB0..=0x1AFF
        | 0x1DC0..=0x1DFF
        | 0x200B..=0x200F
        | 0x2060..=0x2064
        | 0x20D0..=0x20FF
        | 0xFE00..=0xFE0F
        | 0xFE20..=0xFE2F
        | 0xFEFF
        | 0xE0000..=0xE0FFF => 0,
        0x1100..=0x115F
        | 0x2E80..=0x303E
        | 0x3040..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1F64F
        | 0x1F680..=0x1F6FF
        | 0x1F900..=0x1F9FF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

/// Breaks text between words into pieces of at most `room` columns, a word that is longer between letters. One piece at
/// least.
pub(crate) fn pieces(text: &str, room: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest?;
        let (piece, left) = split(text, room);
        rest = (!left.is_empty()).then_some(left);
        Some(piece)
    })
}

/// The first piece, and what follows it.
fn split(text: &str, room: usize) -> (&str, &str) {
    let (mut used, mut blank) = (0, None);
    for (at, c) in text.char_indices() {
        // A break at a blank costs nothing, even behind the last column.
        if c == ' ' && at > 0 {
            blank = Some(at);
        }
        used += columns(c);
        if used > room && c != ' ' {
            // One character at least, or it would never end.
            let end = blank.unwrap_or(if at > 0 { at } else { at + c.len_utf8() });
            let (piece, left) = text.split_at(end);
            return (piece.trim_end_matches(' '), left.trim_start_matches(' '));
        }
    }
    (text.trim_end_matches(' '), "")
}

/// Breaks lines that are longer than a row between words; what follows stands below what it belongs to. JSON is left as
/// it is, which programs read.
pub struct Folded<'a> {
    out: &'a mut dyn Write,
    /// What is there of the last line, which has not gone out.
    line: String,
    /// The line that is under way goes out as it is.
    json: bool,
}

impl<'a> Folded<'a> {
    /// Writes to `out`.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, line: String::new(), json: false }
    }

    fn put(&mut self) -> fmt::Result {
        let line = core::mem::take(&mut self.line);
        if width(&line) <= ROOM {
            return self.out.write_str(&line);
        }
        let below = below(&line);
        let lead = line.len() - line.trim_start_matches(' ').len();
        let (mut first, mut rest) = split(line.get(lead..).unwrap_or_default(), ROOM - lead.min(ROOM / 2));
        let mut indent = lead;
        loop {
            write!(self.out, "{:indent$}{first}", "")?;
            if rest.is_empty() {
                return Ok(());
            }
            self.out.write_char('\n')?;
            indent = below;
            (first, rest) = split(rest, ROOM - below);
        }
    }
}

/// Where a line goes on: below its last column, if that begins early enough; else a little to the right.
fn below(line: &str) -> usize {
    const LATEST: usize = 50;
    let lead = line.len() - line.trim_start_matches(' ').len();
    let (mut at, mut blanks, mut found) = (0, 0, None);
    for c in line.chars() {
        if c != ' ' && blanks >= 2 && at > lead && at <= LATEST {
            found = Some(at);
        }
        blanks = if c == ' ' { blanks + 1 } else { 0 };
        at += columns(c);
    }
    found.unwrap_or(lead.min(LATEST) + 4)
}

impl Write for Folded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive('\n') {
            self.json |= self.line.is_empty() && part.starts_with(['{', '[']);
            if self.json {
                self.out.write_str(part)?;
                self.json = !part.ends_with('\n');
                continue;
            }
            match part.strip_suffix('\n') {
                None => self.line.push_str(part),
                Some(end) => {
                    self.line.push_str(end);
                    self.put()?;
                    self.out.write_char('\n')?;
                }
            }
        }
        Ok(())
    }
}

/// What is left of a line goes out as it is.
impl Drop for Folded<'_> {
    fn drop(&mut self) {
        // An answer that fails is nobody's any more.
        let _ = self.put();
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn folded(text: &str) -> String {
        let mut out = String::new();
        let _ = Folded::new(&mut out).write_str(text);
        out
    }

    #[test]
    fn a_long_line_goes_on_below_its_last_column() {
        let names =
            "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen";
        assert_eq!(
            folded(&std::format!("levels    {names}\nok\n")),
            "levels    one two three four five six seven eight nine ten eleven twelve\n\
             \x20         thirteen fourteen fifteen\nok\n"
        );
        assert_eq!(
            folded(&std::format!("  {names}\n")),
            "  one two three four five six seven eight nine ten eleven twelve thirteen\n      fourteen fifteen\n"
        );
        let json = std::format!("{{\"names\":\"{names}\"}}\n");
        assert_eq!(folded(&json), json);
        let mut out = String::new();
        let head = "{\"names\":\"[\"}\n";
        let _ = write!(Folded::new(&mut out), "{head}{names} {names}");
        assert!(out.starts_with("{\"names\":\"[\"}\none two"), "{out}");
        assert_eq!(out.lines().count(), 1 + 3, "{out}");
        assert_eq!(folded("prompt"), "prompt");
    }

    #[test]
    fn words_break_where_they_must() {
        let all: Vec<_> = pieces("aaaa bb cccccccc", 4).collect();
        assert_eq!(all, ["aaaa", "bb", "cccc", "cccc"]);
        assert_eq!(pieces("", 4).collect::<Vec<_>>(), [""]);
        assert_eq!(pieces("\u{30c6}\u{30c6}", 1).count(), 2, "wider than the room, and yet it ends");
    }

    proptest! {
        /// Every line fits, and nothing but blanks is lost.
        #[test]
        fn every_line_fits(lines in prop::collection::vec("[ a-zA-Z0-9=,.-]{0,300}", 0..5)) {
            let text = lines.join("\n") + "\n";
            let out = folded(&text);
            prop_assert!(out.lines().all(|line| width(line) <= ROOM), "{out}");
            let bare = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(bare(&out), bare(&text));
        }
    }
}
