//! The time-stamp counter: the host's clock. CPUs count in step: `in_step.rs` measures each as it comes up.

use core::sync::atomic::{AtomicU64, Ordering};

use bring_up::tsc::Source;

use super::{cpu, insn, io};

/// Ticks a second; until it is measured a value that only makes early log lines look early.
static HZ: AtomicU64 = AtomicU64::new(1_000_000_000);
/// Microseconds in 2^32 ticks.
static MICROS: AtomicU64 = AtomicU64::new(0);

const PIT_HZ: u64 = 1_193_182;
/// Most half-periods that [`measure`] watches, 1 ms each.
const MAX_HALVES: usize = 25;
/// How far off the edges of one measurement may be in all: polling a port takes a microsecond on real machines, and
/// emulators keep the PIT's time in microseconds.
const DOUBT_MICROS: u64 = 2;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
const SPEAKER: u16 = 0x61;
const SPEAKER_GATE: u8 = 1;
const SPEAKER_DATA: u8 = 2;
const SPEAKER_OUT: u8 = 0x20;

/// The counter.
#[inline(always)]
pub fn read() -> u64 {
    insn::rdtsc()
}

/// The counter, read after every load before it, and before every one after it.
pub fn read_in_order() -> u64 {
    fence();
    let now = read();
    fence();
    now
}

#[inline(always)]
fn fence() {
    // SAFETY: LFENCE is there on every CPU with long mode, and changes nothing.
    unsafe { core::arch::x86_64::_mm_lfence() };
}

/// Whether the rate is known. Without it no guest can be told one, and no deadline means anything.
pub fn is_known() -> bool {
    MICROS.load(Ordering::Relaxed) != 0
}

/// Ticks a second.
pub fn hz() -> u64 {
    HZ.load(Ordering::Relaxed)
}

/// Microseconds since the first instructions of the loader.
pub fn micros() -> u64 {
    micros_at(read())
}

/// The same at another TSC value.
pub fn micros_at(tsc: u64) -> u64 {
    let ticks = tsc.wrapping_sub(insn::entry_tsc());
    ((u128::from(ticks) * u128::from(MICROS.load(Ordering::Relaxed))) >> 32) as u64
}

/// Ticks in `micros` microseconds.
pub fn ticks(micros: u64) -> u64 {
    (u128::from(hz()) * u128::from(micros) / 1_000_000) as u64
}

/// Ticks as nanoseconds.
pub fn ns(ticks: u64) -> u64 {
    u64::try_from(u128::from(ticks) * 1_000_000_000 / u128::from(hz())).unwrap_or(u64::MAX)
}

/// Spins for `micros` microseconds.
pub fn delay(micros: u64) {
    let (start, ticks) = (read(), ticks(micros));
    while read().wrapping_sub(start) < ticks {
        core::hint::spin_loop();
    }
}

/// Measures the frequency against channel 2 of the PIT. False where the PIT does not count.
pub fn calibrate() -> bool {
    // A slow (emulated) CPU resolves the PIT finely and pays for each millisecond; a fast one can wait longer.
    let Some(coarse) = measure(1) else { return false };
    let halves = if coarse < 200_000_000 { 10 } else { MAX_HALVES };
    let Some(hz) = measure(halves) else { return false };
    take(settle(hz, DOUBT_MICROS * 1_000 / halves as u64));
    true
}

/// The rate of a machine made up.
#[cfg(not(target_os = "none"))]
pub(crate) fn set_hz(hz: u64) {
    take(hz);
}

fn take(hz: u64) {
    HZ.store(hz, Ordering::Relaxed);
    MICROS.store((1_000_000 << 32) / hz.max(1), Ordering::Relaxed);
}

/// The same against the ACPI PM timer (ACPI 6.5, 4.8.3.3) at I/O port `port`, for machines without a PIT: as
/// [`calibrate`] it says whether the timer counts.
pub fn calibrate_by_pm_timer(port: u16) -> bool {
    let mut tries = [0; 5];
    for slot in &mut tries {
        let Some(hz) = by_pm_timer(port) else { return false };
        *slot = hz;
    }
    tries.sort_unstable();
    let [_, _, median, ..] = tries;
    take(settle(median, DOUBT_MICROS * 1_000 / 50));
    true
}

