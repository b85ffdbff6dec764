//! The demo as lines of text.

use std::io::{IsTerminal, Write};
use std::time::Instant;
use testbench::migration::Round;
use testbench::scenario::Observer;

/// Tells the steps with the time that has passed.
pub(super) struct Plain {
    started: Instant,
}

impl Plain {
    pub(super) fn new(started: Instant) -> Self {
        Self { started }
    }

    fn say(&self, text: &str) {
        let bold = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        println!("{}[{:6.1} s]{} {text}", bold.0, self.started.elapsed().as_secs_f64(), bold.1);
        let _ = std::io::stdout().flush();
    }
}

impl Observer for Plain {
    fn step(&mut self, text: &str) {
        self.say(text);
    }

    fn round(&mut self, round: Round) {
        let Round { number, pages, zero, bytes, dirty, ticks } = round;
        let kib = bytes / 1024;
        self.say(&format!(
            "  round {number}: {pages} pages ({zero} zero), {kib} KiB, {dirty} dirty meanwhile, {:.1} M ticks",
            ticks as f64 / 1e6
        ));
    }
}
