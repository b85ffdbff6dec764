//! What each key does to the line.

use alloc::string::String;
use core::fmt::Write;

use super::screen::{next, previous};
use super::{Ended, LineEditor, MAX_LINE, Search};
use crate::complete::{Names, secret_at};
use crate::key::Key;
use text::columns;

impl LineEditor {
    pub(super) fn key(&mut self, key: Key, names: &dyn Names, out: &mut dyn Write) -> Option<Ended> {
        match key {
            Key::Enter => {
                self.leave_search();
                self.refresh(out);
                self.new_row("", out);
                self.show_whole(out);
                return Some(Ended::Enter);
            }
            Key::Ctrl(b'C') => {
                self.leave_search();
                self.refresh(out);
                self.new_row("^C", out);
                return Some(Ended::Interrupt);
            }
            Key::Ctrl(b'L') => {
                self.clear_screen(out);
                return None;
            }
            _ => {}
        }
        if self.dropped > 0 {
            self.overfull(key, out);
            return None;
        }
        if self.search.is_some() && self.search_key(key, out) {
            return None;
        }
        let tabbed = core::mem::take(&mut self.tabbed);
        match key {
            Key::Char(c) => return self.insert(c, out),
            Key::Tab => self.tab(tabbed, names, out),
            Key::Backspace => self.cut(previous(&self.text, self.cursor), self.cursor),
            Key::Delete | Key::Ctrl(b'D') => self.cut(self.cursor, next(&self.text, self.cursor)),
            Key::Left | Key::Ctrl(b'B') => self.cursor = previous(&self.text, self.cursor),
            Key::Right | Key::Ctrl(b'F') => self.cursor = next(&self.text, self.cursor),
            Key::WordLeft => self.cursor = self.word_left(),
            Key::WordRight => self.cursor = self.word_right(),
            Key::Home | Key::Ctrl(b'A') => self.cursor = 0,
            Key::End | Key::Ctrl(b'E') => self.cursor = self.text.len(),
            Key::Ctrl(b'U') => self.cut(0, self.cursor),
            Key::Ctrl(b'K') => self.cut(self.cursor, self.text.len()),
            Key::Ctrl(b'W') => self.cut(self.word_left(), self.cursor),
            Key::KillWord => self.cut(self.cursor, self.word_right()),
            Key::Up | Key::Ctrl(b'P') => self.recall(true, out),
            Key::Down | Key::Ctrl(b'N') => self.recall(false, out),
            Key::Ctrl(b'R') => self.begin_search(),
            Key::Ctrl(_) | Key::Enter => {}
        }
        self.refresh(out);
        None
    }

    fn refresh(&mut self, out: &mut dyn Write) {
        if self.echo {
            self.render(out);
        }
    }

    fn clear_screen(&mut self, out: &mut dyn Write) {
        if self.screen.ansi {
            self.screen.forget();
            let _ = out.write_str("\x1b[H\x1b[2J");
        } else {
            self.new_row("", out);
        }
        self.render(out);
    }

    /// `None`, as no character ends the line.
    fn insert(&mut self, c: char, out: &mut dyn Write) -> Option<Ended> {
        // A mark needs something to stand on.
        let before = self.text.get(..self.cursor).unwrap_or_default();
        if columns(c) == 0 && before.chars().next_back().is_none_or(char::is_whitespace) {
            self.bell(out);
            return None;
        }
        if self.text.len() + c.len_utf8() > MAX_LINE {
            self.bell(out);
            self.dropped = c.len_utf8();
            return None;
        }
        let at_end = self.cursor == self.text.len();
        self.text.insert(self.cursor, c);
        self.cursor += c.len_utf8();
        if !self.echo {
            return None;
        }
        // Typing and pasting at the end costs one byte, not a look at the whole line.
        let plain = at_end && (c == ' ' || c.is_ascii_graphic()) && self.search.is_none();
        if plain
            && let Some(before) = self.screen.end()
            && before + 2 < self.columns
            && secret_at(&self.text).is_none()
        {
            self.screen.append(c.encode_utf8(&mut [0; 4]), out);
            return None;
        }
        self.render(out);
        None
    }

