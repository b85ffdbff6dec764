//! The mask MSRs of Intel VT FlexMigration and CPUID faulting.
//!
//! Both are meant for code that runs *outside* VMX non-root operation: there CPUID always exits, and a guest's answer
//! comes from its own table. What they are good for here is the host itself: to know what its CPU offers, and to say
//! so ([`survey`]); to hold back features from code that CPUID does not trap ([`plan`], [`apply`], [`revert`]).
//!
//! Which MSR masks which leaf is model-specific and told differently by different sources (0x133 and 0x134 of Sandy
//! Bridge). So a table only says which MSRs may be tried on a CPU; what they are is decided by writing them and looking
//! at what CPUID answers then. Whatever was written is put back.
//!
//! Everything goes through [`Cpu`]: nothing here touches hardware.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod faulting;
mod generation;
mod leaf;
mod limit;
mod plan;
mod probe;
mod report;
mod survey;

pub use faulting::{Faulting, MISC_FEATURES_ENABLES, PLATFORM_INFO, set_faulting};
pub use generation::{Generation, Signature};
pub use leaf::{Leaf, Leaves};
pub use limit::{LeafLimit, MISC_ENABLE, unlock_leaves};
pub use plan::{Applied, ApplyError, Plan, Write, apply, plan, revert};
pub use probe::{Finding, Probe};
pub use report::Report;
pub use survey::{Survey, survey};

/// One logical CPU, on which the caller stays until a function of this crate is done. While [`survey`] and [`apply`]
/// run, nobody else may execute CPUID on it.
pub trait Cpu {
    /// RDMSR; `None` where it raises #GP.
    fn rdmsr(&mut self, index: u32) -> Option<u64>;
    /// WRMSR; false where it raises #GP.
    fn wrmsr(&mut self, index: u32, value: u64) -> bool;
    /// CPUID at CPL 0: EAX, EBX, ECX, EDX.
    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> [u32; 4];
}
