//! `watch`: a command that only looks, again and again.

use alloc::string::String;
use core::fmt::Write;
use core::task::Poll;
use shell::{Command, Failure, UtcMicros};

use super::answer::{Done, Task};
use super::out::{CLEAR, Out};
use crate::migration::Migrations;
use crate::wall_clock;
use hw::arch::tsc;

/// What carries a command out.
type Execute = fn(Command<'_>, &mut Migrations, &mut Out<'_>) -> Result<Done, Failure>;

/// A command, and when it is due again.
pub(super) struct Watch {
    line: String,
    /// Between two answers, in microseconds.
    interval_us: u64,
    due_us: u64,
    over: bool,
    execute: Execute,
}

impl Watch {
    pub(super) fn new(line: &str, seconds: u32, execute: Execute) -> Self {
        let interval_us = u64::from(seconds) * 1_000_000;
        Self { line: line.into(), interval_us, due_us: 0, over: false, execute }
    }
}

impl Task for Watch {
    fn poll(&mut self, migrations: &mut Migrations, out: &mut Out<'_>) -> Poll<Result<(), Failure>> {
        if self.over {
            return Poll::Ready(Ok(()));
        }
        let now = tsc::micros();
        if now < self.due_us {
            return Poll::Pending;
        }
        self.due_us = now.saturating_add(self.interval_us);
        // The parser has let it pass as a part of the line.
        let command = match shell::parse(&self.line) {
            Ok(command) => command,
            Err(error) => return Poll::Ready(Err(error.into())),
        };
        // Programs read a document a line, and nothing else.
        if !self.line.split_whitespace().any(|word| word == "--json") {
            let clear = if out.is_ansi() { CLEAR } else { "\n" };
            let time = UtcMicros(wall_clock::start_us().saturating_add(now));
            let _ = writeln!(out, "{clear}{}: any key ends this; {time}\n", self.line);
        }
        match (self.execute)(command, migrations, out) {
            Ok(_) => Poll::Pending,
            // A VM that is gone ends it, say.
            Err(failure) => Poll::Ready(Err(failure)),
        }
    }

    fn interrupt(&mut self) {
        self.over = true;
    }

    fn key(&mut self, _: u8) -> bool {
        self.over = true;
        true
    }
}
