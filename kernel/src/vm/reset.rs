//! What a VM was made from, and making it anew from that.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use cmdline::VmOptions;
use devices::Platform;
use ept::Tracked;

use super::{Change, Vm, create};
use crate::arch::tsc;
use crate::mm::held::Held;

/// Options, kernel and modules of a VM that was made on this host. They stay in memory for as long as the VM is here.
#[derive(Debug)]
pub(crate) struct Source {
    /// The options of its module line.
    pub(crate) options: VmOptions,
    /// The kernel.
    pub(crate) kernel: Arc<Held>,
    /// Its modules, the initrd first, with their strings.
    pub(crate) modules: Vec<(Arc<Held>, String)>,
}

impl Source {
    /// Bytes of kernel and modules.
    pub(crate) fn bytes(&self) -> u64 {
        self.kernel.len() + self.modules.iter().map(|(module, _)| module.len()).sum::<u64>()
    }
}

impl Vm {
    /// What is to be said of one without [`Source`].
    pub(crate) fn has_no_kernel(&self) -> String {
        let name = self.name.get();
        alloc::format!(
            "vm {name} came from another host, its kernel is not here: `vm destroy {name} --force` and `vm create` make it anew"
        )
    }

    /// Boots the guest anew, whatever it does now: as a reset button would. The time line goes on.
    ///
    /// # Errors
    /// Why not, in words; the VM is as it was, or paused where its kernel could not be loaded.
    pub(crate) fn boot_anew(&self) -> Result<(), String> {
        let source = self.source.as_ref().ok_or_else(|| self.has_no_kernel())?;
        self.apply(Change::Reset)?;
        self.wait_off();
        *self.stop_reason.lock() = None;
        self.empty_uart();
        self.memory.clear();
        *self.platform.lock() = Platform::new(&self.board);
        for slot in &self.vcpus {
            // A vCPU that stopped by itself may have been asked for something that it never did.
            slot.requests.store(0, Ordering::Release);
        }
        create::load(self, source)?;
        // What the CPUs remember of the guest's old page tables is gone with them.
        self.flush();
        self.restarts.lock().began(tsc::micros());
        self.apply(Change::Run)
    }
}
