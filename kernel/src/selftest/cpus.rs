//! Checks of each CPU: that it is there, its clock, its timer, interrupts.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::task::Poll;

use selftest_report::Verdict;

use super::{Run, askable, ensure};
use crate::{boot, machine};
use hw::arch::{cpu, in_step, tsc};
use hw::platform::{apic, call, irq};

pub(super) const RUNS: [Run; 7] = [
    ("cpus", || Verdict::of(started())),
    ("clock", || Verdict::of(clock())),
    ("tsc-invariant", || Verdict::of(invariant())),
    ("tsc-in-step", in_step),
    (TIMER, || Verdict::of(timers())),
    ("ipi", ipi),
    ("nmi", || Verdict::of(nmi())),
];

/// How long a CPU may take to answer, in microseconds.
const PATIENCE_US: u64 = 1_000_000;
/// TSCs below count an emulator's instructions, not time.
const LEAST_REAL_HZ: u64 = 500_000_000;

fn started() -> Result<String, String> {
    let madt = boot::get().and_then(|boot| boot.acpi.madt.as_ref());
    let enabled = madt.map_or(1, |madt| madt.cpus.iter().filter(|cpu| cpu.enabled).count());
    let text = format!("{} of {enabled}", cpu::count());
    if cpu::count() >= enabled { Ok(text) } else { Err(text) }
}

/// The rate is known; CPUID's word on it is not far off, where it has one and ticks are time.
fn clock() -> Result<String, String> {
    ensure(tsc::is_known(), "neither PIT, ACPI timer nor CPUID tells the rate")?;
    let measured = tsc::hz();
    match bring_up::tsc::by_cpuid(|leaf| cpu::cpuid(leaf, 0)) {
        None => Ok(format!("{measured} Hz; CPUID says nothing")),
        Some((told, source)) => {
            let text = format!("{measured} Hz; {told} Hz by {source}");
            let off = measured >= LEAST_REAL_HZ && told.abs_diff(measured) > measured / 100;
            if off { Err(text) } else { Ok(text) }
        }
    }
}

fn invariant() -> Result<String, String> {
    ensure(bring_up::tsc::is_invariant(|leaf| cpu::cpuid(leaf, 0)), "CPUID.80000007:EDX.8 is 0")?;
    Ok(String::new())
}

/// What each CPU's TSC was ahead when it came up, after TSC_ADJUST was set.
fn in_step() -> Verdict {
    let others: Vec<_> =
        (1..cpu::count()).filter_map(|index| Some((index, in_step::ahead(index)?))).collect();
    if others.is_empty() {
        return Verdict::NotTried("one CPU".into());
    }
    let doubt = others.iter().map(|(_, ahead)| ahead.doubt()).max().unwrap_or(0);
    let adjust = if in_step::has_adjust() {
        let adjusts = askable().filter_map(|index| call::on(index, PATIENCE_US, in_step::adjust));
        let values: Vec<String> = adjusts.map(|value| format!("{}", value.cast_signed())).collect();
        format!("IA32_TSC_ADJUST {}", values.join(" "))
    } else {
        "no IA32_TSC_ADJUST".into()
    };
    match others.iter().find(|(_, ahead)| ahead.ticks() != Some(0)) {
        None => Verdict::Passed(format!("{} CPUs within {doubt} ticks, {adjust}", others.len() + 1)),
        Some((index, ahead)) => Verdict::Failed(match ahead.ticks() {
            Some(ticks) => format!("CPU {index} is {ticks} ticks ahead of CPU 0, {adjust}"),
            None => format!("CPU {index} counts at another rate than CPU 0, {adjust}"),
        }),
    }
}

/// Ticks that came to the CPU whose timer is measured; others' timers bound guests and end idle times.
static TICKS: AtomicU64 = AtomicU64::new(0);
static MEASURED: AtomicUsize = AtomicUsize::new(usize::MAX);

