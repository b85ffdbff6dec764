//! What keeps from a VM what its policy hides, on this host.

use cpu_policy::{Companion, Enforcement, Feature, GuestPolicy, Ledger};

use super::host;
use crate::vm::Vm;

/// What is written into the VMCS of a guest, and told by its ledger.
pub(crate) fn enforcement(guest: &GuestPolicy) -> Enforcement {
    Enforcement::on(guest.features(), host())
}

/// True where this CPU has IA32_TSC_AUX.
pub(crate) fn has_tsc_aux() -> bool {
    host().raw.contains(Feature::Rdtscp)
}

/// The ledger of a VM on this host.
pub(crate) fn of(vm: &Vm) -> Ledger {
    Ledger::new(&vm.policy, host())
}

/// What a VM takes along for the operator of the host that it goes to.
pub(crate) fn companion(vm: &Vm) -> Companion {
    Companion { ledger: Some(of(vm)), seen: None }
}

/// Logs where a VM that arrives becomes freer or tighter than it was on the host that it left.
pub(crate) fn tell_changes(vm: &Vm) {
    let Some(there) = &vm.companion.ledger else { return };
    let here = of(vm);
    for change in here.changes(there) {
        log::info!(target: "cpu", "vm {}: {change}", vm.name);
    }
}
