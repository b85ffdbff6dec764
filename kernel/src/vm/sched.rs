//! Which vCPU a host CPU runs next. A vCPU has a home CPU; its registers stay loaded there until another vCPU
//! takes the CPU or somebody asks for it.

#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use migrate::ownership::Entry;

use super::{VcpuSlot, Vm, registry};
use crate::run::Outcome;
use hw::arch::{cpu, tsc};
use hw::platform::irq;
use hw::vmx::flush;
use hw::vmx::host::{self, HostCpu};
use vmx_types::control::ProcBased2;

/// How long a vCPU runs at a time, in microseconds, on a CPU that has nothing else to do than guests.
pub(crate) const SLICE_US: u64 = 10_000;
/// The same where another vCPU waits for the CPU, as on CPU 0: less than a tick of Linux (4 ms), also where two wait for each
/// other's answer several times with interrupts off, as for a `stop_machine`. Kernels compare clocks by their ticks.
const SHARED_SLICE_US: u64 = 1_000;
/// The least of it.
const LEAST_SLICE_US: u64 = 100;

/// The scheduler of one CPU.
#[derive(Default)]
pub(crate) struct Scheduler {
    generation: Option<u64>,
    vcpus: Vec<(Arc<Vm>, usize)>,
    next: usize,
    /// Until when the vCPU whose turn was last may go on: an interrupt of the host's cut it short.
    cut: Option<u64>,
    /// Where the row goes on after a turn that a vCPU got before its own, and the ticks that are left of the turn there, which was
    /// cut for it.
    row: Option<(usize, u64)>,
    /// The turn that goes on has been cut for a woken vCPU: once is enough.
    was_cut: bool,
    /// Those in the row whose last turn ended in a loop of PAUSE, a bit each of the first 64.
    spin: u64,
    /// This CPU does not tell of loops of PAUSE.
    blind: bool,
    /// Whose registers are loaded.
    loaded: Option<(Arc<Vm>, usize)>,
}

/// What a turn of the scheduler did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// A vCPU ran.
    Ran,
    /// None wants the CPU before this host TSC.
    Idle(u64),
}

impl Scheduler {
    /// Runs vCPUs for `slice` ticks in all: one, and after one that halts or makes way the next that wants the CPU.
    pub(crate) fn turn(&mut self, slice: u64) -> Turn {
        let mut now = tsc::read();
        let until = now.saturating_add(slice);
        let mut turn = self.one(now, until);
        while let One::Ran(Ran::Rests) = turn {
            now = tsc::read();
            if now >= until {
                break;
            }
            match self.one(now, until) {
                // What this CPU does besides has its turn before it sleeps.
                One::Idle(_) => break,
                ran @ One::Ran(_) => turn = ran,
            }
        }
        match turn {
            One::Ran(_) => Turn::Ran,
            One::Idle(wake) => Turn::Idle(wake),
        }
    }

    /// Runs one vCPU from `now` until host TSC `end` at the latest.
    fn one(&mut self, now: u64, end: u64) -> One {
        self.refresh();
        if irq::take_wake() {
            self.vcpus.iter().for_each(|(vm, index)| vm.vcpus[*index].hear());
        }
        let mut wake = u64::MAX;
        let cut = self.cut.take().filter(|&until| now < until);
        let mut cut = self.prefer(now, cut);
        for _ in 0..self.vcpus.len() {
            let rest = cut.take();
            if rest.is_none() {
                self.next = (self.next + 1) % self.vcpus.len();
            }
            let (vm, index) = &self.vcpus[self.next];
            let slot = &vm.vcpus[*index];
            match slot.gate.enter(&vm.state) {
                Entry::Run => {}
                Entry::TakeOff => {
                    take_off(vm, slot);
                    continue;
                }
                Entry::Off => continue,
            }
            let share = u64::from(slot.share.load(Ordering::Relaxed)).clamp(1, 100);
            let held = if share < 100 { slot.held_until.load(Ordering::Relaxed) } else { 0 };
            if let Some(due) = slot.waits_until(now, held) {
                wake = wake.min(due);
                continue;
            }
            let (vm, index) = (Arc::clone(vm), *index);
            self.switch_to(&vm, index);
            let until = end.min(self.others_want(now));
            let until = rest.map_or(until, |rest| rest.min(until));
            let ran = run(&vm, index, until);
            let end = tsc::read();
            self.cut = (ran == Ran::GoesOn && end < until).then_some(until);
            self.spin &= !bit(self.next);
            if ran == Ran::Spins {
                self.spin |= bit(self.next);
            }
            vm.vcpus[index].ran.fetch_add(end - now, Ordering::Relaxed);
            let held = end.saturating_add((end - now) * (100 - share) / share);
            vm.vcpus[index].held_until.store(held, Ordering::Relaxed);
            return One::Ran(ran);
        }
        One::Idle(wake)
    }

