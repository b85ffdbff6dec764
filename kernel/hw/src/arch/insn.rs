//! The privileged instructions, one function each, and what else differs where no machine is ours. Nothing else executes
//! them; VMX has its own (`vmx/insn.rs`). For the host's tests `mock.rs` stands in their place.

#[cfg(not(target_os = "none"))]
mod mock;
#[cfg(target_os = "none")]
mod real;

#[cfg(not(target_os = "none"))]
pub(crate) use mock::*;
#[cfg(target_os = "none")]
pub(crate) use real::*;

/// What the segment registers of the calling CPU hold, and where its tables are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Segments {
    /// Selectors.
    pub(crate) cs: u16,
    pub(crate) ss: u16,
    pub(crate) ds: u16,
    pub(crate) es: u16,
    pub(crate) tr: u16,
    /// Linear addresses of the task state segment and of the two tables.
    pub(crate) tr_base: u64,
    pub(crate) gdt_base: u64,
    pub(crate) idt_base: u64,
}
