//! The end of a turn, set on the timer that this CPU's guests are bounded by (`vmx_types::slice`).

use vmx_types::field;
use vmx_types::slice::SliceTimer;

use hw::arch::tsc;
use hw::platform::apic;
use hw::vmx::host;
use hw::vmx::vmcs::Current;

/// Least time that the APIC's timer is set to, in microseconds: an interrupt that is there before the guest has run one
/// instruction lets it run none, now and at the next entry.
const LEAST_US: u64 = 5;

/// The timer of one turn.
pub(super) enum Slice {
    /// Counts at TSC rate shifted right by this, while the guest runs.
    Preemption { shift: u8 },
    /// Counts on while the host runs; set to fire at this host TSC, 0 where nobody knows.
    Apic { least: u64, end: u64 },
}

impl Slice {
    /// A turn on this CPU begins.
    pub(super) fn new() -> Self {
        match host::this().map(|cpu| (cpu.slice.timer, cpu.caps.preemption_shift)) {
            Some((SliceTimer::ApicOneShot, _)) => Self::Apic { least: tsc::ticks(LEAST_US), end: 0 },
            Some((SliceTimer::Preemption, shift)) => Self::Preemption { shift },
            None => Self::Preemption { shift: 0 },
        }
    }

    /// The guest is to come back at host TSC `end`, less than 2^32 ticks from `now`. It makes progress whatever is due.
    #[inline(always)]
    pub(super) fn set(&mut self, vmcs: Current<'_>, now: u64, end: u64) {
        match self {
            Self::Preemption { shift } => {
                let ticks = end.saturating_sub(now) >> *shift;
                vmcs.write(field::PREEMPTION_TIMER, ticks as u32 | 1);
            }
            Self::Apic { least, end: set } if *set != end => {
                apic::timer_once(end.saturating_sub(now).max(*least));
                *set = end;
            }
            Self::Apic { .. } => {}
        }
    }
}
