//! Kernel and modules on their way into a VM's memory.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use devices::acpi::{self, AcpiShape};
use guest_load::{Copies, Module, Noted};
use vm_types::{Gpa, GuestMemory};

use super::source::Source;
use super::{Vm, create};
use hw::mm::held::Held;

/// What is to be copied yet, and of what.
pub(super) struct Loading {
    copies: Copies,
    held: Vec<Arc<Held>>,
}

/// Kernel and modules.
fn bytes(held: &[Arc<Held>]) -> Vec<&[u8]> {
    held.iter().map(|held| held.bytes()).collect()
}

impl Loading {
    /// Lays kernel and modules out in a VM that does not run and whose memory holds zeros, sets its first vCPU to the
    /// kernel's entry and has all others wait for a start-up IPI. What is long is copied by [`Loading::step`].
    ///
    /// # Errors
    /// Why the kernel cannot be loaded.
    pub(super) fn begin(vm: &Vm, source: &Source) -> Result<Self, String> {
        let Source { options, files } = source;
        let held = source.held()?;
        let modules = held.iter().zip(files).skip(1);
        let modules: Vec<Module<'_>> =
            modules.map(|(held, file)| Module { bytes: held.bytes(), string: &file.text }).collect();
        let shape = AcpiShape {
            vcpus: options.vcpus as u16,
            base: acpi::DEFAULT_BASE,
            pci: vm.board.pci.then_some(Gpa(vm.board.low_ram)),
        };
        let tables = acpi::build(&shape);
        for (gpa, bytes) in &tables.pieces {
            vm.memory.write(*gpa, bytes).map_err(|error| format!("ACPI tables: {error}"))?;
        }
        let files = bytes(&held);
        let noted = Noted::new(&vm.memory, &files);
        let kernel = files.first().copied().unwrap_or_default();
        let entry = guest_load::load(&noted, kernel, &options.args, &modules, Some(tables.rsdp))
            .map_err(|error| error.to_string())?;
        let copies = noted.copies();
        if options.vcpus > 1 && options.args.split_whitespace().any(|word| word == "acpi=off") {
            log::warn!(target: "vm", "vm {}: acpi=off: its kernel finds one of its {} vCPUs", vm.name, options.vcpus);
        }
        let mut state = create::initial_state(&entry);
        for slot in &vm.vcpus {
            let mut vcpu = slot.vcpu.lock();
            vcpu.import(vm, &state).map_err(|error| error.to_string())?;
            // Firmware starts one, and leaves all others waiting.
            state.init(vcpu.vcpu.signature());
        }
        Ok(Self { copies, held })
    }

    /// Copies up to `most` bytes. True while some are left.
    ///
    /// # Errors
    /// They do not fit.
    pub(super) fn step(&mut self, vm: &Vm, most: usize) -> Result<bool, String> {
        self.copies.step(&vm.memory, &bytes(&self.held), most).map_err(|error| error.to_string())
    }
}
