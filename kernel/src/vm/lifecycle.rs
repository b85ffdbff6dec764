//! Start, pause, stop, and what other CPUs ask of running vCPUs.

use alloc::string::String;
use alloc::sync::Arc;
use core::hint;
use core::sync::atomic::Ordering;

use super::{Request, State, StopReason, VcpuSlot, Vm, registry};
use crate::vmx::flush;

impl Vm {
    /// What the VM does now.
    pub(crate) fn state(&self) -> State {
        self.state.lock().clone()
    }

    /// Sets the state and logs it.
    pub(crate) fn set_state(&self, state: State) {
        match &state {
            State::Stopped(reason) => log::info!(target: "vm", "vm {}: stopped: {reason}", self.name),
            State::Given | State::Incoming => {} // the migration says more
            State::Unknown => log::error!(target: "vm", "vm {}: unknown: paused here", self.name),
            other => log::info!(target: "vm", "vm {}: {}", self.name, other.name()),
        }
        *self.state.lock() = state;
    }

    /// Lets a paused VM run.
    ///
    /// # Errors
    /// The state it is in, in words.
    pub(crate) fn resume(&self) -> Result<(), String> {
        let state = self.state();
        if state != State::Paused {
            return Err(alloc::format!("vm {} is {}, not paused", self.name, state.name()));
        }
        self.let_run();
        Ok(())
    }

    /// Puts the vCPUs back to their CPUs, whatever state the VM was in.
    pub(crate) fn let_run(&self) {
        self.set_state(State::Running);
        self.start_vcpus();
    }

    /// Does something while no vCPU is on a CPU; a VM that ran goes on behind it. Not for a VM in a migration, which
    /// stops vCPUs by itself.
    pub(crate) fn held<R>(&self, f: impl FnOnce() -> R) -> R {
        if self.state() == State::Running {
            self.stop_vcpus();
        }
        let result = f();
        // It may have ended by itself meanwhile.
        if self.state() == State::Running {
            self.start_vcpus();
        }
        result
    }

    fn start_vcpus(&self) {
        self.console.lock().release();
        for slot in &self.vcpus {
            slot.wake.store(0, Ordering::Relaxed);
            slot.requests.fetch_or(Request::Clock as u32, Ordering::Relaxed);
            slot.paused.store(0, Ordering::Release);
            flush::kick(slot.cpu);
        }
    }

    /// Asks every vCPU to get off its CPU. [`Vm::is_off`] tells when they are. One that is off already is not asked: the
    /// request would wait for it and stop it when it runs again.
    pub(crate) fn ask_pause(&self) {
        for slot in self.vcpus.iter().filter(|slot| slot.paused.load(Ordering::Acquire) == 0) {
            self.request(slot, Request::Pause);
        }
    }

    /// True where no vCPU is on a CPU: state and memory are still.
    pub(crate) fn is_off(&self) -> bool {
        self.vcpus.iter().all(|slot| slot.paused.load(Ordering::Acquire) == 1)
    }

    /// Pauses and waits until every vCPU is off.
    ///
    /// # Errors
    /// The state it is in, in words.
    pub(crate) fn pause(&self) -> Result<(), String> {
        let state = self.state();
        if state != State::Running {
            return Err(alloc::format!("vm {} is {}, not running", self.name, state.name()));
        }
        self.stop_vcpus();
        self.set_state(State::Paused);
        Ok(())
    }

    /// Takes every vCPU off its CPU and waits for it.
    pub(crate) fn stop_vcpus(&self) {
        self.ask_pause();
        while !self.is_off() {
            // On this CPU nobody else will do it.
            super::sched::run_requests_here(self);
            flush::serve();
            hint::spin_loop();
        }
    }

    /// The VM ended by itself, on the CPU of one of its vCPUs.
    pub(crate) fn ended(&self, reason: StopReason) {
        self.set_state(State::Stopped(reason));
    }

    /// Takes the VM off this host and gives its memory back.
    pub(crate) fn destroy(self: &Arc<Self>) {
        if self.state() == State::Running {
            self.stop_vcpus();
            *self.state.lock() = State::Paused;
        }
        self.empty_uart();
        registry::remove(self);
    }

    /// Sets a request bit and makes the vCPU's CPU look.
    pub(crate) fn request(&self, slot: &VcpuSlot, request: Request) {
        slot.requests.fetch_or(request as u32, Ordering::Release);
        slot.wake.store(0, Ordering::Relaxed);
        flush::kick(slot.cpu);
    }

    /// The same, and waits until it is served, or the vCPU is paused, which serves everything.
    pub(super) fn request_and_wait(&self, slot: &VcpuSlot, request: Request) {
        self.request(slot, request);
        let waits = || slot.requests.load(Ordering::Acquire) & request as u32 != 0;
        while waits() && slot.paused.load(Ordering::Acquire) == 0 {
            flush::serve();
            hint::spin_loop();
        }
    }

    /// Presses the guest's power button: the fixed-feature event of ACPI (4.8.3.1), by an interrupt to the guest.
    pub(crate) fn press_power_button(&self) {
        self.platform.lock().press_power_button();
        self.interrupt();
    }

    /// A device line changed from outside: console input, say.
    pub(crate) fn interrupt(&self) {
        for slot in &self.vcpus {
            self.request(slot, Request::Interrupt);
        }
    }
}
