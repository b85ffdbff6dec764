//! Line editing. Nothing is asked of the terminal but BS, CR and LF, until it shows that it knows ESC sequences.

mod history;
mod keys;
mod screen;
mod tab;

use alloc::string::String;
use core::fmt::Write;

use crate::complete::{Names, secret_at};
use crate::key::KeyDecoder;
use crate::term::Term;
use history::History;
use screen::{Row, Screen, cells, width};

/// Longest line in bytes. A longer one is refused whole: its beginning alone could mean something else.
pub const MAX_LINE: usize = 1024;

/// Columns of a terminal that has not been said to have others.
const COLUMNS: usize = 80;
/// Fewest columns that a line can be edited in.
const FEWEST: usize = 40;
/// Longest part of a search's text that is shown, in columns.
const SEARCHED: usize = 16;

const BELL: &str = "\x07";

/// What a byte brought about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// A whole line, without its end.
    Line(&'a str),
    /// The line had more than [`MAX_LINE`] bytes, by so many; it is gone.
    TooLong(usize),
    /// Ctrl-C: the line is given up, or whatever is running is to stop.
    Interrupt,
}

/// The line being typed. The caller prints the prompt ([`LineEditor::prompt`]) at the start and again when it has
/// dealt with an [`Event`], and whenever it has printed something else in the middle of a line.
#[derive(Debug)]
pub struct LineEditor {
    prompt: &'static str,
    text: String,
    /// Where the next character goes, in bytes; at the start of a character.
    cursor: usize,
    /// Bytes behind [`MAX_LINE`] that were not kept.
    dropped: usize,
    /// `text` was handed out and is cleared with the next byte.
    done: bool,
    echo: bool,
    keys: KeyDecoder,
    history: History,
    /// The line of the history that is shown, and what was typed before.
    recalled: Option<(usize, String)>,
    search: Option<Search>,
    /// The last key was Tab and could add nothing: the next one lists.
    tabbed: bool,
    screen: Screen,
    /// The first character that is shown of a line that is too long for the row, counted in characters.
    from: usize,
    columns: usize,
    term: Term,
}

/// A search of the history.
#[derive(Debug)]
struct Search {
    text: String,
    /// The line found.
    found: Option<usize>,
    /// The line as it was before.
    before: (String, usize),
}

enum Ended {
    Enter,
    Interrupt,
}

impl LineEditor {
    /// An empty line behind `prompt`.
    #[must_use]
    pub fn new(prompt: &'static str) -> Self {
        Self {
            prompt,
            text: String::new(),
            cursor: 0,
            dropped: 0,
            done: false,
            echo: true,
            keys: KeyDecoder::default(),
            history: History::default(),
            recalled: None,
            search: None,
            tabbed: false,
            screen: Screen::default(),
            from: 0,
            columns: COLUMNS,
            term: Term::Auto,
        }
    }

    /// Whether what is typed is shown; a script may want it off.
    pub fn set_echo(&mut self, echo: bool) {
        self.echo = echo;
    }

    /// What the terminal is told to be, and whether it gets ESC sequences.
    #[must_use]
    pub const fn term(&self) -> (Term, bool) {
        (self.term, self.screen.ansi)
    }

    /// Takes the terminal for what it is said to be.
    pub fn set_term(&mut self, term: Term) {
        self.term = term;
        self.screen.ansi = term == Term::Ansi;
    }

    /// Columns of a row of the terminal.
    #[must_use]
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// Sets the columns of a row, at least 40.
    pub fn set_columns(&mut self, columns: usize) {
        self.columns = columns.max(FEWEST);
    }

    /// What has been typed so far and the cursor's place in it, in bytes.
    #[must_use]
    pub fn line(&self) -> (&str, usize) {
        if self.done { ("", 0) } else { (&self.text, self.cursor) }
    }

    /// Prints the prompt and what has been typed behind it so far, on a row of its own.
    pub fn prompt(&mut self, out: &mut dyn Write) {
        self.settle();
        self.screen.forget();
        self.render(out);
    }

