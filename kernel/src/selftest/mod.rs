//! The host checks itself before any VM is made, where the boot line asks for it, and prints a report; the command `selftest`
//! does what of it can be done later. What an emulator
//! cannot show, and what firmware or another hypervisor does wrong, is found here, by name, and not in a guest. What the
//! lines are is said by the table of `crates/selftest-report`.

mod controls;
mod cpus;
mod guest;
mod host;
mod machine;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::task::Poll;

use cpu_policy::Dump;
use selftest_report::{Check, Line, Machine, Report, Verdict};

use crate::log as host_log;
use crate::policy;
use crate::version::version;
use hw::arch::{cpu, msr, tsc};
use hw::vmx::host as vmx;

/// A check by its name in the table.
type Run = (&'static str, fn() -> Verdict);

const RUNS: [&[Run]; 5] = [&cpus::RUNS, &machine::RUNS, &host::RUNS, &controls::RUNS, &guest::RUNS];

/// Runs every check. Nothing else runs on this host yet.
pub(crate) fn run() {
    say(format_args!("selftest: {} ---- begin: send all lines up to the end", version()));
    dump();
    let mut lines = Vec::new();
    for check in &selftest_report::CHECKS {
        let line = timed(check, run_of(check));
        say(format_args!("{line}"));
        lines.push(line);
    }
    let report = report(lines, false);
    let mut text = String::new();
    let _ = report.write_json(&mut text);
    say(format_args!("selftest: json {text}"));
    let [passed, failed, not_tried] = report.counts();
    say(format_args!("selftest: ---- end: {passed} passed, {failed} failed, {not_tried} not tried"));
}

fn run_of(check: &Check) -> fn() -> Verdict {
    let run = RUNS.into_iter().flatten().find(|(name, _)| *name == check.name);
    run.map_or(|| Verdict::NotTried("no such check".into()), |(_, run)| *run)
}

fn timed(check: &'static Check, run: impl FnOnce() -> Verdict) -> Line {
    let before = tsc::micros();
    let verdict = run();
    Line { check, verdict, us: tsc::micros() - before }
}

fn report(lines: Vec<Line>, running: bool) -> Report {
    Report { version: version(), machine: this_machine(), running, lines }
}

/// The checks that can run while the host does its work: one at a time, and of the one that takes a millisecond and more on
/// each CPU one measurement, so that CPU 0 is held no longer than that.
#[derive(Default)]
pub(crate) struct Running {
    lines: Vec<Line>,
    timers: cpus::Timers,
    /// What the timers have taken so far, in microseconds.
    timers_us: u64,
}

/// What a step has come to.
pub(crate) enum Step<'a> {
    /// A check goes on.
    Goes,
    /// A check is over.
    Line(&'a Line),
    /// All are.
    Over(Report),
}

impl Running {
    /// Goes on for a bounded time.
    pub(crate) fn step(&mut self) -> Step<'_> {
        let Some(check) = selftest_report::CHECKS.get(self.lines.len()) else {
            return Step::Over(report(core::mem::take(&mut self.lines), true));
        };
        let line = match check.at_boot {
            Some(why) => Line { check, verdict: Verdict::at_boot(why), us: 0 },
            None if check.name == cpus::TIMER => {
                let before = tsc::micros();
                let step = self.timers.step();
                self.timers_us += tsc::micros() - before;
                let Poll::Ready(result) = step else { return Step::Goes };
                Line { check, verdict: Verdict::of(result), us: self.timers_us }
            }
            None => timed(check, run_of(check)),
        };
        self.lines.push(line);
        self.lines.last().map_or(Step::Goes, Step::Line)
    }
}

fn say(line: fmt::Arguments<'_>) {
    host_log::plain(format_args!("{line}\n"));
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// Indices of the CPUs that can be asked to do something: those that run guests, and this one.
fn askable() -> impl Iterator<Item = usize> {
    (0..cpu::count()).filter(|&index| index == 0 || vmx::of(index).is_some())
}

fn this_machine() -> Machine {
    let cpuid = hw::arch::cpu::id();
    Machine {
        cpu: cpuid
            .get_processor_brand_string()
            .map_or_else(String::new, |brand| brand.as_str().trim().into()),
        signature: cpu::cpuid(1, 0)[0],
        cpus: cpu::count() as u64,
        tsc_hz: tsc::hz(),
        under: under(),
    }
}

/// What the hypervisor below calls itself.
fn under() -> Option<String> {
    if cpu::cpuid(1, 0)[2] >> 31 == 0 {
        return None;
    }
    let [_, b, c, d] = cpu::cpuid(0x4000_0000, 0).map(u32::to_le_bytes);
    Some(format!("{}", [b, c, d].concat().escape_ascii()))
}

/// What the machine says of itself: CPUID and MSRs as `flexctl` reads them, the capabilities of VMX, the hypervisor below.
fn dump() {
    let mut text = String::new();
    let _ = write!(text, "{}", Dump::of("here", policy::host()));
    for line in text.lines() {
        say(format_args!("{line}"));
    }
    if vmx::boot_cpu().is_some() {
        for number in vmx_types::capability::MSRS {
            if let Some(value) = msr::read_safe(number) {
                say(format_args!("vmx {number:08x} {value:016x}"));
            }
        }
    }
    if let Some(name) = under() {
        say(format_args!("selftest: under a hypervisor that calls itself `{name}`"));
    }
}