    /// Keys on a line that is longer than it may be.
    fn overfull(&mut self, key: Key, out: &mut dyn Write) {
        match key {
            Key::Char(c) => {
                self.dropped = self.dropped.saturating_add(c.len_utf8());
                return;
            }
            // Its characters are not known, so its bytes count as one each.
            Key::Backspace => self.dropped -= 1,
            Key::Ctrl(b'U') => {
                self.dropped = 0;
                self.cursor = self.text.len();
                self.cut(0, self.text.len());
            }
            Key::Ctrl(b'W') => self.dropped = 0,
            _ => self.bell(out),
        }
        self.refresh(out);
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        if from < to && to <= self.text.len() {
            self.text.drain(from..to);
            self.cursor = from;
        }
    }

    fn word_left(&self) -> usize {
        let before = self.text.get(..self.cursor).unwrap_or_default().trim_end();
        before.char_indices().rev().find(|(_, c)| c.is_whitespace()).map_or(0, |(at, c)| at + c.len_utf8())
    }

    fn word_right(&self) -> usize {
        let rest = self.text.get(self.cursor..).unwrap_or_default();
        let gap = rest.len() - rest.trim_start().len();
        let word = rest.get(gap..).and_then(|word| word.find(char::is_whitespace));
        word.map_or(self.text.len(), |len| self.cursor + gap + len)
    }

    fn replace(&mut self, text: &str) {
        self.text.clear();
        self.text.push_str(text);
        self.cursor = self.text.len();
        self.from = 0;
    }

    fn recall(&mut self, older: bool, out: &mut dyn Write) {
        let at = self.recalled.as_ref().map_or(self.history.len(), |(at, _)| *at);
        let to = if older { at.checked_sub(1) } else { Some(at + 1).filter(|to| *to <= self.history.len()) };
        let Some(to) = to else { return self.bell(out) };
        let draft = match self.recalled.take() {
            Some((_, draft)) => draft,
            None => core::mem::take(&mut self.text),
        };
        match self.history.get(to).map(String::from) {
            Some(line) => {
                self.replace(&line);
                self.recalled = Some((to, draft));
            }
            None => self.replace(&draft),
        }
    }

    fn begin_search(&mut self) {
        let before = (core::mem::take(&mut self.text), self.cursor);
        self.replace("");
        self.search = Some(Search { text: String::new(), found: None, before });
    }

    /// Ends a search with the line found, or as it was before.
    fn leave_search(&mut self) {
        if let Some(search) = self.search.take()
            && search.found.is_none()
        {
            (self.text, self.cursor) = search.before;
        }
        self.from = 0;
    }

    /// A key during a search; false where it ends the search and then does what it always does.
    fn search_key(&mut self, key: Key, out: &mut dyn Write) -> bool {
        let Some(search) = &mut self.search else { return false };
        let newest = self.history.len();
        let found = match key {
            // The line that is shown may hold the longer text too.
            Key::Char(c) if search.text.len() + c.len_utf8() <= MAX_LINE => {
                search.text.push(c);
                self.history.find(&search.text, search.found.map_or(newest, |at| at + 1))
            }
            Key::Backspace => {
                let start = previous(&search.text, search.text.len());
                search.text.truncate(start);
                if search.text.is_empty() { None } else { self.history.find(&search.text, newest) }
            }
            Key::Ctrl(b'R') if search.text.is_empty() => None,
            Key::Ctrl(b'R') => {
                let older = self.history.find(&search.text, search.found.unwrap_or(newest));
                if older.is_none() {
                    self.bell(out);
                    return true;
                }
                older
            }
            Key::Ctrl(b'G') => {
                search.found = None;
                self.leave_search();
                self.refresh(out);
                return true;
            }
            _ => {
                self.leave_search();
                return false;
            }
        };
        search.found = found;
        let line = found.and_then(|at| self.history.get(at)).map(String::from).unwrap_or_default();
        let missed = found.is_none() && !search.text.is_empty();
        self.replace(&line);
        if missed {
            self.bell(out);
        }
        self.refresh(out);
        true
    }
}
