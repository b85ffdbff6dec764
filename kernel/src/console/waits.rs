//! Commands that wait for what goes on by itself: Ctrl-C ends the wait, and not what is waited for.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::task::Poll;

use making::{Patience, Silent};
use shell::{Code, Failure};

use super::answer::{Done, Job, Task};
use super::out::Out;
use crate::migration::Migrations;
use crate::vm::outcome::Outcome;
use crate::vm::{State, Vm};
use hw::arch::tsc;

fn not_waited_for(what: &str) -> Failure {
    Failure::new(Code::Failed, format!("not waited for: {what}"))
}

/// Waits for a reset or for a VM's end. `goes_on`: what is so after Ctrl-C.
pub(super) fn outcome(outcome: Outcome, goes_on: String) -> Done {
    wait(goes_on, move || outcome.get())
}

/// Waits for a change of a VM's tables that goes on by itself. `goes_on`: what is so after Ctrl-C.
pub(super) fn change(vm: Arc<Vm>, goes_on: String) -> Done {
    wait(goes_on, move || (!vm.is_changing()).then_some(Ok(())))
}

fn wait(goes_on: String, ended: impl Fn() -> Option<Result<(), String>> + Send + 'static) -> Done {
    Done::Later(Job::Task(Box::new(Waiting { ended: Box::new(ended), goes_on, interrupted: false })))
}

struct Waiting {
    /// How it ended, once it has.
    ended: Box<dyn Fn() -> Option<Result<(), String>> + Send>,
    goes_on: String,
    interrupted: bool,
}

impl Task for Waiting {
    fn poll(&mut self, _: &mut Migrations, _: &mut Out<'_>) -> Poll<Result<(), Failure>> {
        match (self.ended)() {
            Some(result) => Poll::Ready(result.map_err(|why| Failure::new(Code::Failed, why))),
            None if self.interrupted => Poll::Ready(Err(not_waited_for(&self.goes_on))),
            None => Poll::Pending,
        }
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
    }
}

/// Waits until every vCPU of a VM that was paused is off.
pub(super) fn pause(vm: Arc<Vm>) -> Done {
    if vm.holder().is_none() {
        return Done::Now;
    }
    let patience = Patience::new(tsc::micros());
    Done::Later(Job::Task(Box::new(Pausing { vm, patience, interrupted: false })))
}

struct Pausing {
    vm: Arc<Vm>,
    patience: Patience,
    interrupted: bool,
}

impl Task for Pausing {
    fn poll(&mut self, _: &mut Migrations, _: &mut Out<'_>) -> Poll<Result<(), Failure>> {
        let (name, state) = (self.vm.name.owned(), self.vm.state());
        if state != State::Paused {
            let text = format!("vm {name} is {} now", state.name());
            return Poll::Ready(Err(Failure::new(Code::Failed, text)));
        }
        let Some(cpu) = self.vm.holder() else { return Poll::Ready(Ok(())) };
        if self.interrupted {
            return Poll::Ready(Err(not_waited_for(&format!(
                "vm {name} pauses once CPU {cpu} leaves its guest"
            ))));
        }
        if self.patience.ends(tsc::micros()) {
            let silent = Silent { vm: name, cpu, then: "it pauses" };
            return Poll::Ready(Err(Failure::new(Code::Failed, silent.to_string())));
        }
        Poll::Pending
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
    }
}