/// The same as CPUID tells it, for machines without either timer; what it was taken from.
pub fn calibrate_by_cpuid() -> Option<Source> {
    let (hz, source) = bring_up::tsc::by_cpuid(|leaf| cpu::cpuid(leaf, 0))?;
    take(hz);
    Some(source)
}

/// The frequency by 10 ms of the PM timer.
fn by_pm_timer(port: u16) -> Option<u64> {
    const PM_HZ: u64 = 3_579_545;
    const COUNTS: u32 = PM_HZ as u32 / 100;
    const TRIES: u32 = 1_000_000;
    // All have 24 bits, some more.
    let count = || io::inl(port) & 0xff_ffff;
    let passed = |since: u32, now: u32| now.wrapping_sub(since) & 0xff_ffff;
    let first = count();
    let start = (0..TRIES).map(|_| count()).find(|&now| now != first)?;
    let began = read();
    let end = (0..TRIES).map(|_| count()).find(|&now| passed(start, now) >= COUNTS)?;
    let hz = u128::from(read().wrapping_sub(began)) * u128::from(PM_HZ) / u128::from(passed(start, end));
    u64::try_from(hz).ok().filter(|&hz| hz > 0)
}

/// The frequency by `halves` (up to [`MAX_HALVES`]) half-periods of a 500 Hz square wave. From edge to edge, so that
/// the delay of the polling loop cancels out.
fn measure(halves: usize) -> Option<u64> {
    const COUNT: u64 = PIT_HZ / 500;
    let speaker = io::inb(SPEAKER);
    io::outb(SPEAKER, speaker & !SPEAKER_DATA | SPEAKER_GATE);
    io::outb(PIT_COMMAND, 0b1011_0110); // channel 2, low then high byte, mode 3
    io::outb(PIT_CHANNEL_2, COUNT as u8);
    io::outb(PIT_CHANNEL_2, (COUNT >> 8) as u8);
    let mut edges = [0; MAX_HALVES + 1];
    let edges = edges.get_mut(..=halves)?;
    let seen = edges.iter_mut().all(|slot| edge().map(|time| *slot = time).is_some());
    io::outb(SPEAKER, speaker);

    let mut spans = [0; MAX_HALVES];
    let spans = spans.get_mut(..halves).filter(|_| seen)?;
    for (span, pair) in spans.iter_mut().zip(edges.windows(2)) {
        *span = pair[1].wrapping_sub(pair[0]);
    }
    spans.sort_unstable();
    let (median, total) = (*spans.get(halves / 2)?, spans.iter().sum::<u64>());
    // An SMI or a busy emulator stretches single spans; then the middle one is the best there is.
    let steady = spans.iter().all(|span| span.abs_diff(median) <= median / 64);
    let (ticks, halves) = if steady { (total, halves as u64) } else { (median, 1) };
    let hz = u128::from(ticks) * u128::from(PIT_HZ) * 2 / (u128::from(COUNT) * u128::from(halves));
    u64::try_from(hz).ok().filter(|&hz| hz > 0)
}

/// The time of the next change of channel 2's output.
fn edge() -> Option<u64> {
    const TRIES: u32 = 1_000_000;
    let before = io::inb(SPEAKER) & SPEAKER_OUT;
    (0..TRIES).find(|_| io::inb(SPEAKER) & SPEAKER_OUT != before).map(|_| read())
}

/// The exact frequency where it is known: CPUID leaf 0x15 or a whole number of MHz, if the measurement cannot tell it
/// from what was measured. Two hosts of one kind then agree to the last digit.
fn settle(measured: u64, doubt_ppm: u64) -> u64 {
    let doubt = u64::try_from(u128::from(measured) * u128::from(doubt_ppm) / 1_000_000).unwrap_or(0);
    let agrees = |hz: u64| hz != 0 && hz.abs_diff(measured) <= doubt;
    let told = cpu::id().get_tsc_info().and_then(|info| info.tsc_frequency());
    let whole = (measured + 500_000) / 1_000_000 * 1_000_000;
    told.into_iter().chain([whole]).find(|&hz| agrees(hz)).unwrap_or(measured)
}
