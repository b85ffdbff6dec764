//! The state of a whole VM as records: its clock, its vCPUs, its devices.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use devices::Platform;
use vm_types::{StateError, StateRecord};
use vmx_types::state::{self, VcpuState};

use crate::vm::Vm;

const CLOCK: &str = "clock";
const CLOCK_VERSION: u16 = 1;
const VCPU: &str = "vcpu";

/// Everything but memory and policy. The VM is off every CPU.
pub(super) fn export(vm: &Vm) -> Result<Vec<StateRecord>, String> {
    let mut records = Vec::new();
    for (index, slot) in vm.vcpus.iter().enumerate() {
        let body = slot.vcpu.lock().export(vm).to_bytes();
        records.push(StateRecord {
            kind: VCPU.into(),
            instance: index as u16,
            version: state::VERSION,
            body,
        });
    }
    let mut platform = vm.platform.lock();
    let now = vm.clock.now();
    platform.advance(now);
    records.extend(platform.export());
    let body = now.tsc.to_le_bytes().to_vec();
    records.push(StateRecord { kind: CLOCK.into(), instance: 0, version: CLOCK_VERSION, body });
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
    let clock: Vec<_> = of(CLOCK).collect();
    let &[clock] = clock.as_slice() else { return Err(refuse(CLOCK, format!("{} records", clock.len()))) };
    if clock.version != CLOCK_VERSION {
        return Err(refuse(CLOCK, format!("version {}", clock.version)));
    }
    let tsc =
        clock.body.as_slice().try_into().map_err(|_| refuse(CLOCK, format!("{} bytes", clock.body.len())))?;
    let tsc = u64::from_le_bytes(tsc);
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
    let devices: Vec<StateRecord> =
        records.iter().filter(|r| r.kind != CLOCK && r.kind != VCPU).cloned().collect();
    if let Some(stray) = devices.iter().find(|r| !Platform::owns_record(&r.kind)) {
        return Err(refuse(&stray.kind, "no such device".into()));
    }
    vm.platform.lock().import(&devices)?;
    Ok(tsc)
}
