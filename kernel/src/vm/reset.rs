//! Booting a VM again. Whoever orders a reset need not wait for it: it goes on by itself on CPU 0, in the order and the steps
//! of [`::making::Reset`].

#[cfg(test)]
mod tests;

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::task::Poll;

use ::making::{End, Reset, Silent, Subject, Turn};
use cpu_policy::{Feature, GuestPolicy};
use devices::{LocalApic, Platform, PlatformConfig};

use super::loading::Loading;
use super::outcome::Outcome;
use super::source::Source;
use super::tracking::Watched;
use super::{Change, State, StopReason, Vm, create, files};
use crate::lock::{self, Mutex};
use crate::meter::{self, Part};
use hw::arch::tsc;
use hw::mm::guest::Cleared;
use hw::vmx::flush::Flushing;
use hw::vmx::host;

/// What a VM is to boot anew from.
pub(crate) struct Anew {
    /// Options, kernel and modules, all of them here.
    pub(crate) source: Source,
    /// What it sees of CPUs from then on, where that is to change.
    pub(crate) policy: Option<GuestPolicy>,
    /// What the log says after `booted anew`: who wanted it.
    pub(crate) why: &'static str,
}

impl Vm {
    /// What its board is made of, as its policy is now.
    pub(crate) fn board(&self) -> PlatformConfig {
        let policy = self.policy();
        PlatformConfig {
            x2apic: policy.has(Feature::X2apic),
            tsc_deadline: policy.has(Feature::TscDeadline),
            ..self.board
        }
    }

    /// Another policy is in force from now on. No vCPU is on a CPU, and none has a state that is worth keeping.
    fn take_policy(&self, policy: GuestPolicy) {
        let policy = Arc::new(policy);
        self.msr_bitmaps.close();
        if let Some(cpu) = host::boot_cpu() {
            create::pass_msrs(&policy, &self.msr_bitmaps, cpu);
        }
        for slot in &self.vcpus {
            slot.vcpu.lock().vcpu.take_policy(Arc::clone(&policy));
        }
        log::info!(target: "vm", "vm {}: level {} from now on", self.name, policy.level_name());
        *self.policy.lock() = policy;
    }
}

/// A VM that is being reset.
struct Resetting {
    reset: Reset,
    subject: Being,
    outcome: Outcome,
}

/// What there is of it.
struct Being {
    vm: Arc<Vm>,
    anew: Anew,
    /// What watches it; none before that was looked at.
    watched: Option<Watched>,
    cleared: Cleared,
    loading: Option<Loading>,
    flushing: Option<Flushing>,
}

/// All of them.
static RESETS: Mutex<Vec<Resetting>> = Mutex::new(lock::RESETS, Vec::new());

/// Boots a VM again, whatever its guest does now: as a reset button would. The time line goes on, what watches it ends.
/// `outcome` will tell how it ends.
///
/// # Errors
/// The state of the VM, in words; nothing has begun.
pub(crate) fn order(vm: &Arc<Vm>, anew: Anew, outcome: &Outcome) -> Result<(), String> {
    vm.apply(Change::Reset)?;
    log::info!(target: "vm", "vm {}: resetting", vm.name);
    let subject = Being {
        vm: Arc::clone(vm),
        anew,
        watched: None,
        cleared: Cleared::default(),
        loading: None,
        flushing: None,
    };
    let reset = Reset::new(tsc::micros());
    RESETS.lock().push(Resetting { reset, subject, outcome: outcome.clone() });
    Ok(())
}

/// Goes on with all of them for a bounded time. False where none has anything to do.
pub(crate) fn poll() -> bool {
    let mut ordered = RESETS.lock();
    if ordered.is_empty() {
        return false;
    }
    let mut resets = core::mem::take(&mut *ordered);
    drop(ordered);
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
                    log::info!(target: "vm", "vm {}: booted anew{}", vm.name, self.subject.anew.why);
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
        if let Some(policy) = self.anew.policy.take() {
            vm.take_policy(policy);
        }
        *vm.source.lock() = Some(self.anew.source.clone());
        files::came();
        let board = vm.board();
        *vm.platform.lock() = Platform::new(&board, &vm.apics);
        vm.show_apic().map_err(|error| error.to_string())?;
        for (index, slot) in (0..).zip(&vm.vcpus) {
            slot.vcpu.lock().vcpu.apic = LocalApic::new(index, &board, &vm.apics);
            // A vCPU that stopped by itself may have been asked for something that it never did.
            slot.requests.store(0, Ordering::Release);
        }
        Ok(())
    }

    fn load(&mut self) -> Result<(), String> {
        self.loading = Some(Loading::begin(&self.vm, &self.anew.source)?);
        Ok(())
    }

    fn copy(&mut self, most: usize) -> Result<bool, String> {
        self.loading.as_mut().map_or(Ok(false), |loading| loading.step(&self.vm, most))
    }

    fn flush(&mut self) -> Poll<()> {
        let vm = &self.vm;
        let flushing = self.flushing.get_or_insert_with(|| vm.flush());
        if flushing.waits_for().is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}
