//! What keeps from a VM what its policy hides, on this host.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};
use cpu_policy::{Companion, Enforcement, Feature, FeatureSet, GuestPolicy, Ledger};
use isa_audit::Findings;

use super::host;
use hw::arch::{cpu, msr};

/// What is written into the VMCS of a guest, and told by its ledger.
pub(crate) fn enforcement(guest: &GuestPolicy) -> Enforcement {
    Enforcement::on(guest.features(), host())
}

/// True where this CPU has IA32_TSC_AUX.
pub(crate) fn has_tsc_aux() -> bool {
    host().raw.contains(Feature::Rdtscp)
}

/// The ledger of a guest on this host.
pub(crate) fn of(guest: &GuestPolicy) -> Ledger {
    Ledger::new(guest, host())
}

/// The features that a guest was not told of and that do not work for it here.
pub(crate) fn stopped(guest: &GuestPolicy) -> FeatureSet {
    let mut set = FeatureSet::EMPTY;
    for row in of(guest).rows.iter().filter(|row| !row.is_hole()) {
        set = row.feature().map_or(set, |feature| set.with(feature));
    }
    set
}

/// What the operator should know of a guest before it comes: an audit has seen it execute what does not work here.
pub(crate) fn warning(guest: &GuestPolicy, companion: &Companion) -> Option<String> {
    let seen = companion.seen.as_deref()?;
    match Findings::decode(seen) {
        Ok(findings) => findings.warning(stopped(guest)),
        Err(error) => Some(format!("what an audit has seen cannot be read here: {error}")),
    }
}

/// MSR_FEATURE_CONFIG, Westmere and later: bit 0 locks it until reset, bit 1 takes AES-NI away.
const MSR_FEATURE_CONFIG: u32 = 0x13c;
const LOCKED: u64 = 1 << 0;
const AES_DISABLED: u64 = 1 << 1;

static AESNI_OFF: AtomicBool = AtomicBool::new(false);

/// What the boot line says of AES-NI, carried out on this CPU: before the host's policy is read.
pub(crate) fn set_aesni(keep: bool) {
    AESNI_OFF.store(!keep, Ordering::Relaxed);
    take_aesni();
}

/// Takes AES-NI from this CPU, if the boot line says so. It lasts until the next reset, and for every VM: that is why it
/// is the operator's to ask for, and why the host then counts as one without.
pub(crate) fn take_aesni() {
    let has = || hw::arch::cpu::id().get_feature_info().is_some_and(|f| f.has_aesni());
    if !AESNI_OFF.load(Ordering::Relaxed) || !has() {
        return;
    }
    let cpu = cpu::this().index;
    let Some(value) = msr::read_safe(MSR_FEATURE_CONFIG) else {
        log::warn!(target: "cpu", "CPU {cpu}: aesni=off: no MSR 13C");
        return;
    };
    if value & LOCKED != 0 {
        log::warn!(target: "cpu", "CPU {cpu}: aesni=off: firmware has locked MSR 13C ({value:#x})");
        return;
    }
    msr::write_safe(MSR_FEATURE_CONFIG, value | AES_DISABLED);
    if has() {
        log::warn!(target: "cpu", "CPU {cpu}: aesni=off: MSR 13C has no effect");
    } else {
        log::info!(target: "cpu", "CPU {cpu}: AES-NI off by MSR 13C");
    }
}