    /// Takes one byte from the terminal and prints its echo to `out`; Tab looks for names in `names`.
    pub fn input(&mut self, byte: u8, names: &dyn Names, out: &mut dyn Write) -> Option<Event<'_>> {
        self.settle();
        let keys = self.keys.feed(byte);
        if self.keys.take_sequence() && self.term == Term::Auto {
            self.screen.ansi = true;
        }
        let mut ended = None;
        for key in keys.into_iter().flatten() {
            ended = self.key(key, names, out);
        }
        self.done = ended.is_some();
        match ended? {
            Ended::Enter if self.dropped > 0 => Some(Event::TooLong(self.dropped)),
            Ended::Enter => {
                if secret_at(&self.text).is_none() {
                    self.history.push(&self.text);
                }
                Some(Event::Line(&self.text))
            }
            Ended::Interrupt => Some(Event::Interrupt),
        }
    }

    /// Drops what has been typed: its rest is lost. The caller prints the prompt again.
    pub fn give_up(&mut self) {
        self.done = true;
        self.settle();
    }

    /// Lets go of a line that was handed out.
    fn settle(&mut self) {
        if core::mem::take(&mut self.done) {
            self.text.clear();
            self.cursor = 0;
            self.from = 0;
            self.dropped = 0;
            self.recalled = None;
            self.search = None;
            self.tabbed = false;
        }
    }

    /// Makes the terminal show prompt and line.
    fn render(&mut self, out: &mut dyn Write) {
        let mut row = Row::default();
        match &self.search {
            None => row.push_all(self.prompt),
            Some(search) => {
                row.push_all(if search.found.is_some() || search.text.is_empty() {
                    "(search '"
                } else {
                    "(not found '"
                });
                let hidden = width(&search.text).saturating_sub(SEARCHED);
                let mut passed = 0;
                for cell in cells(&search.text) {
                    if passed >= hidden {
                        row.push(cell);
                    }
                    passed += width(cell);
                }
                row.push_all("') ");
            }
        }
        if !self.echo {
            let end = row.len();
            return self.screen.show(row, end, out);
        }
        let cursor = self.lay_out(&mut row);
        self.screen.show(row, cursor, out);
    }

    /// Puts what fits of the line behind the prompt in `row`. The answer is the cursor's cell.
    fn lay_out(&mut self, row: &mut Row) -> usize {
        // The last column stays free: terminals differ in what follows a character there.
        let room = self.columns - 1 - row.width(0, row.len()).min(self.columns / 2);
        let secret = secret_at(&self.text).unwrap_or(usize::MAX);
        let (mut shown, mut at, mut cursor) = (Row::default(), 0, None);
        for cell in cells(&self.text) {
            if at >= self.cursor {
                cursor.get_or_insert(shown.len());
            }
            shown.push(if at >= secret { "*" } else { cell });
            at += cell.len();
        }
        let cursor = cursor.unwrap_or(shown.len());
        if shown.width(0, shown.len()) <= room {
            self.from = 0;
        } else {
            // One column on either side says that there is more.
            let window = room - 2;
            let under = shown.width(cursor, cursor + 1).max(1);
            // What stands before the cursor is shown as well, not hidden by the mark of what is left out.
            if (cursor <= self.from && self.from > 0) || shown.width(self.from, cursor) + under > window {
                let mut from = cursor;
                while from > 0 && shown.width(from - 1, cursor) <= window / 2 {
                    from -= 1;
                }
                self.from = from;
            }
        }
        let head = row.len();
        if self.from > 0 {
            row.push("<");
        }
        let marked = row.len();
        let mut used = marked - head;
        for cell in self.from..shown.len() {
            let wide = shown.width(cell, cell + 1);
            let last = cell + 1 == shown.len();
            if used + wide + usize::from(!last) > room {
                row.push(">");
                break;
            }
            used += wide;
            row.push(shown.cell(cell));
        }
        marked + cursor - self.from
    }

    /// Prints a line that its row held a part of, prompt and all, for whoever reads the log of the serial line later.
    /// Nothing is edited on it any more: the terminal may break it where it likes.
    fn show_whole(&self, out: &mut dyn Write) {
        let used = width(self.prompt) + width(&self.text);
        if !self.echo || used < self.columns || self.dropped > 0 {
            return;
        }
        let secret = secret_at(&self.text).unwrap_or(self.text.len());
        let (open, hidden) = self.text.split_at(secret);
        let _ = write!(out, "{}{open}", self.prompt);
        cells(hidden).for_each(|_| {
            let _ = out.write_str("*");
        });
        let _ = out.write_str("\r\n");
    }

    fn bell(&self, out: &mut dyn Write) {
        if self.echo {
            let _ = out.write_str(BELL);
        }
    }

    /// Goes to the start of a new row.
    fn new_row(&mut self, before: &str, out: &mut dyn Write) {
        if self.echo {
            self.screen.go_to_end(out);
            let fits = self.screen.end().is_some_and(|used| used + before.len() < self.columns);
            let _ = write!(out, "{}\r\n", if fits { before } else { "" });
        }
        self.screen.forget();
    }
}
