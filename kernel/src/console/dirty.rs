//! `vm dirty`: a meter for the rate at which a guest dirties its memory.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use core::fmt::Write;
use core::task::Poll;
use shell::{Code, Failure, Millis, Output};
use translation::DirtyMethod;

use super::answer::{Done, Job, Task};
use super::out::{Out, json_line};
use crate::migration::Migrations;
use crate::vm::{State, Vm};
use hw::arch::tsc;

fn busy(text: alloc::string::String) -> Failure {
    Failure::new(Code::Busy, text)
}

fn metered(vm: &Arc<Vm>) -> Result<(), Failure> {
    if vm.tracking().is_none() {
        let text = format!("vm {0}'s written pages are not counted: say `vm dirty start {0}`", vm.name);
        return Err(Failure::new(Code::State, text));
    }
    Ok(())
}

pub(super) fn start(vm: Arc<Vm>, method: Option<shell::DirtyMethod>) -> Result<Done, Failure> {
    if let Some(method) = vm.tracking() {
        return Err(busy(format!(
            "vm {}'s written pages are counted already, by {}",
            vm.name,
            method.name()
        )));
    }
    let state = vm.state();
    if !matches!(state, State::Running | State::Paused) {
        return Err(Failure::new(Code::State, format!("vm {} is {}", vm.name, state.name())));
    }
    let method = match method {
        None => Vm::best_method(),
        Some(shell::DirtyMethod::Pml) => DirtyMethod::Pml,
        Some(shell::DirtyMethod::AccessDirty) => DirtyMethod::AccessDirty,
        Some(shell::DirtyMethod::WriteProtect) => DirtyMethod::WriteProtect,
    };
    if let Some(lacking) = Vm::lacks(method) {
        return Err(Failure::new(Code::Unsupported, format!("this host's CPU lacks {lacking}")));
    }
    Ok(counting(vm, Work::Start(method)))
}

pub(super) fn harvest(vm: Arc<Vm>, output: Output) -> Result<Done, Failure> {
    metered(&vm)?;
    Ok(counting(vm, Work::Harvest { output, ticks: 0 }))
}

pub(super) fn stop(vm: Arc<Vm>) -> Result<Done, Failure> {
    metered(&vm)?;
    Ok(counting(vm, Work::Stop))
}

fn counting(vm: Arc<Vm>, work: Work) -> Done {
    Done::Later(Job::Task(Box::new(Counting { vm, work, interrupted: false })))
}

enum Work {
    Start(DirtyMethod),
    Harvest {
        output: Output,
        /// What it has taken so far.
        ticks: u64,
    },
    /// What was harvested is counted and forgotten, from this page on.
    Forget {
        from: u64,
        pages: u64,
        output: Output,
        ticks: u64,
    },
    Stop,
}

/// A command on its way: the tables of a large VM take seconds.
struct Counting {
    vm: Arc<Vm>,
    work: Work,
    interrupted: bool,
}

impl Task for Counting {
    fn poll(&mut self, _: &mut Migrations, out: &mut Out<'_>) -> Poll<Result<(), Failure>> {
        let vm = &self.vm;
        let state = vm.state();
        if matches!(state, State::Resetting | State::Ending) {
            let text = format!("vm {} is {} now: nothing is counted", vm.name, state.name());
            return Poll::Ready(Err(Failure::new(Code::Failed, text)));
        }
        if self.interrupted {
            return Poll::Ready(match self.work {
                Work::Start(_) => {
                    vm.stop_tracking();
                    Err(Failure::new(Code::Failed, "interrupted: nothing is counted"))
                }
                Work::Harvest { .. } | Work::Forget { .. } => Err(Failure::new(Code::Failed, "interrupted")),
                Work::Stop => {
                    vm.stop_tracking(); // goes on by itself
                    Ok(())
                }
            });
        }
        match &mut self.work {
            Work::Start(method) => vm.start_tracking(*method).map(|started| {
                started.map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
                let _ = writeln!(out, "dirty: counted by {}", method.name());
                Ok(())
            }),
            Work::Harvest { output, ticks } => {
                let before = tsc::read();
                let harvested = vm.harvest();
                *ticks += tsc::read() - before;
                if harvested.is_ready() {
                    self.work = Work::Forget { from: 0, pages: 0, output: *output, ticks: *ticks };
                }
                Poll::Pending
            }
            Work::Forget { from, pages, output, ticks } => {
                // What `top` harvests meanwhile is either counted here, or is there the next time.
                let before = vm.to_send.count();
                let next = vm.to_send.clear_some(*from, translation::STEP / 2);
                *pages += before - vm.to_send.count();
                if let Some(next) = next {
                    *from = next;
                    return Poll::Pending;
                }
                tell(*pages, *output, *ticks, out);
                Poll::Ready(Ok(()))
            }
            Work::Stop => vm.end_tracking().map(Ok),
        }
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
    }
}

fn tell(pages: u64, output: Output, ticks: u64, out: &mut Out<'_>) {
    let us = tsc::ns(ticks) / 1000;
    if output == Output::Json {
        json_line(out, |o| {
            o.field("pages", pages)?;
            o.field("ticks", ticks)?;
            o.field("us", us)
        });
    } else {
        let _ = writeln!(out, "dirty: {pages} pages, {ticks} ticks ({})", Millis(us));
    }
}
