//! Output that is longer than the screen, a screen at a time.

use alloc::string::String;
use core::fmt::{self, Write};

/// What stands in the last row while there is more.
const MORE: &str = "--more--";
/// Bytes that wait for a key, at most: whoever prints more than that has to wait.
const ENOUGH: usize = 64 << 10;

/// What a key meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paged {
    /// The key is none of the pager's.
    Ignored,
    /// It goes on, and holds again where there is more than a screen.
    Goes,
    /// The rest is thrown away, and so is what is still to come.
    Left,
}

/// Holds text back once a screen is full. Off until it knows how many rows there are.
#[derive(Debug, Default)]
pub struct Pager {
    rows: Option<usize>,
    columns: usize,
    /// Rows used since the last key, and columns of the row under way.
    used: usize,
    column: usize,
    held: String,
    holds: bool,
    left: bool,
}

impl Pager {
    /// The screen's size; none turns it off.
    pub fn set_size(&mut self, rows: Option<usize>, columns: usize) {
        self.rows = rows.filter(|rows| *rows > 1);
        self.columns = columns.max(1);
    }

    /// Rows of the screen, where they are known.
    #[must_use]
    pub const fn rows(&self) -> Option<usize> {
        self.rows
    }

    /// A command begins to print.
    pub fn begin(&mut self) {
        (self.used, self.column, self.holds, self.left) = (0, 0, false, false);
        self.held.clear();
    }

    /// Whether a key is waited for.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.holds
    }

    /// Whether as much waits as is kept.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.held.len() >= ENOUGH
    }

    /// Prints `text` as far as the screen goes, and keeps the rest.
    ///
    /// # Errors
    /// Only those of `out`.
    pub fn print(&mut self, text: &str, out: &mut dyn Write) -> fmt::Result {
        let Some(rows) = self.rows else { return out.write_str(text) };
        if self.left {
            return Ok(());
        }
        if self.holds {
            self.held.push_str(text);
            return Ok(());
        }
        for (at, c) in text.char_indices() {
            // The last row is for the sign.
            if self.column == 0 && self.used + 1 >= rows {
                self.holds = true;
                self.held.push_str(text.get(at..).unwrap_or_default());
                return out.write_str(MORE);
            }
            out.write_char(c)?;
            match c {
                '\n' => (self.used, self.column) = (self.used + 1, 0),
                '\r' => self.column = 0,
                // It goes to the next row once there is one more.
                _ if self.column == self.columns => (self.used, self.column) = (self.used + 1, 1),
                _ => self.column += 1,
            }
        }
        Ok(())
    }

    /// A key while it holds: space for a screen, Enter for a row, `q` or Ctrl-C for no more.
    ///
    /// # Errors
    /// Only those of `out`.
    pub fn key(&mut self, byte: u8, out: &mut dyn Write) -> Result<Paged, fmt::Error> {
        let rows = self.rows.unwrap_or(usize::MAX);
        match byte {
            b' ' => self.used = 0,
            b'\r' | b'\n' => self.used = rows.saturating_sub(2),
            b'q' | b'Q' | 3 => {
                (self.holds, self.left) = (false, true);
                self.held.clear();
                rub_out(out)?;
                return Ok(Paged::Left);
            }
            _ => return Ok(Paged::Ignored),
        }
        self.holds = false;
        rub_out(out)?;
        let held = core::mem::take(&mut self.held);
        self.print(&held, out)?;
        Ok(Paged::Goes)
    }
}

fn rub_out(out: &mut dyn Write) -> fmt::Result {
    let wide = MORE.len();
    write!(out, "\r{:wide$}\r", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUBBED: &str = "\r        \r";

    #[test]
    fn a_screen_at_a_time() {
        let mut pager = Pager::default();
        let mut out = String::new();
        pager.begin();
        assert_eq!(pager.print("1\n2\n3\n4\n", &mut out), Ok(()));
        assert_eq!((out.as_str(), pager.holds()), ("1\n2\n3\n4\n", false), "its size is not known");
        pager.set_size(Some(4), 80);
        pager.begin();
        out.clear();
        for line in ["1\n", "2\n3\n4\n5\n", "6\n7\n8\n"] {
            assert_eq!(pager.print(line, &mut out), Ok(()));
        }
        assert_eq!((out.as_str(), pager.holds()), ("1\n2\n3\n--more--", true));
        out.clear();
        assert_eq!(pager.key(b'x', &mut out), Ok(Paged::Ignored));
        assert_eq!(pager.key(b'\r', &mut out), Ok(Paged::Goes));
        assert_eq!(out, alloc::format!("{RUBBED}4\n--more--"));
        out.clear();
        assert_eq!(pager.key(b' ', &mut out), Ok(Paged::Goes));
        assert_eq!(out, alloc::format!("{RUBBED}5\n6\n7\n--more--"));
        out.clear();
        assert_eq!(pager.key(b' ', &mut out), Ok(Paged::Goes));
        assert_eq!((out.as_str(), pager.holds()), (alloc::format!("{RUBBED}8\n").as_str(), false));
    }

    #[test]
    fn q_leaves_the_rest_out() {
        let mut pager = Pager::default();
        let mut out = String::new();
        pager.set_size(Some(3), 80);
        pager.begin();
        assert_eq!(pager.print("1\n2\n3\n", &mut out), Ok(()));
        assert_eq!(pager.key(b'q', &mut out), Ok(Paged::Left));
        assert_eq!(pager.print("4\n", &mut out), Ok(()));
        assert_eq!(out, alloc::format!("1\n2\n--more--{RUBBED}"));
        pager.begin();
        out.clear();
        assert_eq!(pager.print("1\n2\n", &mut out), Ok(()));
        assert_eq!((out.as_str(), pager.holds()), ("1\n2\n", false), "what just fits is shown");
    }

    #[test]
    fn a_long_line_takes_more_rows() {
        let mut pager = Pager::default();
        let mut out = String::new();
        pager.set_size(Some(4), 10);
        pager.begin();
        assert_eq!(pager.print("0123456789abcdefghij\nx\ny\n", &mut out), Ok(()));
        assert!(pager.holds(), "{out}");
        assert!(out.ends_with("ij\nx\n--more--"), "{out}");
    }
}
