//! Intel VMX: the instructions, the capabilities of this CPU, the VMCS, entry to the guest, EPT.

pub(crate) mod bitmap;
mod caps;
mod dump;
pub(crate) mod entry;
pub(crate) mod ept;
pub(crate) mod flush;
pub(crate) mod host;
pub(crate) mod insn;
pub(crate) mod pml;
pub(crate) mod slots;
pub(crate) mod vmcs;
pub(crate) mod xsave;

pub(crate) use dump::dump;
