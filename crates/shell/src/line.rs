//! Line editing that asks nothing of the terminal but BS, CR and LF.

use alloc::string::String;
use core::fmt::Write;

use crate::format::columns;
use crate::key::{Key, KeyDecoder};

/// Longest line in bytes. A longer one is refused whole: its beginning alone could mean something else.
pub const MAX_LINE: usize = 1024;

const BELL: &str = "\x07";
const RUB_OUT: &str = "\x08 \x08";

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
    /// Bytes behind [`MAX_LINE`] that were not kept.
    dropped: usize,
    /// `text` was handed out and is cleared with the next byte.
    done: bool,
    echo: bool,
    keys: KeyDecoder,
}

impl LineEditor {
    /// An empty line behind `prompt`.
    #[must_use]
    pub fn new(prompt: &'static str) -> Self {
        Self { prompt, text: String::new(), dropped: 0, done: false, echo: true, keys: KeyDecoder::default() }
    }

    /// Whether what is typed is shown; a script may want it off.
    pub fn set_echo(&mut self, echo: bool) {
        self.echo = echo;
    }

    /// Prints the prompt and what has been typed behind it so far.
    pub fn prompt(&self, out: &mut impl Write) {
        let typed = if self.echo && !self.done { self.text.as_str() } else { "" };
        // A console that cannot print can be told nothing either.
        let _ = write!(out, "{}{typed}", self.prompt);
    }

    /// Takes one byte from the terminal and prints its echo to `out`.
    pub fn input(&mut self, byte: u8, out: &mut impl Write) -> Option<Event<'_>> {
        if core::mem::take(&mut self.done) {
            self.text.clear();
            self.dropped = 0;
        }
        let keys = self.keys.feed(byte);
        let mut ended = None;
        for key in keys.into_iter().flatten() {
            ended = self.key(key, out);
        }
        self.done = ended.is_some();
        match ended? {
            Ended::Enter if self.dropped > 0 => Some(Event::TooLong(self.dropped)),
            Ended::Enter => Some(Event::Line(&self.text)),
            Ended::Interrupt => Some(Event::Interrupt),
        }
    }

    fn key(&mut self, key: Key, out: &mut impl Write) -> Option<Ended> {
        match key {
            Key::Char(c) => self.insert(c, out),
            Key::Tab => self.insert(' ', out),
            Key::Backspace => self.rub_out(out),
            Key::Ctrl(b'U') => self.rub_out_while(|_| true, out),
            Key::Ctrl(b'W') => {
                self.rub_out_while(char::is_whitespace, out);
                self.rub_out_while(|c| !c.is_whitespace(), out);
            }
            Key::Ctrl(b'L' | b'R') => {
                self.echo("\r\n", out);
                self.prompt(out);
            }
            Key::Ctrl(b'C') => {
                self.echo("^C\r\n", out);
                return Some(Ended::Interrupt);
            }
            Key::Enter => {
                self.echo("\r\n", out);
                return Some(Ended::Enter);
            }
            Key::Ctrl(_)
            | Key::Delete
            | Key::Up
            | Key::Down
            | Key::Left
            | Key::Right
            | Key::Home
            | Key::End => {}
        }
        None
    }

    fn insert(&mut self, c: char, out: &mut impl Write) {
        if self.dropped == 0 && self.text.len() + c.len_utf8() <= MAX_LINE {
            self.text.push(c);
            self.echo(c.encode_utf8(&mut [0; 4]), out);
            return;
        }
        if self.dropped == 0 {
            self.echo(BELL, out);
        }
        self.dropped = self.dropped.saturating_add(c.len_utf8());
    }

    fn rub_out(&mut self, out: &mut impl Write) {
        // What was dropped was never shown. Its characters are not known, so its bytes count as one each.
        if self.dropped > 0 {
            self.dropped -= 1;
        } else if let Some(c) = self.text.pop() {
            self.rubbed(c, out);
        }
    }

    fn rub_out_while(&mut self, fits: impl Fn(char) -> bool, out: &mut impl Write) {
        self.dropped = 0;
        while let Some(c) = self.text.pop_if(&fits) {
            self.rubbed(c, out);
        }
    }

    fn rubbed(&self, c: char, out: &mut impl Write) {
        for _ in 0..columns(c) {
            self.echo(RUB_OUT, out);
        }
    }

    fn echo(&self, text: &str, out: &mut impl Write) {
        if self.echo {
            let _ = out.write_str(text);
        }
    }
}

enum Ended {
    Enter,
    Interrupt,
}

/// `String::pop` under a condition.
trait PopIf {
    fn pop_if(&mut self, fits: impl Fn(char) -> bool) -> Option<char>;
}

impl PopIf for String {
    fn pop_if(&mut self, fits: impl Fn(char) -> bool) -> Option<char> {
        if fits(self.chars().next_back()?) { self.pop() } else { None }
    }
}
