//! Machine-check registers of the calling CPU, and the exception.

use bring_up::mce::{self, Bank, Caps, Context, Finding, Msrs, Verdict};
use x86_64::registers::control::Cr4Flags;

use super::{cpu, insn, msr};

/// Hypervisors lend banks that lack registers of the real ones: a #GP there is no reason to end.
struct Registers;

impl Msrs for Registers {
    fn read(&mut self, msr: u32) -> u64 {
        msr::read_safe(msr).unwrap_or(0)
    }

    fn write(&mut self, msr: u32, value: u64) {
        msr::write_safe(msr, value);
    }
}

/// The calling CPU's capabilities, if it has banks.
pub fn caps() -> Option<Caps> {
    let features = cpu::id().get_feature_info()?;
    (features.has_mce() && features.has_mca()).then(|| Caps::read(&mut Registers))
}

/// Sets up the calling CPU's banks and lets machine checks come: without CR4.MCE one shuts the machine down. `left` gets
/// what the boot before or firmware left in them. None where there are no banks.
pub fn init_cpu(left: impl FnMut(Bank)) -> Option<mce::Ready> {
    caps()?;
    let family_model =
        cpu::id().get_feature_info().map_or(0, |f| u32::from(f.family_id()) << 8 | u32::from(f.model_id()));
    let feature_control = msr::read_safe(msr::IA32_FEATURE_CONTROL).filter(|_| cpu::is_intel()).unwrap_or(0);
    let ready = mce::set_up(&mut Registers, family_model, feature_control, left);
    // SAFETY: the exception has a gate and a stack of its own on this CPU; nothing else changes.
    unsafe { insn::set_cr4(insn::cr4() | Cr4Flags::MACHINE_CHECK_EXCEPTION.bits()) };
    Some(ready)
}

/// Handles a machine check of the calling CPU.
pub fn handle(context: Context, found: impl FnMut(Finding)) -> Verdict {
    match caps() {
        Some(caps) => mce::handle(&mut Registers, caps, context, found),
        None => Verdict::StopHost, // an exception that nothing can explain
    }
}

/// Looks for errors of the calling CPU that no machine check comes of.
pub fn poll(found: impl FnMut(Finding)) {
    if let Some(caps) = caps() {
        mce::poll(&mut Registers, caps, found);
    }
}

/// How many banks of the calling CPU are off, or hold an error that nobody has dealt with.
pub fn trouble() -> u64 {
    caps().map_or(0, |caps| mce::trouble(&mut Registers, caps))
}
