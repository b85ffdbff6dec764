//! Why a kernel cannot be loaded.

use vm_types::MemoryError;

/// Why an image cannot start in a VM. Addresses are guest-physical, lengths in bytes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoadError {
    /// None of the supported headers.
    #[error("no bzImage header, PVH note or Multiboot header: not a kernel Flexvisor can start")]
    NotAKernel,
    /// A header's field has a value that cannot be used.
    #[error("{what} {value:#x}: {need}")]
    Field {
        /// Header and field.
        what: &'static str,
        /// What the image has there.
        value: u64,
        /// What would be needed.
        need: &'static str,
    },
    /// A header points behind the end of the file.
    #[error("{what}: bytes {offset:#x} to {end:#x} of a file of {len:#x} bytes")]
    Truncated {
        /// What was to be read.
        what: &'static str,
        /// Its place in the file.
        offset: u64,
        /// Its end, saturated.
        end: u64,
        /// The file's length.
        len: u64,
    },
    /// A fixed place that is not free RAM of the VM.
    #[error("{what} at {start:#x}, {len:#x} bytes: not free RAM of this VM (it ends at {ram_end:#x})")]
    NotFree {
        /// What was to be placed.
        what: &'static str,
        /// Where.
        start: u64,
        /// How long it is.
        len: u64,
        /// The end of the VM's RAM.
        ram_end: u64,
    },
    /// No place is left.
    #[error("no room for {what}, {len:#x} bytes below {limit:#x}: the VM's RAM ends at {ram_end:#x}")]
    NoRoom {
        /// What was to be placed.
        what: &'static str,
        /// How long it is.
        len: u64,
        /// The address it must stay below.
        limit: u64,
        /// The end of the VM's RAM.
        ram_end: u64,
    },
    /// The kernel takes a shorter command line.
    #[error("command line of {len} bytes: this kernel takes {max}")]
    CommandLine {
        /// Length of the given one.
        len: usize,
        /// The most it takes.
        max: u64,
    },
    /// The command line would end early.
    #[error("command line contains a NUL character")]
    CommandLineNul,
    /// Guest memory refused a write.
    #[error("guest memory: {0}")]
    Memory(MemoryError),
}

impl From<MemoryError> for LoadError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}
