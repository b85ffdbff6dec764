//! Start, pause, stop, and what other CPUs ask of running vCPUs.

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::Arc;
use core::hint;
use core::sync::atomic::Ordering;
use shell::EventKind;

use super::{Change, State, Vm, registry, sched};
use crate::events;
use crate::guest::StopReason;
use crate::guest::mailbox::Request;
use hw::arch::tsc;
use hw::vmx::flush;

/// How long CPU 0 waits for another CPU to leave a guest at most, in microseconds, where it cannot do anything else
/// meanwhile. It takes one VM exit.
const MOMENT_US: u64 = 10_000;

impl Vm {
    /// What the VM is on this host.
    pub(crate) fn state(&self) -> State {
        self.state.get()
    }

    /// Whether its guest has run since it was made or reset.
    pub(crate) fn has_begun(&self) -> bool {
        self.state.has_begun()
    }

    /// Why it is over, once it is.
    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        self.stop_reason.lock().clone()
    }

    /// The one way from state to state: logs it, and makes the CPUs of the vCPUs look. [`Vm::holder`] says whether they are
    /// off, where that matters: nobody waits for it, but polls.
    ///
    /// # Errors
    /// The state that it is in, in words; nothing is changed.
    pub(crate) fn apply(&self, change: Change) -> Result<(), String> {
        self.step(change)?;
        match self.state() {
            state @ (State::Paused | State::Running) if change != Change::Anew => {
                log::info!(target: "vm", "vm {}: {}", self.name, state.name());
                let runs = state == State::Running;
                let kind = if runs { EventKind::VmRunning } else { EventKind::VmPaused };
                events::tell(kind, self.name.owned(), "");
            }
            State::Unknown => {
                log::error!(target: "vm", "vm {}: unknown: paused here", self.name);
                events::tell(EventKind::VmUnknown, self.name.owned(), "paused here");
            }
            _ => {} // who brings it there says more
        }
        Ok(())
    }

    fn step(&self, change: Change) -> Result<(), String> {
        let changed = self.state.change(change);
        let (before, now) = changed.map_err(|misfit| alloc::format!("vm {} is {misfit}", self.name))?;
        match (before.may_run(), now.may_run()) {
            (false, true) => self.wake_vcpus(),
            (true, false) => self.call_off(),
            _ => {}
        }
        Ok(())
    }

    /// Whatever slowed the guest down is over, and its clock and timers are looked at again.
    fn wake_vcpus(&self) {
        self.console.lock().release();
        for slot in &self.vcpus {
            slot.share.store(100, Ordering::Relaxed);
            slot.held_until.store(0, Ordering::Relaxed);
            slot.post(Request::Clock);
        }
    }

    /// The state does not let the vCPUs run any more: those that are on a CPU get off it.
    fn call_off(&self) {
        for slot in self.vcpus.iter().filter(|slot| !slot.gate.is_off()) {
            slot.post(Request::Pause);
        }
    }

    /// True where no vCPU is on a CPU: state and memory are still, for as long as the state does not let it run.
    pub(crate) fn is_off(&self) -> bool {
        self.vcpus.iter().all(|slot| slot.gate.is_off())
    }

    /// A CPU that has a vCPU of a VM that may not run. Those of this CPU are taken off: nobody else will do it.
    pub(crate) fn holder(&self) -> Option<usize> {
        if !self.is_off() {
            sched::take_off_here(self);
            flush::serve();
        }
        self.vcpus.iter().find(|slot| !slot.gate.is_off()).map(|slot| slot.cpu())
    }

    /// Waits a moment until every vCPU is off, of a VM that may not run.
    ///
    /// # Errors
    /// The CPU that has not let go of it.
    fn wait_off(&self) -> Result<(), usize> {
        let until = tsc::read().saturating_add(tsc::ticks(MOMENT_US));
        while let Some(cpu) = self.holder() {
            if tsc::read() >= until {
                return Err(cpu);
            }
            hint::spin_loop();
        }
        Ok(())
    }

    /// Does something while no vCPU is on a CPU; a VM that ran goes on after it.
    ///
    /// # Errors
    /// A CPU does not let go of it; nothing is done then.
    pub(crate) fn held<R>(&self, f: impl FnOnce() -> R) -> Result<R, String> {
        let ran = self.step(Change::Pause).is_ok();
        let result = self.wait_off().map(|()| f()).map_err(|cpu| {
            alloc::format!(
                "vm {}: CPU {cpu} has not left its guest within {} ms: nothing is done",
                self.name,
                MOMENT_US / 1000
            )
        });
        if ran {
            // It may have ended by itself meanwhile.
            let _ = self.step(Change::Run);
        }
        result
    }

    /// Takes every vCPU off its CPU, whatever the VM is. False where a CPU does not let go of it in a moment.
    pub(crate) fn take_off(&self) -> bool {
        let _ = self.step(Change::Pause);
        self.wait_off().is_ok()
    }

    /// The VM ended by itself, on the CPU of one of its vCPUs.
    pub(crate) fn ended(&self, reason: StopReason) {
        if matches!(self.state(), State::Resetting | State::Ending) {
            return; // nothing of it counts any more
        }
        let (why, reset) = (alloc::format!("{reason}"), reason.is_reset());
        *self.stop_reason.lock() = Some(reason);
        if let Err(refused) = self.apply(Change::End) {
            log::error!(target: "vm", "{refused}");
        }
        // Whoever reads of it finds the VM stopped.
        log::info!(target: "vm", "vm {}: stopped: {why}", self.name);
        events::tell(EventKind::VmStopped, self.name.owned(), why);
        if reset {
            self.note_reset();
        }
    }

    /// Takes a VM off this host that no vCPU of is on a CPU, and gives its memory back.
    pub(crate) fn destroy(self: &Arc<Self>) {
        if let Some(cpu) = self.holder() {
            return log::error!(target: "vm", "vm {}: not destroyed: CPU {cpu} has it", self.name);
        }
        self.empty_uart();
        registry::remove(self);
    }

    /// Presses the guest's power button: the fixed-feature event of ACPI (4.8.3.1), by an interrupt to the guest.
    pub(crate) fn press_power_button(&self) {
        self.with_board(devices::Platform::press_power_button);
    }
}