fn tick() {
    if MEASURED.load(Ordering::Relaxed) == cpu::this().index {
        TICKS.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ticks of the TSC until the calling CPU's timer fires that is set to a millisecond; 0 where it does not.
fn millisecond() -> u64 {
    let millisecond = tsc::hz() / 1000;
    apic::timer_stop();
    irq::drain(); // what it has sent before
    TICKS.store(0, Ordering::Relaxed);
    MEASURED.store(cpu::this().index, Ordering::Relaxed);
    let start = tsc::read();
    apic::timer_once(millisecond);
    while TICKS.load(Ordering::Relaxed) == 0 && tsc::read() - start < 500 * millisecond {
        irq::drain();
    }
    let waited = tsc::read() - start;
    apic::timer_stop();
    MEASURED.store(usize::MAX, Ordering::Relaxed);
    if TICKS.load(Ordering::Relaxed) == 0 { 0 } else { waited }
}

/// The name of the check below.
pub(super) const TIMER: &str = "timer";
/// So many shots, of which the least is the timer's: the first is for caches, others for SMIs and for a hypervisor below that
/// has something else to do. The first that is right ends it.
const SHOTS: u32 = 30;

/// The APIC timer of each CPU fires when it should: a shot at a time.
pub(super) struct Timers {
    /// The CPU whose turn it is, or one before that.
    index: usize,
    shots: u32,
    least_of_cpu: u64,
    least: u64,
    most: u64,
    cpus: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Self { index: 0, shots: 0, least_of_cpu: u64::MAX, least: u64::MAX, most: 0, cpus: 0 }
    }
}

impl Timers {
    pub(super) fn step(&mut self) -> Poll<Result<String, String>> {
        irq::register(apic::TIMER, tick);
        let hz = tsc::hz();
        let Some(index) = askable().find(|&index| index >= self.index) else {
            let Self { least, most, cpus, .. } = self;
            return Poll::Ready(Ok(format!(
                "1 ms took {least} to {most} ticks of the TSC, which has {hz} Hz, on {cpus} CPUs"
            )));
        };
        self.index = index;
        if let Some(took) = call::on(index, PATIENCE_US, millisecond).filter(|&took| took > 0) {
            self.least_of_cpu = self.least_of_cpu.min(took);
        }
        self.shots += 1;
        let (took, wanted) = (self.least_of_cpu, hz / 1000);
        let right = (wanted - wanted / 10..wanted + wanted / 10).contains(&took);
        if self.shots == 1 || (!right && self.shots < SHOTS) {
            return Poll::Pending;
        }
        if took == u64::MAX {
            return Poll::Ready(Err(format!("CPU {index}: not one tick")));
        }
        if !right {
            let why = format!("CPU {index}: 1 ms took {took} ticks of the TSC, which has {hz} Hz");
            return Poll::Ready(Err(why));
        }
        (self.least, self.most, self.cpus) = (took.min(self.least), took.max(self.most), self.cpus + 1);
        (self.index, self.shots, self.least_of_cpu) = (index + 1, 0, u64::MAX);
        Poll::Pending
    }
}

fn timers() -> Result<String, String> {
    let mut timers = Timers::default();
    loop {
        if let Poll::Ready(result) = timers.step() {
            return result;
        }
    }
}

/// Every other CPU answers.
fn ipi() -> Verdict {
    let others: Vec<usize> = askable().filter(|&index| index != 0).collect();
    if others.is_empty() {
        return Verdict::NotTried(
            if cpu::count() == 1 { "one CPU" } else { "the other CPUs are halted without VMX" }.into(),
        );
    }
    let mut slowest = 0;
    for index in others.iter().copied() {
        let began = tsc::read();
        if call::on(index, PATIENCE_US, || 0).is_none() {
            let id = cpu::get(index).map_or(0, |cpu| cpu.apic_id);
            return Verdict::Failed(format!("CPU {index} (APIC id {id}) does not answer"));
        }
        slowest = slowest.max(tsc::read() - began);
    }
    Verdict::Passed(format!("{} other CPUs answered, the slowest in {} ns", others.len(), tsc::ns(slowest)))
}

/// Two NMIs to this CPU: the second comes only if the way back from the first let it in.
fn nmi() -> Result<String, String> {
    let own = apic::id();
    for which in ["first", "second"] {
        let before = machine::nmis(1);
        let began = tsc::micros();
        apic::send_nmi(own);
        while machine::nmis(0) == before {
            ensure(tsc::micros() - began < PATIENCE_US, &format!("the {which} NMI did not come"))?;
            core::hint::spin_loop();
        }
    }
    Ok(String::new())
}
