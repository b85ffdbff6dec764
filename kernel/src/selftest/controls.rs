//! Each VMX control that is used, tried by a guest that does one thing for each (`arch/selftest_controls.s`).

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use bring_up::mtrr::PAT;
use vm_types::{Gpa, GuestMemory};
use vmx_types::reason::ExitReason;

use super::guest::{run, with_image};
use super::{Run, ensure};
use crate::arch::{self, call, cpu, msr};
use crate::vm::{Change, StopReason, Vm};
use crate::vmx::host;

pub(super) const RUNS: [Run; 1] = [("controls", || with_image(arch::selftest_controls(), controls))];

/// A control by the exits that it makes: at least so many.
const EXITS: [(&str, ExitReason, u64); 9] = [
    ("RDPMC exiting", ExitReason::Rdpmc, 1),
    (MONITOR, ExitReason::Monitor, 1),
    (MWAIT, ExitReason::Mwait, 1),
    ("CR8 exiting, CR0 and CR4 masks", ExitReason::CrAccess, 5),
    ("WBINVD exiting", ExitReason::Wbinvd, 1),
    ("I/O exiting", ExitReason::Io, 1),
    ("interrupt-window exiting", ExitReason::InterruptWindow, 1),
    ("HLT exiting", ExitReason::Hlt, 1),
    ("EPT", ExitReason::EptViolation, 1),
];
const MONITOR: &str = "MONITOR exiting";
const MWAIT: &str = "MWAIT exiting";

/// What the guest's steps are about, by number.
const STEPS: [&str; 14] = [
    "",
    "RDPMC exiting",
    MONITOR,
    MWAIT,
    "CR8 exiting",
    "",
    "I/O exiting",
    "MSR bitmap",
    "PAT",
    "",
    "debug controls",
    "EPT",
    "interrupt-window exiting",
    "HLT exiting",
];

/// The guest reads an MSR of its own so often.
const OWN_MSR_READS: u64 = 100;
/// Where it leaves its TSC, and what it writes to IA32_PAT, IA32_EFER and DR7.
const TSC_AT: Gpa = Gpa(0x20_7000);
const GUEST_PAT: u64 = 0x0007_0106_0007_0106;
const LME_LMA: u64 = 1 << 8 | 1 << 10;
const GUEST_DR7: u64 = 0x401;
/// How long a CPU may take to answer, in microseconds.
const PATIENCE_US: u64 = 1_000_000;

fn controls(vm: &Arc<Vm>) -> Result<String, String> {
    let slot = vm.vcpus.first().ok_or("no vCPU")?;
    let host_pat = || call::on(slot.cpu, PATIENCE_US, || msr::read(PAT));
    let (pat, began) = (host_pat(), vm.clock.now().tsc);
    vm.apply(Change::Run)?;
    run(vm).map_err(|why| match vm.stop_reason() {
        Some(StopReason::DebugExit(step)) => {
            let about = STEPS.get(step as usize).filter(|about| !about.is_empty()).unwrap_or(&"the guest");
            format!("{about}: {why}")
        }
        _ => why,
    })?;
    let ended = vm.clock.now().tsc;

    let count = |reason: ExitReason| {
        slot.exits.all().find(|counted| counted.number == reason as u16).map_or(0, |counted| counted.count)
    };
    // Without them in CPUID, the instructions are undefined, and no exit comes first.
    let has_monitor = cpu::cpuid(1, 0)[2] & 1 << 3 != 0;
    let mut tried = String::new();
    for (name, reason, least) in EXITS {
        if matches!(name, MONITOR | MWAIT) && !has_monitor {
            continue;
        }
        let made = count(reason);
        ensure(
            made >= least,
            &format!("{name}: {made} exits for {}, at least {least} wanted", reason.text()),
        )?;
        tried += name;
        tried += ", ";
    }
    let reads = count(ExitReason::Rdmsr);
    ensure(reads < OWN_MSR_READS, &format!("MSR bitmap: {reads} exits for an MSR that is the guest's own"))?;
    let mut bytes = [0; 8];
    vm.memory.read(TSC_AT, &mut bytes).map_err(|error| format!("{error}"))?;
    let tsc = u64::from_le_bytes(bytes);
    ensure(
        (began..=ended).contains(&tsc),
        &format!("TSC offsetting: the guest read {tsc} between {began} and {ended}"),
    )?;
    let state = slot.vcpu.lock().export(vm);
    ensure(state.pat == GUEST_PAT, &format!("saving of PAT: {:#x}", state.pat))?;
    ensure(host_pat() == pat, "loading of PAT: the host has another one")?;
    ensure(state.efer & LME_LMA == LME_LMA, &format!("saving of EFER: {:#x}", state.efer))?;
    ensure(state.dr7 == GUEST_DR7, &format!("saving of debug controls: DR7 is {:#x}", state.dr7))?;
    let unrestricted = if host::required()?.caps.unrestricted() { ", unrestricted guest" } else { "" };
    Ok(format!("{tried}MSR bitmap, TSC offsetting, PAT, EFER, debug controls{unrestricted}"))
}
