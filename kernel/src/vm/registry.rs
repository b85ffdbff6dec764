//! The VMs of this host.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Mutex;

use super::Vm;
use crate::vmx::flush;

/// Most VMs at a time; the console's table bounds it.
pub(crate) const MAX_VMS: usize = 64;

static VMS: Mutex<Vec<Arc<Vm>>> = Mutex::new(Vec::new());
static NEXT_ID: AtomicU64 = AtomicU64::new(1);
/// Changes with every insertion and removal, so that a CPU's scheduler copies the list only then.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// An id for a new VM. It tells one VM from another for good, as IBPB needs: 64 bits do not come round.
pub(crate) fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// The list's generation.
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Acquire)
}

/// Adds a VM.
///
/// # Errors
/// A VM of that name or uuid is there already, or too many are.
pub(crate) fn insert(vm: Arc<Vm>) -> Result<(), String> {
    let mut vms = VMS.lock();
    takes(&vms, &vm.name.get())?;
    if vms.iter().any(|other| other.uuid == vm.uuid) {
        return Err(alloc::format!("the VM with the uuid of {} is on this host already", vm.name));
    }
    vms.push(vm);
    GENERATION.fetch_add(1, Ordering::Release);
    Ok(())
}

/// Whether a VM of that name could be added now.
///
/// # Errors
/// As [`insert`].
pub(crate) fn has_room(name: &str) -> Result<(), String> {
    takes(&VMS.lock(), name)
}

fn takes(vms: &[Arc<Vm>], name: &str) -> Result<(), String> {
    if vms.iter().any(|other| other.name.is(name)) {
        return Err(alloc::format!("a VM named {name} is on this host already"));
    }
    if vms.len() == MAX_VMS {
        return Err(alloc::format!("{MAX_VMS} VMs are on this host, the most it takes"));
    }
    Ok(())
}

/// Takes a VM that may not run off the list. It is freed when the last CPU has let go of it; none has its registers.
pub(crate) fn remove(vm: &Arc<Vm>) {
    vm.wait_off();
    VMS.lock().retain(|other| !Arc::ptr_eq(other, vm));
    GENERATION.fetch_add(1, Ordering::Release);
    // A CPU that sleeps would hold on to it.
    for slot in &vm.vcpus {
        flush::kick(slot.cpu);
    }
}

/// Gives a VM another name.
///
/// # Errors
/// It is another VM's.
pub(crate) fn rename(vm: &Arc<Vm>, to: &str) -> Result<(), String> {
    let vms = VMS.lock();
    if vms.iter().any(|other| other.name.is(to)) {
        return Err(alloc::format!("a VM named {to} is on this host already"));
    }
    vm.name.set(to);
    Ok(())
}

/// The VM of this name.
pub(crate) fn find(name: &str) -> Option<Arc<Vm>> {
    VMS.lock().iter().find(|vm| vm.name.is(name)).cloned()
}

/// Whether this very VM is on the list.
pub(crate) fn holds(vm: &Arc<Vm>) -> bool {
    VMS.lock().iter().any(|other| Arc::ptr_eq(other, vm))
}

/// All VMs.
pub(crate) fn all() -> Vec<Arc<Vm>> {
    VMS.lock().clone()
}
