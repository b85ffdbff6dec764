//! Tab: as much of a word as can only be meant, and a list on the second one.

use alloc::string::String;
use core::fmt::Write;

use super::screen::width;
use super::{LineEditor, MAX_LINE};
use crate::complete::{Completion, Names, complete};

/// Most candidates that are listed.
const LISTED: usize = 200;

impl LineEditor {
    pub(super) fn tab(&mut self, again: bool, names: &dyn Names, out: &mut dyn Write) {
        let before = self.text.get(..self.cursor).unwrap_or_default();
        let Completion { start, candidates } = complete(before, names);
        let typed = self.cursor.saturating_sub(start);
        let Some(first) = candidates.first() else { return self.bell(out) };
        let mut common = first.as_str();
        for other in &candidates {
            let same = common.chars().zip(other.chars()).take_while(|(a, b)| a == b);
            let len = same.map(|(c, _)| c.len_utf8()).sum();
            common = common.get(..len).unwrap_or_default();
        }
        let mut addition = String::from(common.get(typed..).unwrap_or_default());
        let behind = self.text.get(self.cursor..).unwrap_or_default();
        if candidates.len() == 1 && !common.ends_with('=') && !behind.starts_with(' ') {
            addition.push(' ');
        }
        if self.text.len() + addition.len() > MAX_LINE {
            return self.bell(out);
        }
        if !addition.is_empty() {
            self.text.insert_str(self.cursor, &addition);
            self.cursor += addition.len();
        } else if again {
            self.list(&candidates, out);
        } else {
            self.bell(out);
            self.tabbed = true;
        }
    }

    /// Lists candidates in columns below the line. The prompt follows when the line is rendered.
    fn list(&mut self, candidates: &[String], out: &mut dyn Write) {
        self.new_row("", out);
        if !self.echo {
            return;
        }
        let shown = candidates.get(..LISTED).unwrap_or(candidates);
        let wide = shown.iter().map(|name| width(name)).max().unwrap_or(0) + 2;
        let across = ((self.columns - 1) / wide).max(1);
        for row in shown.chunks(across) {
            for (at, name) in row.iter().enumerate() {
                let gap = if at + 1 == row.len() { 0 } else { wide.saturating_sub(width(name)) };
                let _ = write!(out, "{name}{:gap$}", "");
            }
            let _ = out.write_str("\r\n");
        }
        if candidates.len() > LISTED {
            let _ = write!(out, "and {} more\r\n", candidates.len() - LISTED);
        }
    }
}
