//! CPU 0 looks what the other CPUs have to do, and has a vCPU move where one has more than another for some time
//! ([`scheduling::balance`]). Guests pay nothing for it: what it goes by is written at each turn anyhow.

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use scheduling::balance::{INTERVAL_US, LOOKS, RESTS, Seen, judge};
use scheduling::place::{ApicIds, Place, takes_guests};

use super::{VcpuSlot, Vm, place, registry, sched};
use hw::arch::{cpu, tsc};

/// What CPU 0 has seen of a vCPU; nobody else looks at it.
#[derive(Default)]
pub(crate) struct Watched {
    /// How often it wanted to run, of the looks since the last judgement.
    wanted: AtomicU32,
    /// For how many judgements more it stays.
    rests: AtomicU32,
}

/// Looks at all vCPUs from time to time.
pub(crate) struct Balancer {
    /// The CPUs, as far as it goes by them.
    places: Vec<Place>,
    ids: ApicIds,
    /// When it looks next, in microseconds.
    next_us: u64,
    looks: u32,
}

impl Balancer {
    /// Of the CPUs that this host has, all of which are up.
    pub(crate) fn new() -> Self {
        Self::of(place::cpus())
    }

    fn of(places: Vec<Place>) -> Self {
        let able = (0..places.len()).filter(|&index| takes_guests(&places, index)).count();
        // Where one CPU takes guests there is nothing to choose.
        let next_us = if able < 2 { u64::MAX } else { 0 };
        Self { places, ids: ApicIds::of(cpu::cpuid), next_us, looks: 0 }
    }

    /// Looks where the time has come.
    pub(crate) fn poll(&mut self) {
        let now_us = tsc::micros();
        if now_us < self.next_us {
            return;
        }
        self.next_us = now_us.saturating_add(INTERVAL_US);
        self.look();
    }

    fn look(&mut self) {
        let (vms, now) = (registry::all(), tsc::read());
        for vm in vms.iter().filter(|vm| vm.state().may_run()) {
            for slot in vm.vcpus.iter().filter(|slot| slot.waits_until(now, 0).is_none()) {
                slot.watched.wanted.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.looks += 1;
        if self.looks < LOOKS {
            return;
        }
        self.looks = 0;
        let slots: Vec<(&Vm, usize, &VcpuSlot)> = vms
            .iter()
            .flat_map(|vm| vm.vcpus.iter().enumerate().map(|(index, slot)| (&**vm, index, slot)))
            .collect();
        let seen: Vec<Seen> = slots.iter().map(|(vm, _, slot)| slot.watched.judged(vm, slot)).collect();
        let Some((which, to)) = judge(&seen, &self.places, self.ids) else { return };
        let (vm, index, slot) = slots[which];
        slot.watched.rests.store(RESTS, Ordering::Relaxed);
        log::debug!(target: "vm", "vm {}: vCPU {index} moves from CPU {} to CPU {to}", vm.name, slot.cpu());
        sched::have_on(slot, to);
    }
}

impl Watched {
    /// What was seen of it; from here on the count starts again.
    fn judged(&self, vm: &Vm, slot: &VcpuSlot) -> Seen {
        let rests = self.rests.load(Ordering::Relaxed);
        self.rests.store(rests.saturating_sub(1), Ordering::Relaxed);
        let wanted = self.wanted.swap(0, Ordering::Relaxed);
        Seen { vm: vm.id, cpu: slot.to_be_on(), wanted, stays: rests > 0 || slot.is_pinned() }
    }
}
