//! `check=entry`: every VM entry is judged by the SDM's rules before the CPU judges it, and every exit by what it left to
//! be done. Emulators check few of these rules.

use alloc::boxed::Box;
use alloc::format;
use core::sync::atomic::{AtomicU8, Ordering};
use vmx_types::field;
use vmx_types::rules::Checker;

use super::Vcpu;
use crate::guest::StopReason;
use hw::vmx::host;
use hw::vmx::vmcs::Current;

/// Width of a physical address in bits, where entries are checked; else 0.
static PHYS_BITS: AtomicU8 = AtomicU8::new(0);

/// Before any VM is made: whether entries are checked.
pub(crate) fn init(on: bool) {
    if on {
        let info = hw::arch::cpu::id().get_processor_capacity_feature_info();
        PHYS_BITS.store(info.map_or(36, |info| info.physical_address_bits()), Ordering::Relaxed);
        log::info!(target: "vmx", "each VM entry is checked by the SDM's rules, as check= says");
    }
}

/// For a test, which checks one vCPU alone: that width.
#[cfg(test)]
pub(super) fn on_this_host(phys_bits: u8) {
    PHYS_BITS.store(phys_bits, Ordering::Relaxed);
}

/// The checker of a new vCPU.
pub(super) fn checker() -> Option<Box<Checker>> {
    (PHYS_BITS.load(Ordering::Relaxed) != 0).then(Box::default)
}

/// What the last exit said: most rules are broken by what was made of it.
struct After<'a>(Current<'a>);

impl core::fmt::Display for After<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (reason, vectoring) = (self.0.read(field::EXIT_REASON), self.0.read(field::IDT_VECTORING_INFO));
        write!(f, ", after exit {reason:#x}, qualification {:#x}", self.0.read(field::EXIT_QUALIFICATION))?;
        write!(f, ", IDT-vectoring {vectoring:#x}")
    }
}

impl Vcpu {
    /// Whether its entries are judged.
    pub(crate) fn is_checked(&self) -> bool {
        self.checker.is_some()
    }

    /// Judges the entry that is about to be made.
    ///
    /// # Errors
    /// The VM's end, with the rule that its state breaks.
    #[cold]
    pub(crate) fn check_entry(&mut self, vmcs: Current<'_>) -> Result<(), StopReason> {
        let Some(checker) = &mut self.checker else { return Ok(()) };
        let caps = &host::this().expect("VMX is on").caps;
        checker
            .before_entry(&vmcs, caps, PHYS_BITS.load(Ordering::Relaxed))
            .map_err(|broken| StopReason::Error(format!("VM entry would fail: {broken}{}", After(vmcs))))
    }

    /// Notes what an exit leaves to be done.
    #[cold]
    pub(crate) fn note_exit(&mut self, vmcs: Current<'_>) {
        if let Some(checker) = &mut self.checker {
            checker.after_exit(&vmcs);
        }
    }
}
