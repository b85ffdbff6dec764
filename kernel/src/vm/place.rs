//! On which CPU a vCPU lives: what [`scheduling::place`] decides, of this host.

use alloc::vec::Vec;
use scheduling::place::{ApicIds, Place, next};

use super::registry;
use hw::arch::cpu;
use hw::vmx::host;

/// The CPUs of this host, as if nothing lived there.
pub(super) fn cpus() -> Vec<Place> {
    let place = |index| Place {
        apic_id: cpu::get(index).map_or(0, |cpu| cpu.apic_id),
        vmx: host::of(index).is_some(),
        ..Place::default()
    };
    (0..cpu::count()).map(place).collect()
}

/// The same, with those that live on each.
fn lived_in() -> Vec<Place> {
    let mut places = cpus();
    for vm in registry::all() {
        for home in vm.vcpus.iter().map(|slot| slot.to_be_on()) {
            if let Some(place) = places.get_mut(home) {
                place.vcpus += 1;
            }
        }
    }
    places
}

/// The homes of the vCPUs of a new VM, so many.
///
/// # Errors
/// No CPU is in VMX operation.
pub(super) fn homes(vcpus: u32) -> Result<Vec<usize>, &'static str> {
    let (mut places, ids) = (lived_in(), ApicIds::of(cpu::cpuid));
    let mut home = || {
        let home = next(&places, ids)?;
        places[home].vcpus += 1;
        places[home].own += 1;
        Some(home)
    };
    (0..vcpus).map(|_| home()).collect::<Option<_>>().ok_or("no CPU of this host is in VMX operation")
}
