//! `events`.

use core::task::Poll;
use shell::{Failure, Output};

use super::answer::Task;
use super::out::Out;
use crate::migration::Migrations;
use crate::{events, wall_clock};

/// Events printed in one step.
const STEP: usize = 16;

/// The events on their way to whoever asked.
pub(super) struct Events {
    /// The number of the next one.
    next: u64,
    /// That of the first which is not for this answer; none where all are that come.
    end: Option<u64>,
    utc: bool,
    output: Output,
}

impl Events {
    pub(super) fn new(follow: bool, utc: bool, output: Output) -> Self {
        Self { next: 0, end: (!follow).then(events::next), utc, output }
    }
}

impl Task for Events {
    fn poll(&mut self, _: &mut Migrations, out: &mut Out<'_>) -> Poll<Result<(), Failure>> {
        let start_us = wall_clock::start_us();
        for _ in 0..STEP {
            let wanted = |number: &u64| self.end.is_none_or(|end| *number < end);
            let Some((number, event)) = events::get(self.next).filter(|(number, _)| wanted(number)) else {
                return if self.end.is_some() { Poll::Ready(Ok(())) } else { Poll::Pending };
            };
            self.next = number + 1;
            // The console cannot fail.
            let _ = match self.output {
                Output::Text => event.write_text(self.utc.then_some(start_us), out),
                Output::Json => event.write_json(start_us, out),
            };
        }
        Poll::Pending
    }

    fn is_paged(&self) -> bool {
        self.end.is_some()
    }

    fn interrupt(&mut self) {
        self.end = Some(0);
    }
}
