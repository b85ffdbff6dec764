//! What the terminal shows of the line, and the least that must be sent to change it.
//!
//! The line never takes more than one row: a longer one is shown in part, so that BS always gets back to its start.
//! A dumb terminal gets nothing but printable characters and BS.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use text::columns;

/// One row: characters with the marks that stand on them, and the columns they take.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    text: String,
    /// Where each cell ends in `text`, and how wide it is.
    cells: Vec<(usize, usize)>,
}

impl Row {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.cells.clear();
    }

    /// Adds a cell.
    pub(super) fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.cells.push((self.text.len(), width(cell)));
    }

    /// Adds text, a cell for each of its characters.
    pub(super) fn push_all(&mut self, text: &str) {
        for cell in cells(text) {
            self.push(cell);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).and_then(|before| self.cells.get(before)).map_or(0, |(end, _)| *end)
    }

    /// The text of cells `from` to `to`, the last one not included.
    fn part(&self, from: usize, to: usize) -> &str {
        self.text.get(self.start(from)..self.start(to)).unwrap_or_default()
    }

    /// The text of one cell.
    pub(super) fn cell(&self, at: usize) -> &str {
        self.part(at, at + 1)
    }

    /// Columns of cells `from` to `to`, the last one not included.
    pub(super) fn width(&self, from: usize, to: usize) -> usize {
        self.cells.get(from..to.min(self.cells.len())).unwrap_or_default().iter().map(|(_, wide)| wide).sum()
    }

    /// How many cells at the beginning are the same.
    fn same(&self, other: &Self) -> usize {
        let equal = |at: &usize| self.cell(*at) == other.cell(*at);
        (0..self.len().min(other.len())).take_while(equal).count()
    }
}

/// Columns of a piece of text.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The end of the character at `at` with the marks on it.
pub(super) fn next(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let later = rest.char_indices().skip(1).find(|(_, c)| columns(*c) > 0);
    later.map_or(text.len(), |(len, _)| at + len)
}

/// The start of the character before `at`.
pub(super) fn previous(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    before.char_indices().rev().find(|(_, c)| columns(*c) > 0).map_or(0, |(start, _)| start)
}

/// The characters of a text, each with the marks on it.
pub(super) fn cells(text: &str) -> impl Iterator<Item = &str> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let start = at;
        at = next(text, start);
        text.get(start..at).filter(|cell| !cell.is_empty())
    })
}

/// What is on the terminal's row, and where its cursor stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Screen {
    row: Row,
    /// The cell that the cursor stands on.
    at: usize,
    /// Cursor movements and deletions by ESC sequences.
    pub(super) ansi: bool,
}

/// From so many columns on an ESC sequence is shorter than BS.
const WORTH_IT: usize = 5;

impl Screen {
    /// The cursor stands on an empty row.
    pub(super) fn forget(&mut self) {
        self.row.clear();
        self.at = 0;
    }

    /// Whether the cursor stands behind the last character, and how many columns are before it.
    pub(super) fn end(&self) -> Option<usize> {
        (self.at == self.row.len()).then(|| self.row.width(0, self.at))
    }

    /// Appends a cell at the cursor, which stands at the end.
    pub(super) fn append(&mut self, cell: &str, out: &mut dyn Write) {
        // A console that cannot print can be told nothing either.
        let _ = out.write_str(cell);
        self.row.push(cell);
        self.at = self.row.len();
    }

    /// Moves the cursor behind the last character.
    pub(super) fn go_to_end(&mut self, out: &mut dyn Write) {
        self.go(self.row.len(), out);
    }

    /// Makes the row `new` and puts the cursor on its cell `cursor`.
    pub(super) fn show(&mut self, new: Row, cursor: usize, out: &mut dyn Write) {
        let same = self.row.same(&new);
        if same < self.row.len() || same < new.len() {
            self.go(same, out);
            let left = self.row.width(same, self.row.len());
            let fresh = new.width(same, new.len());
            let _ = out.write_str(new.part(same, new.len()));
            let stale = left.saturating_sub(fresh);
            if self.ansi && stale > 0 {
                let _ = out.write_str("\x1b[K");
            } else {
                repeat(" ", stale, out);
                repeat("\x08", stale, out);
            }
            self.at = new.len();
            self.row = new;
        }
        self.go(cursor, out);
    }

    fn go(&mut self, to: usize, out: &mut dyn Write) {
        if to < self.at {
            let back = self.row.width(to, self.at);
            if self.ansi && back >= WORTH_IT {
                let _ = write!(out, "\x1b[{back}D");
            } else {
                repeat("\x08", back, out);
            }
        } else {
            let forth = self.row.width(self.at, to);
            if self.ansi && forth >= WORTH_IT {
                let _ = write!(out, "\x1b[{forth}C");
            } else {
                let _ = out.write_str(self.row.part(self.at, to));
            }
        }
        self.at = to;
    }
}

fn repeat(text: &str, times: usize, out: &mut dyn Write) {
    for _ in 0..times {
        let _ = out.write_str(text);
    }
}
