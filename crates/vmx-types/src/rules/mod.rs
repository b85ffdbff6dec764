//! The rules of VM entry (SDM 26.2, 26.3) and of what an exit leaves to be done (SDM 27), as pure code: an emulator
//! checks few of them, silicon all. The state of a VMCS and that of a record are judged by the same rules.

use core::fmt;

mod checker;
mod controls;
mod event;
mod guest;
mod host;
mod segments;
#[cfg(test)]
pub(crate) mod tests;

pub use checker::Checker;
pub use controls::ControlFields;
pub use event::EventFields;
pub use guest::{GuestFields, GuestRegs};
pub use host::HostFields;
pub(crate) use segments::SEGMENT_WORDS;

/// A rule that a state breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Section of the SDM's volume 3C.
    pub rule: &'static str,
    /// What breaks it.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:#x} (SDM {})", self.field, self.value, self.rule)
    }
}

/// Whether a rule holds.
pub type Verdict = Result<(), Broken>;

fn need(ok: bool, rule: &'static str, field: &'static str, value: u64) -> Verdict {
    if ok { Ok(()) } else { Err(Broken { rule, field, value }) }
}

/// What of the CPU and of its controls the rules for a guest depend on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mode {
    /// Unrestricted guest is in use.
    pub unrestricted: bool,
    /// CR0 bits that must be 1, that may be 1. Of PE and PG, [`Mode::unrestricted`] decides.
    pub cr0: (u64, u64),
    /// CR4 bits that must be 1, that may be 1.
    pub cr4: (u64, u64),
    /// Width of a physical address in bits.
    pub phys_bits: u8,
}

/// All bits above 47 are as bit 47.
pub(crate) const fn canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

/// True where bits of a physical address lie above the CPU's width.
pub(crate) const fn too_wide(address: u64, phys_bits: u8) -> bool {
    phys_bits < 64 && address >> phys_bits != 0
}

/// Eight memory types of IA32_PAT.
pub(crate) fn pat_is_legal(pat: u64) -> bool {
    pat.to_le_bytes().iter().all(|kind| matches!(kind, 0 | 1 | 4..=7))
}
