//! The host checks itself before any VM is made, where the boot line asks for it, and prints a report: what an emulator
//! cannot show, and what firmware or another hypervisor does wrong, is found here, by name, and not in a guest. What the
//! lines are is said by the table of `crates/selftest-report`.

mod cpus;
mod guest;
mod host;
mod machine;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use cpu_policy::Dump;
use selftest_report::{Line, Machine, Report, Verdict};

use crate::arch::{cpu, msr, tsc};
use crate::log as host_log;
use crate::policy;
use crate::start;
use crate::vmx::host as vmx;

/// A check by its name in the table.
type Run = (&'static str, fn() -> Verdict);

const RUNS: [&[Run]; 4] = [&cpus::RUNS, &machine::RUNS, &host::RUNS, &guest::RUNS];

/// Runs every check. Nothing else runs on this host yet.
pub(crate) fn run() {
    say(format_args!("selftest: {} ---- begin: send all lines up to the end", start::version()));
    dump();
    let mut lines = Vec::new();
    for check in &selftest_report::CHECKS {
        let before = tsc::micros();
        let run = RUNS.into_iter().flatten().find(|(name, _)| *name == check.name);
        let verdict = run.map_or_else(|| Verdict::NotTried("no such check".into()), |(_, run)| run());
        let line = Line { check, verdict, us: tsc::micros() - before };
        say(format_args!("{line}"));
        lines.push(line);
    }
    let report = Report { version: start::version(), machine: this_machine(), lines };
    let mut text = String::new();
    let _ = report.write_json(&mut text);
    say(format_args!("selftest: json {text}"));
    let [passed, failed, not_tried] = report.counts();
    say(format_args!("selftest: ---- end: {passed} passed, {failed} failed, {not_tried} not tried"));
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
    let cpuid = raw_cpuid::CpuId::new();
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
