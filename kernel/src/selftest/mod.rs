//! The host checks itself before any VM is made, where the boot line asks for it, and prints a report: what an emulator
//! or another hypervisor does wrong is found here, by name, and not in a guest.

mod guest;
mod host;

use alloc::string::String;
use core::fmt::{self, Write};

use cpu_policy::Dump;

use crate::arch::{cpu, msr, tsc};
use crate::log as host_log;
use crate::policy;
use crate::start;
use crate::vmx::host as vmx;

/// How a check ended, with what it measured or what went wrong.
#[derive(Debug)]
enum Verdict {
    Passed(String),
    Failed(String),
    Skipped(&'static str),
}

use Verdict::{Failed, Passed, Skipped};

impl Verdict {
    fn of(result: Result<String, String>) -> Self {
        result.map_or_else(Failed, Passed)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, text) = match self {
            Passed(text) => ("passed", text.as_str()),
            Failed(text) => ("FAILED", text.as_str()),
            Skipped(why) => ("skipped", *why),
        };
        f.write_str(word)?;
        if text.is_empty() { Ok(()) } else { write!(f, ": {text}") }
    }
}

/// A check and its name.
type Check = (&'static str, fn() -> Verdict);

const CHECKS: [&[Check]; 2] = [&host::CHECKS, &guest::CHECKS];

/// Runs every check. Nothing else runs on this host yet.
pub(crate) fn run() {
    say(format_args!("selftest: {} ---- begin: send all lines up to the end", start::version()));
    machine();
    let [mut passed, mut failed, mut skipped] = [0; 3];
    for (name, check) in CHECKS.into_iter().flatten() {
        let before = tsc::micros();
        let verdict = check();
        match verdict {
            Passed(_) => passed += 1,
            Failed(_) => failed += 1,
            Skipped(_) => skipped += 1,
        }
        say(format_args!("selftest: {name} {verdict} ({} us)", tsc::micros() - before));
    }
    say(format_args!("selftest: ---- end: {passed} passed, {failed} failed, {skipped} skipped"));
}

fn say(line: fmt::Arguments<'_>) {
    host_log::plain(format_args!("{line}\n"));
}

/// What the machine says of itself: CPUID and MSRs as `flexctl` reads them, the capabilities of VMX, the hypervisor below.
fn machine() {
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
    if cpu::cpuid(1, 0)[2] >> 31 != 0 {
        let [_, b, c, d] = cpu::cpuid(0x4000_0000, 0).map(u32::to_le_bytes);
        let name = [b, c, d].concat();
        say(format_args!("selftest: under a hypervisor that calls itself `{}`", name.escape_ascii()));
    }
}