    /// Until when the vCPU whose turn it is has the CPU for itself: others wait for it already, or will when the timer of
    /// theirs is due for which they sleep.
    fn others_want(&self, now: u64) -> u64 {
        let shared = now.saturating_add(tsc::ticks(self.shared_slice_us(now)));
        let others = self.vcpus.iter().enumerate().filter(|(at, _)| *at != self.next);
        let wanted = others.map(|(_, (vm, index))| match wants(vm, *index) {
            Wants::Nothing => u64::MAX,
            Wants::Sleep(until) if until > now => until,
            Wants::Turn { due } if due > now => due.min(shared),
            Wants::Sleep(_) | Wants::Turn { .. } => shared,
        });
        wanted.min().unwrap_or(u64::MAX)
    }

    /// How long the vCPU whose turn it is runs while others wait for the CPU. On a CPU without pause-loop exiting its siblings
    /// and it share that: several that go in step, as for Linux' `stop_machine`, spin with interrupts off until each has had
    /// a turn, three times and more in a row, and ticks of all of them are lost meanwhile.
    fn shared_slice_us(&self, now: u64) -> u64 {
        let Some((vm, _)) = self.vcpus.get(self.next).filter(|_| self.blind) else {
            return SHARED_SLICE_US;
        };
        let siblings = self.vcpus.iter().filter(|(other, _)| Arc::ptr_eq(other, vm));
        let waiting = siblings.filter(|(_, index)| match wants(vm, *index) {
            Wants::Nothing => false,
            Wants::Sleep(until) => until <= now,
            Wants::Turn { .. } => true,
        });
        (SHARED_SLICE_US / (waiting.count() as u64).max(1)).max(LEAST_SLICE_US)
    }

    /// Has the next turn given to a vCPU that others wait for, if there is one: one that was halted and has been woken, by an IPI
    /// or by its timer; one whose timer is due while it waits for its turn; or, after one that spins, another of its VM that does not.
    /// Of several it is the one that has waited longest. Every other turn goes by the row, so
    /// that those who wait for each other leave the rest their share. Returns until when the vCPU goes on whose turn
    /// was `cut` short by an interrupt of the host's. That may be the kick by which another CPU has woken a vCPU here: it does not wait
    /// for the end of this turn, whose rest comes after its own.
    fn prefer(&mut self, now: u64, cut: Option<u64>) -> Option<u64> {
        if cut.is_some() && (self.row.is_some() || self.was_cut) {
            return cut;
        }
        if cut.is_none() {
            if let Some((row, rest)) = self.row.take() {
                self.next = row;
                self.was_cut = rest > 0;
                return self.was_cut.then_some(now.saturating_add(rest));
            }
            self.was_cut = false;
        }
        let count = self.vcpus.len();
        let wants = |at: usize| wants(&self.vcpus[at].0, self.vcpus[at].1);
        let mut others = (1..count).map(|n| (self.next + n) % count);
        let since = |at: usize| match wants(at) {
            Wants::Sleep(until) => until,
            Wants::Turn { due } if cut.is_none() => due,
            Wants::Turn { .. } | Wants::Nothing => u64::MAX,
        };
        let late = others.clone().map(|at| (since(at), at)).min().filter(|(since, _)| *since <= now);
        let waited_for = late.map(|(_, at)| at).or_else(|| {
            let spins = cut.is_none() && self.spin & bit(self.next) != 0;
            let spinner = self.vcpus.get(self.next).filter(|_| spins)?;
            let works = |at: usize| matches!(wants(at), Wants::Turn { .. }) && self.spin & bit(at) == 0;
            others.find(|&at| Arc::ptr_eq(&self.vcpus[at].0, &spinner.0) && works(at))
        });
        let Some(at) = waited_for else { return cut };
        self.row = Some((self.next, cut.map_or(0, |until| until - now)));
        self.next = (at + count - 1) % count;
        None
    }

    /// Takes up VMs that came and lets go of those that went.
    fn refresh(&mut self) {
        let generation = registry::generation();
        if self.generation == Some(generation) {
            return;
        }
        self.generation = Some(generation);
        (self.cut, self.row, self.was_cut, self.spin) = (None, None, false, 0);
        let sees_loops = |cpu: &HostCpu| cpu.caps.has2(ProcBased2::PAUSE_LOOP_EXITING);
        self.blind = !host::this().is_some_and(sees_loops);
        let here = cpu::this().index;
        self.vcpus.clear();
        for vm in registry::all() {
            for index in (0..vm.vcpus.len()).filter(|&i| vm.vcpus[i].cpu() == here) {
                match vm.vcpus[index].leaves_for() {
                    None => self.vcpus.push((Arc::clone(&vm), index)),
                    Some(cpu) => self.hand_over(&vm, index, cpu),
                }
            }
        }
        if let Some((vm, _)) = &self.loaded
            && !self.vcpus.iter().any(|(other, _)| Arc::ptr_eq(other, vm))
        {
            self.loaded = None; // destroyed, and off the CPU already
        }
    }

