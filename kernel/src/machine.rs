//! What the machine reports by itself: machine checks, corrected errors, external NMIs. An exception may come with any lock
//! held, so its handler only notes what it found; CPU 0's loop logs it, a few lines a second.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bring_up::mce::{Bank, Context, Finding, Severity, Verdict};
use bring_up::nmi::Reason;

use crate::lock::{self, Mutex};
use crate::log::emergency;
use hw::arch::{cpu, io, machine_check, tsc};

/// How often a CPU looks into its banks, in microseconds; those that CPUs share are seen by whoever comes first.
const POLL_US: u64 = 10_000_000;
/// Lines of errors in a second.
const LINES: usize = 4;
/// Port of SERR and channel check.
const SYSTEM_CONTROL: u16 = 0x61;

/// Errors that wait for the log.
static NOTES: Mutex<Notes> = Mutex::new(lock::ERRORS, Notes { list: [None; 16], count: 0 });
/// Errors that found no room there, or the list locked.
static LOST: AtomicU64 = AtomicU64::new(0);
/// NMIs that nobody of ours sent: how many, and where and on which CPU the last came.
static NMIS: AtomicU64 = AtomicU64::new(0);
/// Those of them that the self-test sent.
static NMIS_EXPECTED: AtomicU64 = AtomicU64::new(0);
static NMI_AT: AtomicU64 = AtomicU64::new(0);
static NMI_CPU: AtomicU32 = AtomicU32::new(0);

struct Notes {
    list: [Option<(usize, When, Bank)>; 16],
    count: usize,
}

/// How an error was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// In a bank at the start.
    Before,
    /// By an exception, or a poll; what it means.
    Now(Severity),
}

impl When {
    const fn name(self) -> &'static str {
        match self {
            Self::Before => "left by the boot before",
            Self::Now(Severity::Corrected) => "corrected error",
            Self::Now(Severity::NoAction) => "uncorrected error, not used yet",
            Self::Now(Severity::Optional) => "uncorrected error, found before it was used",
            Self::Now(Severity::Required) => "uncorrected error in what ran",
            Self::Now(Severity::Fatal) => "fatal error",
        }
    }
}

fn note(when: When, bank: Bank) {
    let room = NOTES.try_lock().is_some_and(|mut notes| {
        let at = notes.count;
        let Some(slot) = notes.list.get_mut(at) else { return false };
        *slot = Some((cpu::this().index, when, bank));
        notes.count += 1;
        true
    });
    if !room {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

fn found(finding: Finding) {
    note(When::Now(finding.severity), finding.bank);
}

/// Sets up the calling CPU's machine checks.
pub(crate) fn init_cpu() {
    let ready = machine_check::init_cpu(|bank| note(When::Before, bank));
    if let (Some(ready), 0) = (ready, cpu::this().index) {
        log::info!(
            target: "mce",
            "{} banks, recovery{}, local{}",
            ready.caps.banks(),
            if ready.caps.recovery() { "+" } else { "-" },
            if ready.local { "+" } else { "-" },
        );
    }
}

/// A machine check on the calling CPU, whoever ran. One path for both: what is done is the verdict's.
pub(crate) fn check(context: Context) -> Verdict {
    let mut worst = None;
    let verdict = machine_check::handle(context, |finding| {
        found(finding);
        worst = worst.max(Some((finding.severity, finding.bank.number, finding.bank)));
    });
    if verdict == Verdict::StopHost
        && let Some((_, _, bank)) = worst
    {
        emergency(format_args!("mce: CPU {}: {bank}\n", cpu::this().index));
    }
    verdict
}

/// An NMI that nobody of ours sent.
pub(crate) fn nmi(rip: u64) {
    NMI_AT.store(rip, Ordering::Relaxed);
    NMI_CPU.store(cpu::this().index as u32, Ordering::Relaxed);
    NMIS.fetch_add(1, Ordering::Release);
}

/// NMIs so far; `expected` more are somebody's own, and are not told.
pub(crate) fn nmis(expected: u64) -> u64 {
    NMIS_EXPECTED.fetch_add(expected, Ordering::Relaxed);
    NMIS.load(Ordering::Acquire)
}

/// When a CPU looks into its banks again.
#[derive(Default)]
pub(crate) struct Watch {
    due: u64,
    /// CPU 0 only: when it logs again, and what it has told.
    log_due: u64,
    nmis: u64,
}

impl Watch {
    /// Looks into the calling CPU's banks if it is time; on CPU 0 logs what all have found.
    pub(crate) fn poll(&mut self) {
        let now = tsc::read();
        if now >= self.due {
            self.due = now + tsc::ticks(POLL_US);
            machine_check::poll(found);
        }
        if cpu::this().index == 0 && now >= self.log_due {
            self.log_due = now + tsc::ticks(1_000_000);
            self.log();
        }
    }

    fn log(&mut self) {
        let (mut taken, mut rest) = ([None; LINES], 0);
        if let Some(mut notes) = NOTES.try_lock() {
            let count = core::mem::take(&mut notes.count);
            for (slot, note) in taken.iter_mut().zip(&notes.list[..count]) {
                *slot = *note;
            }
            rest = count.saturating_sub(LINES) as u64;
        }
        for (cpu, when, bank) in taken.into_iter().flatten() {
            log::warn!(target: "mce", "CPU {cpu}: {}: {bank}", when.name());
        }
        let rest = rest + LOST.swap(0, Ordering::Relaxed);
        if rest > 0 {
            log::warn!(target: "mce", "{rest} more errors");
        }
        let nmis = NMIS.load(Ordering::Acquire).saturating_sub(NMIS_EXPECTED.load(Ordering::Relaxed));
        if nmis != self.nmis {
            let reason = Reason(io::inb(SYSTEM_CONTROL));
            log::warn!(
                target: "nmi",
                "{} unexpected NMIs, the last on CPU {} at {:#x}: {reason}",
                nmis - self.nmis,
                NMI_CPU.load(Ordering::Relaxed),
                NMI_AT.load(Ordering::Relaxed),
            );
            for value in reason.rearm().into_iter().flatten() {
                io::outb(SYSTEM_CONTROL, value);
            }
            self.nmis = nmis;
        }
    }
}

#[cfg(test)]
mod tests;
