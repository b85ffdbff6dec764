//! Lines that were run.

use alloc::collections::VecDeque;
use alloc::string::String;

/// Most lines kept.
const LINES: usize = 100;
/// Most bytes kept in all.
const BYTES: usize = 16 << 10;

/// The last lines, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    lines: VecDeque<String>,
    bytes: usize,
}

impl History {
    /// Keeps a line, unless it is the same as the last one.
    pub(super) fn push(&mut self, line: &str) {
        if line.trim().is_empty() || self.lines.back().is_some_and(|last| last == line) {
            return;
        }
        self.bytes += line.len();
        self.lines.push_back(line.into());
        while self.lines.len() > LINES || self.bytes > BYTES {
            let Some(gone) = self.lines.pop_front() else { return };
            self.bytes -= gone.len();
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The line with this number, 0 the oldest.
    pub(super) fn get(&self, at: usize) -> Option<&str> {
        self.lines.get(at).map(String::as_str)
    }

    /// The newest line before number `before` that contains `text`.
    pub(super) fn find(&self, text: &str, before: usize) -> Option<usize> {
        (0..before.min(self.len())).rev().find(|at| self.get(*at).is_some_and(|line| line.contains(text)))
    }
}
