//! Each VMX control that is used, tried by a guest that does one thing for each (`arch/selftest_controls.s`).

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use bring_up::mtrr::PAT;
use vm_types::{Gpa, GuestMemory};
use vmx_types::reason::ExitReason;

use super::guest::{run, with_image};
use super::{Run, ensure};
use crate::guest::StopReason;
use crate::machine;
use crate::vm::{Change, Vm};
use hw::arch::{self, cpu, msr};
use hw::platform::{apic, call};
use hw::vmx::host;

pub(super) const RUNS: [Run; 1] = [("controls", || with_image(arch::selftest_controls(), controls))];

/// A control by the exits that it makes: at least so many. CR8 exits only where the CPU has no TPR shadow; whether it holds
/// its value is a step of the guest's.
const EXITS: [(&str, ExitReason, u64); 10] = [
    ("RDPMC exiting", ExitReason::Rdpmc, 1),
    (MONITOR, ExitReason::Monitor, 1),
    (MWAIT, ExitReason::Mwait, 1),
    ("CR0 and CR4 masks", ExitReason::CrAccess, 3),
    ("WBINVD exiting", ExitReason::Wbinvd, 1),
    ("I/O exiting", ExitReason::Io, 1),
    ("interrupt-window exiting", ExitReason::InterruptWindow, 1),
    ("HLT exiting", ExitReason::Hlt, 1),
    ("virtual NMIs, NMI-window exiting", ExitReason::NmiWindow, 1),
    ("EPT", ExitReason::EptViolation, 1),
];
const MONITOR: &str = "MONITOR exiting";
const MWAIT: &str = "MWAIT exiting";

/// What the guest's steps are about, by number.
const STEPS: [&str; 18] = [
    "",
    "RDPMC exiting",
    MONITOR,
    MWAIT,
    "CR8",
    "",
    "I/O exiting",
    "MSR bitmap",
    "PAT",
    "",
    "debug controls",
    "EPT",
    "interrupt-window exiting",
    "HLT exiting",
    "virtual NMIs",
    "VPID: an old translation stayed",
    "INVVPID: an old translation stayed",
    "NMI exiting: the guest got the host's",
];

/// The guest reads an MSR of its own so often.
const OWN_MSR_READS: u64 = 100;
/// Where it leaves its TSC, and what it writes to IA32_PAT, IA32_EFER and DR7.
const TSC_AT: Gpa = Gpa(0x20_7000);
/// Where it says that it waits, and for what.
const WAITS_AT: Gpa = Gpa(0x20_7008);
const GO_AT: Gpa = Gpa(0x20_7010);
const GUEST_PAT: u64 = 0x0007_0106_0007_0106;
const LME_LMA: u64 = 1 << 8 | 1 << 10;
const GUEST_DR7: u64 = 0x401;
/// How long a CPU may take to answer, in microseconds.
const PATIENCE_US: u64 = 1_000_000;

fn controls(vm: &Arc<Vm>) -> Result<String, String> {
    let slot = vm.vcpus.first().ok_or("no vCPU")?;
    let host_pat = || call::on(slot.cpu(), PATIENCE_US, || msr::read(PAT));
    let (pat, began) = (host_pat(), vm.clock.now().tsc);
    let mut nmi = HostNmi::new(vm)?;
    vm.apply(Change::Run)?;
    run(vm, || nmi.poll()).map_err(|why| match vm.stop_reason() {
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
    let caps = &host::required()?.caps;
    let unrestricted = if caps.unrestricted() { ", unrestricted guest" } else { "" };
    let vpid = if caps.vpid() { ", VPID" } else { ", no VPID" };
    let nmi = nmi.told()?;
    Ok(format!("{tried}MSR bitmap, TSC offsetting, PAT, EFER, debug controls{unrestricted}{vpid}, {nmi}"))
}

/// An NMI of the host's own, for the CPU that runs the guest: it ends the guest's run, and is the host's.
struct HostNmi<'a> {
    vm: &'a Vm,
    /// APIC id of that CPU; none where it is this one, which cannot send while it runs the guest.
    to: Option<u32>,
    /// How many had come when one was sent that has not come yet.
    sent: Option<u64>,
    sends: u64,
}

impl<'a> HostNmi<'a> {
    fn new(vm: &'a Vm) -> Result<Self, String> {
        let home = vm.vcpus.first().ok_or("no vCPU")?.cpu();
        let to = cpu::get(home).filter(|_| home != cpu::this().index).map(|cpu| cpu.apic_id);
        let nmi = Self { vm, to, sent: None, sends: 0 };
        if to.is_none() {
            nmi.go()?;
        }
        Ok(nmi)
    }

    /// Sends one once the guest waits, and another where that one came between two runs of it; in the end the guest may
    /// go on.
    fn poll(&mut self) -> Result<(), String> {
        let Some(to) =
            self.to.filter(|_| self.vm.memory.read_u64(WAITS_AT).is_some_and(|word| word as u32 == 1))
        else {
            return Ok(());
        };
        if self.exits() > 0 {
            return self.go();
        }
        if self.sent.is_none_or(|before| machine::nmis(0) != before) {
            self.sent = Some(machine::nmis(1));
            self.sends += 1;
            apic::send_nmi(to);
        }
        Ok(())
    }

    fn go(&self) -> Result<(), String> {
        self.vm.memory.write(GO_AT, &1u32.to_le_bytes()).map_err(|error| format!("{error}"))
    }

    fn exits(&self) -> u64 {
        let all = self.vm.vcpus.iter().flat_map(|slot| slot.exits.all());
        all.filter(|counted| counted.number == ExitReason::ExceptionOrNmi as u16)
            .map(|counted| counted.count)
            .sum()
    }

    fn told(&self) -> Result<String, String> {
        match (self.to, self.exits()) {
            (None, _) => Ok("NMI exiting not tried (no other CPU sends one)".into()),
            (Some(_), 0) => Err(format!("NMI exiting: {} NMIs of the host's, no exit", self.sends)),
            (Some(_), _) => Ok("NMI exiting".into()),
        }
    }
}
