//! What is done about the errors of one CPU's banks.

use super::{Bank, Caps, IA32_MCG_STATUS, Msrs, Severity, status};

const RIP_VALID: u64 = 1 << 0;
const ERROR_IP_VALID: u64 = 1 << 1;

/// What ran on the CPU when the machine check came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    /// The hypervisor.
    Host,
    /// A guest: the machine check ended its run, or its entry.
    Guest,
}

/// How it goes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// Where it was.
    GoOn,
    /// Without the VM that ran.
    StopVm,
    /// Not at all.
    StopHost,
}

/// A bank's error, for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What the bank held.
    pub bank: Bank,
    /// What it means.
    pub severity: Severity,
}

/// Handles a machine check on the calling CPU: judges each error, empties the banks that it has dealt with, and ends the
/// machine check (MCG_STATUS.MCIP).
///
/// Without local machine checks each error comes to every CPU of the machine, and CPUs that share a bank all see it. The
/// one that it concerns is the one whose instruction pointer it names (EIPV, or no RIPV to return to); the others leave an
/// error that needs action to it and go on (SDM 15.10.4.2, and Linux' table of severities).
pub fn handle(msrs: &mut impl Msrs, caps: Caps, context: Context, mut found: impl FnMut(Finding)) -> Verdict {
    let global = msrs.read(IA32_MCG_STATUS);
    let can_return = global & RIP_VALID != 0;
    let concerns_us = global & ERROR_IP_VALID != 0 || !can_return;
    let poisoned = match context {
        Context::Guest => Verdict::StopVm,
        Context::Host => Verdict::StopHost,
    };
    let mut verdict = Verdict::GoOn;
    for number in 0..caps.banks() {
        let Some(bank) = Bank::read(msrs, number) else { continue };
        let severity = bank.severity(caps);
        let ours = match severity {
            // No machine check is made of these: the next poll finds them.
            Severity::Corrected | Severity::NoAction => continue,
            _ if !bank.enabled() => continue,
            Severity::Optional => Verdict::GoOn,
            Severity::Required if concerns_us => poisoned,
            Severity::Required => continue,
            Severity::Fatal => Verdict::StopHost,
        };
        found(Finding { bank, severity });
        verdict = verdict.max(ours);
        if verdict != Verdict::StopHost {
            // What stops the host stays there for the firmware's own log, and for the boot after.
            msrs.write(status(number), 0);
        }
    }
    // Something took the instruction away that was running, whatever the banks say.
    if !can_return {
        verdict = verdict.max(poisoned);
    }
    if verdict != Verdict::StopHost {
        msrs.write(IA32_MCG_STATUS, 0);
    }
    verdict
}

/// Looks for errors that no machine check comes of, and empties their banks. What a machine check does come of is left to
/// [`handle`].
pub fn poll(msrs: &mut impl Msrs, caps: Caps, mut found: impl FnMut(Finding)) {
    for number in 0..caps.banks() {
        let Some(bank) = Bank::read(msrs, number) else { continue };
        let severity = bank.severity(caps);
        if severity <= Severity::NoAction || !bank.enabled() {
            found(Finding { bank, severity });
            msrs.write(status(number), 0);
        }
    }
}
