//! Has another CPU do something between two guests.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use spin::Mutex;

use super::{apic, irq};
use crate::arch::{cpu, tsc};

/// The index of the CPU that is to do [`JOB`], plus one; 0 once it has.
static WHO: AtomicUsize = AtomicUsize::new(0);
static JOB: Mutex<Option<fn() -> u64>> = Mutex::new(None);
static RESULT: AtomicU64 = AtomicU64::new(0);

/// What `job` gives on the CPU with that index; none where it does not answer in `micros` microseconds. CPU 0 calls this,
/// for itself, too.
pub fn on(index: usize, micros: u64, job: fn() -> u64) -> Option<u64> {
    if index == cpu::this().index {
        return Some(job());
    }
    let other = cpu::get(index)?;
    *JOB.lock() = Some(job);
    WHO.store(index + 1, Ordering::SeqCst);
    apic::send_ipi(other.apic_id, irq::KICK);
    let began = tsc::read();
    while WHO.load(Ordering::SeqCst) != 0 {
        if tsc::read().wrapping_sub(began) > tsc::ticks(micros)
            && WHO.compare_exchange(index + 1, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            return None;
        }
        core::hint::spin_loop();
    }
    Some(RESULT.load(Ordering::SeqCst))
}

/// Does what is asked of the calling CPU, if anything is.
pub fn serve() {
    let own = cpu::this().index + 1;
    if WHO.load(Ordering::Acquire) != own {
        return;
    }
    let job = *JOB.lock();
    RESULT.store(job.map_or(0, |job| job()), Ordering::SeqCst);
    // It may be too late: then nobody waits.
    let _ = WHO.compare_exchange(own, 0, Ordering::SeqCst, Ordering::SeqCst);
}
