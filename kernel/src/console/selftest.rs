//! `selftest`: the host checks itself while it does its work, a step at a time.

use alloc::boxed::Box;
use alloc::format;
use core::fmt::Write;
use core::task::Poll;
use shell::{Code, Failure, Folded, Output};

use super::answer::{Job, Task};
use super::out::Out;
use crate::migration::Migrations;
use crate::selftest::{Running, Step};

pub(super) fn start(output: Output) -> Job {
    Job::Task(Box::new(Checking { running: Running::default(), output, interrupted: false }))
}

/// The command on its way.
struct Checking {
    running: Running,
    output: Output,
    interrupted: bool,
}

impl Task for Checking {
    fn poll(&mut self, _: &mut Migrations, out: &mut Out<'_>) -> Poll<Result<(), Failure>> {
        if self.interrupted {
            return Poll::Ready(Err(Failure::new(Code::Failed, "interrupted: the rest was not tried")));
        }
        let text = self.output == Output::Text;
        let report = match self.running.step() {
            Step::Goes => return Poll::Pending,
            Step::Line(line) => {
                if text {
                    let _ = writeln!(Folded::new(out), "{line}");
                }
                return Poll::Pending;
            }
            Step::Over(report) => report,
        };
        let [passed, failed, not_tried] = report.counts();
        let _ = if text {
            writeln!(out, "selftest: {passed} passed, {failed} failed, {not_tried} not tried")
        } else {
            report.write_json(out).and_then(|()| out.write_char('\n'))
        };
        Poll::Ready(match failed {
            0 => Ok(()),
            1 => Err(Failure::new(Code::Failed, "1 check failed: its line names the cure")),
            _ => {
                Err(Failure::new(Code::Failed, format!("{failed} checks failed: their lines name the cures")))
            }
        })
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
    }
}
