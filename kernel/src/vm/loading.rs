//! Kernel and modules on their way into a VM's memory.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use devices::acpi::{self, AcpiShape};
use guest_load::{Copies, Module, Noted};
use vm_types::{Gpa, GuestMemory};

use super::source::Source;
use super::{Vm, create};

/// What is to be copied yet.
pub(super) struct Loading(Copies);

impl Loading {
    /// Lays kernel and modules out in a VM that does not run and whose memory holds zeros, and sets its first vCPU to the
    /// kernel's entry. What is long is copied by [`Loading::step`].
    ///
    /// # Errors
    /// Why the kernel cannot be loaded.
    pub(super) fn begin(vm: &Vm, source: &Source) -> Result<Self, String> {
        let Source { options, kernel, modules } = source;
        let modules: Vec<Module<'_>> =
            modules.iter().map(|(held, string)| Module { bytes: held.bytes(), string }).collect();
        let shape = AcpiShape {
            vcpus: options.vcpus as u16,
            base: acpi::DEFAULT_BASE,
            pci: vm.board.pci.then_some(Gpa(vm.board.low_ram)),
        };
        let tables = acpi::build(&shape);
        for (gpa, bytes) in &tables.pieces {
            vm.memory.write(*gpa, bytes).map_err(|error| format!("ACPI tables: {error}"))?;
        }
        let files = source.files();
        let noted = Noted::new(&vm.memory, &files);
        let entry = guest_load::load(&noted, kernel.bytes(), &options.args, &modules, Some(tables.rsdp))
            .map_err(|error| error.to_string())?;
        let copies = noted.copies();
        let mut vcpu = vm.vcpus[0].vcpu.lock();
        vcpu.import(vm, &create::initial_state(&entry)).map_err(|error| error.to_string())?;
        Ok(Self(copies))
    }

    /// Copies up to `most` bytes. True while some are left.
    ///
    /// # Errors
    /// They do not fit.
    pub(super) fn step(&mut self, vm: &Vm, source: &Source, most: usize) -> Result<bool, String> {
        self.0.step(&vm.memory, &source.files(), most).map_err(|error| error.to_string())
    }
}
