//! Booting a VM again. Whoever orders a reset need not wait for it: it goes on by itself on CPU 0, in the order and the steps
//! of [`::making::Reset`].

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::task::Poll;

use ::making::{End, Reset, Silent, Subject, Turn};
use devices::Platform;
use spin::Mutex;

use super::loading::Loading;
use super::outcome::Outcome;
use super::source::Source;
use super::tracking::Watched;
use super::{Change, State, StopReason, Vm};
use crate::arch::tsc;
use crate::meter::{self, Part};
use crate::mm::guest::Cleared;
use crate::vmx::flush::Flushing;

/// A VM that is being reset.
struct Resetting {
    reset: Reset,
    subject: Being,
    outcome: Outcome,
    /// For the log: who wanted it.
    why: &'static str,
}

/// What there is of it.
struct Being {
    vm: Arc<Vm>,
    /// What it boots from, with the options that are to be in force then.
    source: Source,
    /// What watches it; none before that was looked at.
    watched: Option<Watched>,
    cleared: Cleared,
    loading: Option<Loading>,
    flushing: Option<Flushing>,
}

/// All of them.
static RESETS: Mutex<Vec<Resetting>> = Mutex::new(Vec::new());

/// Boots a VM again, whatever its guest does now: as a reset button would. The time line goes on, what watches it ends.
/// `source`: what it boots from, with the options that are to be in force from then on; `why`: what the log says behind
/// `booted anew`. The answer tells how it ends.
///
/// # Errors
/// The state of the VM, in words; nothing has begun.
pub(crate) fn order(vm: &Arc<Vm>, source: Source, why: &'static str) -> Result<Outcome, String> {
    vm.apply(Change::Reset)?;
    log::info!(target: "vm", "vm {}: resetting", vm.name);
    let outcome = Outcome::default();
    let subject = Being {
        vm: Arc::clone(vm),
        source,
        watched: None,
        cleared: Cleared::default(),
        loading: None,
        flushing: None,
    };
    let reset = Reset::new(tsc::micros());
    RESETS.lock().push(Resetting { reset, subject, outcome: outcome.clone(), why });
    Ok(outcome)
}

/// Goes on with all of them for a bounded time. False where none has anything to do.
pub(crate) fn poll() -> bool {
    let mut resets = core::mem::take(&mut *RESETS.lock());
    if resets.is_empty() {
        return false;
    }
    meter::doing(Part::Reset);
    let until = super::steps_until();
    let mut worked = false;
    resets.retain_mut(|resetting| resetting.poll(until, &mut worked));
    // They have their turns in turn.
    if resets.len() > 1 {
        resets.rotate_left(1);
    }
    let mut ordered = RESETS.lock();
    resets.append(&mut ordered);
    *ordered = resets;
    worked
}

impl Resetting {
    /// False once it is over.
    fn poll(&mut self, until: u64, worked: &mut bool) -> bool {
        loop {
            match self.reset.step(tsc::micros(), &mut self.subject) {
                Turn::Working => *worked = true,
                Turn::Waiting => return true,
                Turn::Late(cpu) => {
                    self.late(cpu);
                    return true;
                }
                Turn::Over(end) => {
                    self.over(end);
                    return false;
                }
            }
            if tsc::read() >= until {
                return true;
            }
        }
    }

    fn late(&self, cpu: usize) {
        let silent = Silent { vm: self.subject.vm.name.owned(), cpu, then: "it is reset" };
        log::error!(target: "vm", "{silent}");
        self.outcome.set(Err(alloc::format!("{silent}")));
    }

    fn over(&mut self, end: End) {
        let vm = &self.subject.vm;
        let result = match end {
            End::Anew => {
                vm.restarts.lock().began(tsc::micros());
                vm.apply(Change::Anew).and_then(|()| vm.apply(Change::Run)).inspect(|()| {
                    log::info!(target: "vm", "vm {}: booted anew{}", vm.name, self.why);
                })
            }
            End::Gone => Err(alloc::format!("vm {} is {}: it is not reset", vm.name, vm.state().name())),
            End::Failed(why) => {
                log::error!(target: "vm", "vm {}: stopped: it cannot boot anew: {why}", vm.name);
                *vm.stop_reason.lock() = Some(StopReason::Error(why.clone()));
                let _ = vm.apply(Change::Fail);
                Err(why)
            }
        };
        self.outcome.set(result);
    }
}

impl Subject for Being {
    fn is_wanted(&self) -> bool {
        self.vm.state() == State::Resetting
    }

    fn holder(&mut self) -> Option<usize> {
        self.vm.holder()
    }

    fn unwatch(&mut self) -> Poll<()> {
        let vm = &self.vm;
        let watched = self.watched.get_or_insert_with(|| vm.watched());
        vm.unwatch(watched)
    }

    fn clear(&mut self, most: u64) -> bool {
        self.vm.memory.clear_some(&mut self.cleared, most)
    }

    fn renew(&mut self) -> Result<(), String> {
        let vm = &self.vm;
        *vm.stop_reason.lock() = None;
        vm.empty_uart();
        *vm.platform.lock() = Platform::new(&vm.board);
        for slot in &vm.vcpus {
            // A vCPU that stopped by itself may have been asked for something that it never did.
            slot.requests.store(0, Ordering::Release);
        }
        Ok(())
    }

    fn load(&mut self) -> Result<(), String> {
        self.loading = Some(Loading::begin(&self.vm, &self.source)?);
        Ok(())
    }

    fn copy(&mut self, most: usize) -> Result<bool, String> {
        self.loading.as_mut().map_or(Ok(false), |loading| loading.step(&self.vm, &self.source, most))
    }

    fn flush(&mut self) -> Poll<()> {
        let vm = &self.vm;
        let flushing = self.flushing.get_or_insert_with(|| Flushing::ask(&vm.ran_on, vm.mmu.lock().root()));
        if flushing.waits_for().is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}
