//! Which vCPU a host CPU runs next. A vCPU has a home CPU; its registers stay loaded there until another vCPU
//! takes the CPU or somebody asks for it.

#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use migrate::ownership::Entry;
use scheduling::wake::WOKEN;

use super::{VcpuSlot, Vm, registry};
use crate::run::Outcome;
use hw::arch::{cpu, tsc};
use hw::vmx::flush;

/// How long a vCPU runs at a time, in microseconds, on a CPU that has nothing else to do than guests.
pub(crate) const SLICE_US: u64 = 10_000;
/// The same where another vCPU waits for the CPU, as on CPU 0: less than a tick of Linux (4 ms), also where two wait for each
/// other's answer several times with interrupts off, as for a `stop_machine`. Kernels compare clocks by their ticks.
const SHARED_SLICE_US: u64 = 1_000;

/// The scheduler of one CPU.
#[derive(Default)]
pub(crate) struct Scheduler {
    generation: Option<u64>,
    vcpus: Vec<(Arc<Vm>, usize)>,
    next: usize,
    /// Until when the vCPU whose turn was last may go on: an interrupt of the host's cut it short.
    cut: Option<u64>,
    /// Where the row goes on after a turn that a vCPU got before its own.
    row: Option<usize>,
    /// Those in the row whose last turn ended in a loop of PAUSE, a bit each of the first 64.
    spin: u64,
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
        let mut wake = u64::MAX;
        let mut cut = self.cut.take().filter(|&until| now < until);
        if cut.is_none() {
            self.prefer(now);
        }
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
        let others = self.vcpus.iter().enumerate().filter(|(at, _)| *at != self.next);
        let wanted = others.map(|(_, (vm, index))| (vm, vm.vcpus[*index].wake.load(Ordering::Relaxed)));
        let wanted = wanted.filter(|(vm, _)| vm.state.get().may_run()).map(|(_, wake)| wake);
        let shared = now.saturating_add(tsc::ticks(SHARED_SLICE_US));
        wanted.map(|wake| if wake <= now { shared } else { wake }).min().unwrap_or(u64::MAX)
    }

    /// Has the next turn given to a vCPU that others wait for, if there is one: one that was halted and has been woken, by an IPI
    /// or by its timer; or, after one that spins, another of its VM that does not. Every other turn goes by the row, so
    /// that those who wait for each other leave the rest their share.
    fn prefer(&mut self, now: u64) {
        if let Some(row) = self.row.take() {
            self.next = row;
            return;
        }
        let count = self.vcpus.len();
        let wake = |at: usize| {
            let (vm, index) = &self.vcpus[at];
            vm.vcpus[*index].wake.load(Ordering::Relaxed)
        };
        let mut others = (1..count).map(|n| (self.next + n) % count);
        let woken = others.clone().find(|&at| (WOKEN..=now).contains(&wake(at)));
        let waited_for = woken.or_else(|| {
            let spinner = self.vcpus.get(self.next).filter(|_| self.spin & bit(self.next) != 0)?;
            let sibling = |at: usize| Arc::ptr_eq(&self.vcpus[at].0, &spinner.0);
            others.find(|&at| sibling(at) && wake(at) == 0 && self.spin & bit(at) == 0)
        });
        if let Some(at) = waited_for {
            self.row = Some(self.next);
            self.next = (at + count - 1) % count;
        }
    }

    /// Takes up VMs that came and lets go of those that went.
    fn refresh(&mut self) {
        let generation = registry::generation();
        if self.generation == Some(generation) {
            return;
        }
        self.generation = Some(generation);
        (self.cut, self.row, self.spin) = (None, None, 0);
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
    match vcpu.run(vm, &vm.state, until) {
        Outcome::Yield => return Ran::GoesOn,
        Outcome::Spins => return Ran::Spins,
        Outcome::GivesWay => return Ran::Rests,
        Outcome::Halted(deadline) => {
            slot.doze(deadline);
            return Ran::Rests;
        }
        Outcome::Paused => slot.gate.close(),
        Outcome::Stopped(reason) => {
            vcpu.release(vm);
            drop(vcpu);
            vm.ended(reason);
            slot.gate.close();
        }
    }
    Ran::Over
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
