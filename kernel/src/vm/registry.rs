//! The VMs of this host, and the names of those that are being made.

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cmdline::VmOptions;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Vm, remains};
use crate::lock::{self, Mutex};
use hw::vmx::flush;

/// Most VMs at a time; the console's table bounds it.
pub(crate) const MAX_VMS: usize = 64;

/// What there is, and what is on its way there.
struct Vms {
    here: Vec<Arc<Vm>>,
    making: Vec<Arc<Nascent>>,
}

static VMS: Mutex<Vms> = Mutex::new(lock::VMS, Vms { here: Vec::new(), making: Vec::new() });
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

/// VMs have come or gone, or a vCPU is to have another CPU: each CPU looks which are its own.
pub(crate) fn changed() {
    GENERATION.fetch_add(1, Ordering::AcqRel);
}

/// A VM that is being made, as far as others see it.
pub(crate) struct Nascent {
    /// Its name.
    pub(crate) name: String,
    /// Its identity, where it has one.
    pub(crate) uuid: Option<[u8; 16]>,
    /// It comes by migration.
    pub(crate) comes: bool,
    /// Its memory, in bytes.
    pub(crate) bytes: u64,
    /// Its vCPUs.
    pub(crate) vcpus: u32,
    /// Its level, as far as it was asked for.
    pub(crate) level: String,
    /// An operator does not want it any more.
    ended: AtomicBool,
}

/// The name of a VM that is being made: nobody else gets it, until this is dropped.
pub(crate) struct Reserved(Arc<Nascent>);

impl Reserved {
    /// Reserves a name, and the identity where there is one.
    ///
    /// # Errors
    /// A VM of that name or uuid is there or being made, or too many are.
    pub(crate) fn new(
        name: &str,
        uuid: Option<[u8; 16]>,
        bytes: u64,
        vcpus: u32,
        level: &str,
    ) -> Result<Self, String> {
        let mut vms = VMS.lock();
        vms.takes(name)?;
        if let Some(uuid) = uuid
            && (vms.here.iter().any(|vm| vm.uuid == uuid)
                || vms.making.iter().any(|vm| vm.uuid == Some(uuid)))
        {
            return Err(alloc::format!("the VM with the uuid of {name} is on this host already"));
        }
        let nascent = Arc::new(Nascent {
            name: name.into(),
            uuid,
            comes: uuid.is_some(),
            bytes,
            vcpus,
            level: level.into(),
            ended: AtomicBool::new(false),
        });
        vms.making.push(Arc::clone(&nascent));
        Ok(Self(nascent))
    }

    /// Reserves the name of a VM that is to be made by these options.
    ///
    /// # Errors
    /// As [`Reserved::new`].
    pub(crate) fn of(options: &VmOptions) -> Result<Self, String> {
        let (bytes, level) = (u64::from(options.mem_mib) << 20, options.level.as_deref().unwrap_or_default());
        Self::new(&options.name, None, bytes, options.vcpus, level)
    }

    /// Whether an operator does not want it any more.
    pub(crate) fn is_ended(&self) -> bool {
        self.0.ended.load(Ordering::Relaxed)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        VMS.lock().making.retain(|other| !Arc::ptr_eq(other, &self.0));
    }
}

impl Nascent {
    /// Whoever makes it is to give it up.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Adds a VM under the name that was reserved for it.
///
/// # Errors
/// A VM of that uuid is there already.
pub(crate) fn insert(reserved: Reserved, vm: Arc<Vm>) -> Result<(), String> {
    let mut vms = VMS.lock();
    if vms.here.iter().any(|other| other.uuid == vm.uuid) {
        drop(vms);
        return Err(alloc::format!("the VM with the uuid of {} is on this host already", vm.name));
    }
    vms.here.push(vm);
    changed();
    drop(vms);
    drop(reserved);
    Ok(())
}

impl Vms {
    /// Whether a VM could have this name.
    fn is_free(&self, name: &str) -> Result<(), String> {
        if self.here.iter().any(|other| other.name.is(name)) {
            return Err(alloc::format!("a VM named {name} is on this host already"));
        }
        if self.making.iter().any(|other| other.name == name) {
            return Err(alloc::format!("a VM named {name} is being made on this host"));
        }
        Ok(())
    }

    /// Whether there is room for one more, of this name.
    fn takes(&self, name: &str) -> Result<(), String> {
        self.is_free(name)?;
        if self.here.len() + self.making.len() >= MAX_VMS {
            return Err(alloc::format!("{MAX_VMS} VMs are on this host, the most it takes"));
        }
        Ok(())
    }
}

/// Takes a VM off the list whose vCPUs are off for good. Its tables are taken apart by and by, and it is freed when the
/// last CPU has let go of it.
pub(crate) fn remove(vm: &Arc<Vm>) {
    VMS.lock().here.retain(|other| !Arc::ptr_eq(other, vm));
    changed();
    // A CPU that sleeps would hold on to it.
    for slot in &vm.vcpus {
        flush::kick(slot.cpu());
    }
    remains::of_vm(Arc::clone(vm));
}

/// Gives a VM another name.
///
/// # Errors
/// It is another VM's.
pub(crate) fn rename(vm: &Arc<Vm>, to: &str) -> Result<(), String> {
    let vms = VMS.lock();
    vms.is_free(to)?;
    vm.name.set(to);
    Ok(())
}

/// The VM of this name.
pub(crate) fn find(name: &str) -> Option<Arc<Vm>> {
    VMS.lock().here.iter().find(|vm| vm.name.is(name)).cloned()
}

/// Whether this very VM is on the list.
pub(crate) fn holds(vm: &Arc<Vm>) -> bool {
    VMS.lock().here.iter().any(|other| Arc::ptr_eq(other, vm))
}

/// All VMs.
pub(crate) fn all() -> Vec<Arc<Vm>> {
    VMS.lock().here.clone()
}

/// All that are being made.
pub(crate) fn making() -> Vec<Arc<Nascent>> {
    VMS.lock().making.clone()
}

/// Whether there is one.
pub(crate) fn is_making() -> bool {
    !VMS.lock().making.is_empty()
}

/// The one of this name that is being made.
pub(crate) fn nascent(name: &str) -> Option<Arc<Nascent>> {
    VMS.lock().making.iter().find(|vm| vm.name == name).cloned()
}
