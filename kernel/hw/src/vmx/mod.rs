//! Intel VMX: the instructions, the capabilities of this CPU, the VMCS, entry to the guest, EPT.

pub mod bitmap;
mod caps;
mod dump;
pub mod entry;
pub mod flush;
pub mod host;
pub mod insn;
pub mod pml;
pub mod probe;
pub mod slots;
pub mod translation;
pub mod vmcs;
pub mod xsave;

pub use dump::dump;
