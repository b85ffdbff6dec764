//! The state of a whole VM as records: its clock, its vCPUs, its devices.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use devices::{Platform, PlatformConfig};
use isa_audit::Findings;
use minicbor::{Decode, Encode};
use vm_types::{OnReset, StateError, StateRecord, decode_strict};
use vmx_types::state::{self, VcpuState};

use crate::vm::Vm;

const MACHINE: &str = "machine";
const MACHINE_VERSION: u16 = 1;
pub(super) const VCPU: &str = "vcpu";
/// What audits of the VM have found: of use to the operator alone, and there only where something was found.
const AUDIT: &str = "audit";
const AUDIT_VERSION: u16 = 1;

/// What belongs to the VM as a whole.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Machine {
    /// Guest TSC at the instant of the export.
    #[n(0)]
    tsc: u64,
    /// A write to port 0xF4 ends the guest.
    #[n(1)]
    debug_exit: bool,
    /// A guest that resets itself is over; one of an older source boots anew, where its kernel is there.
    #[n(2)]
    stops_on_reset: Option<bool>,
}

/// Everything but memory and policy. The VM is off every CPU.
pub(super) fn export(vm: &Vm) -> Result<Vec<StateRecord>, String> {
    let (mut records, mut apics) = (Vec::new(), Vec::new());
    let now = vm.clock.now();
    // First, as its timers may leave messages for the vCPUs.
    vm.platform.lock().advance(now);
    for (index, slot) in vm.vcpus.iter().enumerate() {
        let mut vcpu = slot.vcpu.lock();
        // What has been sent to it is part of its state. All vCPUs stand still, so that nothing follows.
        vcpu.vcpu.apic.catch_up(now);
        vcpu.take_init_sipi(vm).map_err(|reason| format!("vCPU {index}: {reason}"))?;
        let body = vcpu.export(vm).to_bytes();
        records.push(StateRecord {
            kind: VCPU.into(),
            instance: index as u16,
            version: state::VERSION,
            body,
        });
        apics.push(vcpu.vcpu.apic.export());
    }
    let stops_on_reset = (vm.restarts.lock().on_reset == OnReset::Stop).then_some(true);
    let platform = vm.platform.lock();
    records.extend(platform.export(apics));
    if let Some(body) = vm.audited(|findings, _| (!findings.is_empty()).then(|| findings.encode())) {
        records.push(StateRecord { kind: AUDIT.into(), instance: 0, version: AUDIT_VERSION, body });
    }
    let machine = Machine { tsc: now.tsc, debug_exit: platform.config().debug_exit, stops_on_reset };
    let body = minicbor::to_vec(&machine).map_err(|error| format!("{error}"))?;
    records.push(StateRecord { kind: MACHINE.into(), instance: 0, version: MACHINE_VERSION, body });
    Ok(records)
}

fn refuse(kind: &str, why: String) -> StateError {
    StateError { kind: kind.into(), why }
}

/// Loads what [`export`] gave; the answer is the guest's TSC at that instant.
///
/// # Errors
/// The record at fault. The VM must not run then.
pub(super) fn import(vm: &Vm, records: &[StateRecord]) -> Result<u64, StateError> {
    let of = |kind: &'static str| records.iter().filter(move |r| r.kind == kind);
    let machine: Vec<_> = of(MACHINE).collect();
    let &[machine] = machine.as_slice() else {
        return Err(refuse(MACHINE, format!("{} records", machine.len())));
    };
    if machine.version != MACHINE_VERSION {
        return Err(refuse(MACHINE, format!("version {}", machine.version)));
    }
    let machine: Machine = decode_strict(&machine.body).map_err(|why| refuse(MACHINE, why))?;
    if of(VCPU).count() != vm.vcpus.len() {
        return Err(refuse(VCPU, format!("{} records for {} vCPUs", of(VCPU).count(), vm.vcpus.len())));
    }
    for (index, slot) in vm.vcpus.iter().enumerate() {
        let record = of(VCPU)
            .find(|r| usize::from(r.instance) == index)
            .ok_or_else(|| refuse(VCPU, format!("vCPU {index} is missing")))?;
        if record.version != state::VERSION {
            return Err(refuse(VCPU, format!("version {}", record.version)));
        }
        let state = VcpuState::from_bytes(&record.body).map_err(|why| refuse(VCPU, why))?;
        slot.vcpu.lock().import(vm, &state)?;
    }
    let audits: Vec<_> = of(AUDIT).collect();
    match audits.as_slice() {
        [] => {}
        // of a later version: it decides over nothing
        [audit] if audit.version != AUDIT_VERSION => {}
        [audit] => {
            let found = Findings::decode(&audit.body).map_err(|why| refuse(AUDIT, format!("{why}")))?;
            vm.set_findings(found);
        }
        more => return Err(refuse(AUDIT, format!("{} records", more.len()))),
    }
    let devices: Vec<StateRecord> =
        records.iter().filter(|r| ![MACHINE, VCPU, AUDIT].contains(&r.kind.as_str())).cloned().collect();
    if machine.stops_on_reset == Some(true) {
        vm.restarts.lock().on_reset = OnReset::Stop;
    }
    let mut platform = vm.platform.lock();
    let board = PlatformConfig { debug_exit: machine.debug_exit, ..vm.board() };
    *platform = Platform::new(&board, &vm.apics);
    let apics = platform.import(&devices)?;
    drop(platform);
    for (slot, apic) in vm.vcpus.iter().zip(apics) {
        let vcpu = &mut slot.vcpu.lock().vcpu;
        vcpu.apic.become_like(&apic);
        vcpu.apic.load_tsc_adjust(vcpu.tsc_adjust());
    }
    Ok(machine.tsc)
}

#[cfg(test)]
mod tests;