    /// Another CPU schedules this vCPU from now on.
    fn hand_over(&mut self, vm: &Arc<Vm>, index: usize, cpu: usize) {
        let slot = &vm.vcpus[index];
        slot.vcpu.lock().release(vm);
        if self.loaded.as_ref().is_some_and(|(old, at)| Arc::ptr_eq(old, vm) && *at == index) {
            self.loaded = None;
        }
        slot.moves_to(cpu, registry::changed);
    }

    fn switch_to(&mut self, vm: &Arc<Vm>, index: usize) {
        if let Some((old, old_index)) = &self.loaded {
            if Arc::ptr_eq(old, vm) && *old_index == index {
                return;
            }
            old.vcpus[*old_index].vcpu.lock().release(old);
        }
        self.loaded = Some((Arc::clone(vm), index));
    }
}

/// What a vCPU would do that has not got the CPU.
enum Wants {
    /// Nothing: its VM may not run.
    Nothing,
    /// Sleep until this host TSC. A time that is over is when it was woken, [`scheduling::wake::WOKEN`] where that was by a request.
    Sleep(u64),
    /// Have a turn. Its timer is due at this host TSC.
    Turn { due: u64 },
}

fn wants(vm: &Vm, index: usize) -> Wants {
    let slot = &vm.vcpus[index];
    if !vm.state.get().may_run() {
        return Wants::Nothing;
    }
    match slot.wake.load(Ordering::Relaxed) {
        0 => Wants::Turn { due: slot.due.load(Ordering::Relaxed) },
        until => Wants::Sleep(until),
    }
}

/// The bit of a place in the row.
const fn bit(at: usize) -> u64 {
    if at < 64 { 1 << at } else { 0 }
}

/// What became of the row.
enum One {
    /// A vCPU ran.
    Ran(Ran),
    /// None wants the CPU before this host TSC.
    Idle(u64),
}

/// What a vCPU that has run would do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ran {
    /// Go on: its time is over, or an interrupt wants the host.
    GoesOn,
    /// Spin on.
    Spins,
    /// Wait for an interrupt, or for what another one does that it has woken.
    Rests,
    /// Nothing.
    Over,
}

/// Runs a vCPU until host TSC `until` at the latest.
fn run(vm: &Vm, index: usize, until: u64) -> Ran {
    let slot = &vm.vcpus[index];
    let mut vcpu = slot.vcpu.lock();
    slot.begin();
    let outcome = vcpu.run(vm, &vm.state, until);
    slot.due.store(vcpu.vcpu.deadline, Ordering::Relaxed);
    let ran = match outcome {
        Outcome::Yield => Ran::GoesOn,
        Outcome::Spins => Ran::Spins,
        Outcome::GivesWay => Ran::Rests,
        Outcome::Halted(deadline) => {
            slot.doze(deadline);
            return Ran::Rests;
        }
        Outcome::Paused => {
            slot.gate.close();
            return Ran::Over;
        }
        Outcome::Stopped(reason) => {
            vcpu.release(vm);
            drop(vcpu);
            vm.ended(reason);
            slot.gate.close();
            return Ran::Over;
        }
    };
    slot.queue();
    ran
}

/// A CPU is to schedule this vCPU and to keep it, as an operator wants.
pub(crate) fn pin(slot: &VcpuSlot, cpu: usize) {
    slot.pin();
    have_on(slot, cpu);
}

/// Another CPU is to schedule this vCPU: its own lets go of it before its next turn.
pub(crate) fn have_on(slot: &VcpuSlot, cpu: usize) {
    slot.want_on(cpu);
    registry::changed();
    flush::kick(slot.cpu());
}

/// Takes a vCPU off this CPU, which runs it no more.
fn take_off(vm: &Vm, slot: &VcpuSlot) {
    slot.vcpu.lock().release(vm);
    slot.rest();
    slot.gate.close();
}

/// Takes those vCPUs off this CPU whose home it is, and whose VM may not run any more.
pub(crate) fn take_off_here(vm: &Vm) {
    let here = cpu::this().index;
    for slot in vm.vcpus.iter().filter(|slot| slot.cpu() == here) {
        if slot.gate.enter(&vm.state) == Entry::TakeOff {
            take_off(vm, slot);
        }
    }
}
