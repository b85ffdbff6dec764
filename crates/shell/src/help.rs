//! `help`, from the table.

use alloc::string::ToString;
use core::fmt::{self, Write};

use text::COLUMNS;

use crate::table::{COMMANDS, Spec};

/// Prints the list of commands, without their options, or all about those that begin with the words of `topic`.
///
/// # Errors
/// Only those of `out`.
pub fn write_help(topic: Option<&str>, out: &mut impl Write) -> fmt::Result {
    let Some(topic) = topic else { return list(out) };
    let about = |spec: &&Spec| {
        let mut words = spec.words.iter();
        topic.split_whitespace().all(|t| words.next() == Some(&t))
    };
    for (i, spec) in COMMANDS.iter().filter(about).enumerate() {
        if i > 0 {
            out.write_char('\n')?;
        }
        explain(spec, out)?;
    }
    Ok(())
}

fn list(out: &mut impl Write) -> fmt::Result {
    let widest = COMMANDS.iter().map(width).max().unwrap_or(0);
    for spec in COMMANDS {
        let gap = widest - width(spec) + 2;
        writeln!(out, "  {}{:gap$}{}", spec.brief(), "", spec.summary)?;
    }
    Ok(())
}

fn explain(spec: &Spec, out: &mut impl Write) -> fmt::Result {
    wrap(&spec.usage().to_string(), "", "    ", out)?;
    wrap(spec.summary, "  ", "  ", out)?;
    wrap(spec.details, "  ", "  ", out)
}

/// Prints a paragraph, broken between words; `first` and `next` indent its lines.
fn wrap(text: &str, first: &str, next: &str, out: &mut impl Write) -> fmt::Result {
    let mut column = 0;
    for (at, word) in text.split_whitespace().enumerate() {
        let wide = word.chars().count();
        let gap = if at == 0 {
            first
        } else if column + 1 + wide >= COLUMNS {
            column = 0;
            out.write_char('\n')?;
            next
        } else {
            " "
        };
        column += gap.len() + wide;
        write!(out, "{gap}{word}")?;
    }
    if column > 0 { out.write_char('\n') } else { Ok(()) }
}

fn width(spec: &Spec) -> usize {
    let mut count = Count(0);
    // Counting cannot fail.
    let _ = write!(count, "{}", spec.brief());
    count.0
}

struct Count(usize);

impl Write for Count {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0 += s.chars().count();
        Ok(())
    }
}
