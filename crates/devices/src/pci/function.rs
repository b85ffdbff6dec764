//! A function on the PCI bus, and what the bus does for it.

use super::msix::{Msix, MsixShape};
use crate::config::PlatformConfig;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use virtio::Host;
use vm_types::{GuestMemory, Now};

/// A device on the PCI bus. It says what it is; the bus keeps its configuration space and its MSI-X table, finds it by its
/// base addresses, carries its interrupts, and wraps its state in a record.
pub trait Function: Send {
    /// What its state record is called, and its entry in the shape of a VM.
    fn kind() -> &'static str
    where
        Self: Sized;

    /// As it is after a reset, on a machine made by `config`.
    fn build(config: &PlatformConfig) -> Self
    where
        Self: Sized;

    /// What its configuration space shows. Asked once.
    fn identity(&self) -> Identity;

    /// A read of `size` bytes (1, 2, 4 or 8) at `offset` of a base address register's window, all of them inside.
    fn read(&mut self, bar: usize, offset: u64, size: u8, now: Now) -> u64 {
        let _ = (bar, offset, size, now);
        u64::MAX
    }

    /// A write of the low `size` bytes of `value`, likewise.
    fn write(&mut self, bar: usize, offset: u64, size: u8, value: u64, now: Now, signals: &mut Signals<'_>) {
        let _ = (bar, offset, size, value, now, signals);
    }

    /// The work that it asked for by [`Signals::ask_service`], and once after it came from another host: here it sees the
    /// guest's memory. It does a bounded amount, and asks again where some is left.
    fn service(
        &mut self,
        memory: &dyn GuestMemory,
        host: &mut dyn Host,
        now: Now,
        signals: &mut Signals<'_>,
    ) {
        let _ = (memory, host, now, signals);
    }

    /// The level of its interrupt pin. It does not matter while MSI-X is on.
    fn line(&self) -> bool {
        false
    }

    /// Its own state: what the bus does not keep for it.
    fn export(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes over the state that another host sent, which may be anything.
    ///
    /// # Errors
    /// The field and value that it cannot have.
    fn import(&mut self, state: &[u8]) -> Result<(), String> {
        if state.is_empty() {
            Ok(())
        } else {
            Err(alloc::format!("{} bytes of state, it has none", state.len()))
        }
    }
}

/// What a function may ask for while it is accessed or serviced.
pub struct Signals<'a> {
    pub(super) msix: Option<&'a mut Msix>,
    pub(super) service: bool,
}

impl Signals<'_> {
    /// Raises the interrupt of an entry of its MSI-X table. One that is masked waits; without MSI-X, or of an entry that
    /// is not there, nothing happens.
    pub fn interrupt(&mut self, vector: u16) {
        if let Some(msix) = &mut self.msix {
            msix.raise(vector);
        }
    }

    /// Has [`Function::service`] called before the guest runs on.
    pub fn ask_service(&mut self) {
        self.service = true;
    }
}

/// A window of a function, by the register that says where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bar {
    /// The register is not there.
    None,
    /// So many ports: a power of two, 4 at least.
    Io(u32),
    /// So many bytes of 32-bit, not prefetchable memory: a power of two, a page at least.
    Memory(u32),
}

/// A register in configuration space that is the function's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register {
    /// Where.
    pub at: u8,
    /// Its bytes after reset.
    pub reset: &'static [u8],
    /// The bits that a guest can write; what is missing at the end cannot be written.
    pub writable: &'static [u8],
}

/// What a function is: the fixed part of its configuration space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Revision ID.
    pub revision: u8,
    /// Class, subclass and programming interface, as 0xCCSSPP.
    pub class: u32,
    /// Subsystem vendor ID.
    pub subsystem_vendor: u16,
    /// Subsystem ID.
    pub subsystem: u16,
    /// 1 to 4 for INTA# to INTD#; 0 for none.
    pub pin: u8,
    /// Base address registers, the first six.
    pub bars: &'static [Bar],
    /// Its MSI-X capability.
    pub msix: Option<MsixShape>,
    /// Further capabilities, all read-only: ID, and what follows the pointer to the next.
    pub capabilities: &'static [(u8, &'static [u8])],
    /// A capability by which its windows are accessed in configuration space.
    pub portal: bool,
    /// Registers of its own, none of them in the way of a capability: those take the bytes from 0x40 on.
    pub registers: &'static [Register],
}

impl Identity {
    /// Nothing but a name: no interrupt, no window, no capability.
    #[must_use]
    pub const fn bare(vendor: u16, device: u16, class: u32) -> Self {
        Self {
            vendor,
            device,
            revision: 0,
            class,
            subsystem_vendor: 0x1AF4,
            subsystem: 0x1100,
            pin: 0,
            bars: &[],
            msix: None,
            capabilities: &[],
            portal: false,
            registers: &[],
        }
    }
}

/// A place on the bus and how its function is made.
#[derive(Clone, Copy)]
pub struct Socket {
    pub(super) place: u8,
    pub(super) kind: fn() -> &'static str,
    pub(super) build: fn(&PlatformConfig) -> Box<dyn Function>,
    has: fn(&PlatformConfig) -> bool,
}

impl Socket {
    /// Function `F` as 00:`device`.`function`.
    #[must_use]
    pub const fn of<F: Function + 'static>(device: u8, function: u8) -> Self {
        Self {
            place: (device & 31) << 3 | function & 7,
            kind: F::kind,
            build: |config| Box::new(F::build(config)),
            has: |_| true,
        }
    }

    /// The same, on machines alone that have it.
    #[must_use]
    pub const fn where_there(self, has: fn(&PlatformConfig) -> bool) -> Self {
        Self { has, ..self }
    }

    /// Whether a machine made by `config` has it.
    pub(super) fn is_on(&self, config: &PlatformConfig) -> bool {
        (self.has)(config)
    }

    /// The kind of its function.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        (self.kind)()
    }
}
