//! What a VM was made from.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use cmdline::VmOptions;

use super::Vm;
use crate::mm::held::Held;

/// Options, kernel and modules of a VM that was made on this host. They stay in memory for as long as the VM is here.
#[derive(Clone, Debug)]
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

    /// Kernel and modules.
    pub(super) fn files(&self) -> Vec<&[u8]> {
        let modules = self.modules.iter().map(|(module, _)| module.bytes());
        core::iter::once(self.kernel.bytes()).chain(modules).collect()
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
}
