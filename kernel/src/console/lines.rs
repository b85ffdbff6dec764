//! Lines of the log for whoever asks: step by step, for all at once would hold CPU 0 for milliseconds.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::task::Poll;
use shell::{Failure, Output, UtcMicros};

use super::answer::{Job, Task};
use super::out::Out;
use crate::log as host_log;
use crate::migration::Migrations;
use crate::wall_clock;

/// Bytes looked at in one step.
const STEP: usize = 2048;

/// Where the lines come from.
enum Source {
    /// The ring, from a byte to another, counted since the start; what is written meanwhile is not for this answer.
    Ring { at: u64, end: u64 },
    /// The ring, from a byte on, without an end.
    Follow { at: u64 },
    /// The log of the boot before.
    Text(&'static [u8]),
}

/// The answer on its way.
struct Lines {
    source: Source,
    /// Only those that have this word.
    named: Option<String>,
    /// What is said where there are none.
    none: Option<Failure>,
    output: Output,
    /// Times are those of the wall clock.
    utc: bool,
    /// The instant of the start, in microseconds since 1970; none for another boot's lines.
    start_us: Option<u64>,
    /// The last one so far.
    line: Vec<u8>,
    /// The bytes up to the next end of a line belong to one whose beginning is gone.
    cut: bool,
    any: bool,
}

/// The log of this boot.
pub(super) fn recent(named: Option<String>, utc: bool, output: Output) -> Job {
    let end = host_log::written();
    task(Lines { utc, ..Lines::new(Source::Ring { at: 0, end }, named, output) })
}

/// What the ring still holds of a VM that is not here any more, or that `none` is true.
pub(super) fn of_one_gone(name: &str, none: Failure, utc: bool, output: Output) -> Job {
    let source = Source::Ring { at: 0, end: host_log::written() };
    task(Lines { none: Some(none), utc, ..Lines::new(source, Some(name.into()), output) })
}

/// The lines that are still to come.
pub(super) fn follow(utc: bool) -> Job {
    task(Lines { utc, ..Lines::new(Source::Follow { at: host_log::written() }, None, Output::Text) })
}

/// The log of the boot before; none where memory did not keep it.
pub(super) fn previous(output: Output) -> Option<Job> {
    let text = host_log::previous();
    let job = |text: &'static str| {
        task(Lines { start_us: None, ..Lines::new(Source::Text(text.as_bytes()), None, output) })
    };
    match output {
        Output::Json => Some(job(text.unwrap_or_default())),
        Output::Text => text.map(job),
    }
}

fn task(lines: Lines) -> Job {
    Job::Task(Box::new(lines))
}

impl Lines {
    fn new(source: Source, named: Option<String>, output: Output) -> Self {
        Self {
            source,
            named,
            none: None,
            output,
            utc: false,
            start_us: Some(wall_clock::start_us()),
            line: Vec::new(),
            cut: false,
            any: false,
        }
    }

    /// The next bytes. False where there are no more.
    fn step(&mut self, out: &mut Out<'_>) -> bool {
        let mut piece = [0; STEP];
        let count = match &mut self.source {
            Source::Ring { at, end } => {
                let most = usize::try_from(*end - *at).unwrap_or(STEP).min(STEP);
                let (from, count) = host_log::read(*at, piece.get_mut(..most).unwrap_or_default());
                if from != *at {
                    // Lines that came meanwhile have taken its place.
                    self.line.clear();
                    self.cut = true;
                }
                *at = from.saturating_add(count as u64).min(*end);
                if from < *end { count } else { 0 }
            }
            Source::Follow { at } => {
                let (from, count) = host_log::read(*at, &mut piece);
                if from > *at {
                    let _ = writeln!(out, "[{} bytes of the log were overwritten]", from - *at);
                    self.line.clear();
                    self.cut = true;
                }
                *at = from.max(*at).saturating_add(count as u64);
                count
            }
            Source::Text(text) => {
                let (now, rest) = text.split_at(text.len().min(STEP));
                piece.get_mut(..now.len()).unwrap_or_default().copy_from_slice(now);
                *text = rest;
                now.len()
            }
        };
        for byte in piece.get(..count).unwrap_or_default() {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = core::mem::take(&mut self.line);
            if !core::mem::take(&mut self.cut) {
                self.print(&String::from_utf8_lossy(&line), out);
            }
        }
        count > 0
    }

    fn print(&mut self, line: &str, out: &mut Out<'_>) {
        if self.named.as_ref().is_some_and(|name| !has_word(line, name)) {
            return;
        }
        let first = !core::mem::replace(&mut self.any, true);
        let stamped = time_stamp(line);
        let unix_us = stamped.zip(self.start_us).map(|((us, _), start)| start.saturating_add(us));
        if self.output == Output::Text {
            let _ = match unix_us.filter(|_| self.utc).zip(stamped) {
                Some((unix_us, (_, text))) => writeln!(out, "{} {text}", UtcMicros(unix_us)),
                None => writeln!(out, "{line}"),
            };
            return;
        }
        let _ = out.write_char(if first { '[' } else { ',' });
        let _ = json::object(out, |o| {
            o.field("us", stamped.map(|(micros, _)| micros))?;
            o.field("unix_us", unix_us)?;
            o.field("text", stamped.map_or(line, |(_, text)| text))
        });
    }
}

impl Task for Lines {
    fn poll(&mut self, _: &mut Migrations, out: &mut Out<'_>) -> Poll<Result<(), Failure>> {
        if self.step(out) || matches!(self.source, Source::Follow { .. }) {
            return Poll::Pending;
        }
        if let Some(none) = self.none.take_if(|_| !self.any) {
            return Poll::Ready(Err(none));
        }
        if self.output == Output::Json {
            let _ = out.write_str(if self.any { "]\n" } else { "[]\n" });
        }
        Poll::Ready(Ok(()))
    }

    fn is_paged(&self) -> bool {
        !matches!(self.source, Source::Follow { .. })
    }

    fn interrupt(&mut self) {
        self.source = Source::Text(&[]);
    }
}

/// Where a line of the log begins: `[    1.234567] `.
fn time_stamp(line: &str) -> Option<(u64, &str)> {
    let (stamp, text) = line.strip_prefix('[')?.split_once("] ")?;
    let (seconds, micros) = stamp.trim_start().split_once('.')?;
    let micros = seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros.parse().ok()?)?;
    Some((micros, text))
}

/// Whether a line names a VM, and not one whose name only begins or ends so.
fn has_word(line: &str, name: &str) -> bool {
    let in_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    line.match_indices(name).any(|(at, found)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + found.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(in_word) && !after.is_some_and(in_word)
    })
}
