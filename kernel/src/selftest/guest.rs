//! Checks with a guest of the hypervisor's own (`arch/selftest_guest.s`): exits, emulation, dirty tracking, its state.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::task::Poll;

use cmdline::ModuleRole;
use translation::DirtyMethod;
use vmx_types::reason::ExitReason;

use selftest_report::Verdict;

use super::Run;
use crate::guest::StopReason;
use crate::vm::making::Making;
use crate::vm::registry::Reserved;
use crate::vm::sched::{self, Scheduler};
use crate::vm::source::{Source, SourceFile};
use crate::vm::{Change, State, Vm, remains};
use hw::arch::{self, tsc};
use hw::mm::held::Held;
use hw::mm::{self, frame};
use hw::platform::{apic, irq};
use hw::vmx::{flush, host};

pub(super) const RUNS: [Run; 6] = [
    ("slice-timer", slice_timer),
    ("guest", || with_guest(exits)),
    ("dirty-pml", || dirty(DirtyMethod::Pml)),
    ("dirty-ad", || dirty(DirtyMethod::AccessDirty)),
    ("dirty-wp", || dirty(DirtyMethod::WriteProtect)),
    ("state", || with_guest(state)),
];

const NAME: &str = "selftest";
/// How long the guest may take, in microseconds: it has some thousand exits.
const PATIENCE_US: u64 = 2_000_000;
/// The guest makes so many exits of each kind, and writes so many pages.
const EXITS: u64 = 200;
const PAGES: u64 = 512;

type CheckOf = fn(&Arc<Vm>) -> Result<String, String>;

fn with_guest(check: CheckOf) -> Verdict {
    with_image(arch::selftest_guest(), check)
}

/// Makes the guest, does the check, and wants all memory back.
pub(super) fn with_image(image: &[u8], check: CheckOf) -> Verdict {
    if host::boot_cpu().is_none() {
        return Verdict::NotTried("no VMX".into());
    }
    let free = frame::stats().free;
    let result = guest(image).and_then(|vm| {
        let result = check(&vm);
        // It has stopped, and the CPU that it stopped on may have it for a moment yet.
        let off = take_off(&vm);
        vm.destroy();
        if off { result } else { Err("a CPU did not let go of the guest".into()) }
    });
    Scheduler::default().turn(0); // nobody holds on to the VM
    let start = tsc::micros();
    while frame::stats().free != free && tsc::micros() - start < PATIENCE_US {
        flush::serve();
        remains::poll();
    }
    let left = free.saturating_sub(frame::stats().free);
    Verdict::of(
        result.and_then(
            |text| {
                if left == 0 { Ok(text) } else { Err(format!("{left} bytes were not given back")) }
            },
        ),
    )
}

fn guest(image: &[u8]) -> Result<Arc<Vm>, String> {
    let kernel = Arc::new(Held::page().ok_or("no memory")?);
    mm::fill_page(kernel.hpa(), |number| {
        let word = image.chunks(4).nth(number).unwrap_or_default();
        word.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
    });
    let line = format!("vm={NAME} mem=8 debug-exit paused on-reset=stop");
    let Ok(ModuleRole::Vm(options)) = ModuleRole::parse(&line) else { return Err(line) };
    let reserved = Reserved::new(NAME, None, u64::from(options.mem_mib) << 20, options.vcpus, "")?;
    let mut making = Making::of(
        reserved,
        Source { options, files: alloc::vec![SourceFile::here(kernel, String::new(), None)] },
    )?;
    finish(|| making.poll())
}

/// Lets the guest run to its end, and does `meanwhile` again and again, as long as that is no error.
pub(super) fn run(vm: &Vm, mut meanwhile: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let mut scheduler = Scheduler::default();
    let start = tsc::micros();
    while vm.state() == State::Running {
        flush::serve();
        scheduler.turn(tsc::ticks(1000));
        irq::drain(); // where the APIC's timer bounds the guest, one that is not taken lets it run no more
        let late = || Err(format!("the guest did not end in {} s", PATIENCE_US / 1_000_000));
        let late = if tsc::micros() - start > PATIENCE_US { late() } else { Ok(()) };
        if let Err(why) = late.and_then(|()| meanwhile()) {
            let _ = take_off(vm);
            return Err(why);
        }
    }
    match vm.stop_reason() {
        Some(StopReason::DebugExit(0)) => Ok(()),
        Some(StopReason::DebugExit(step)) => Err(format!("step {step} of the guest failed")),
        Some(reason) => Err(reason.to_string()),
        None => Err(format!("the guest is {}", vm.state().name())),
    }
}

/// Takes the guest off its CPU. An emulator may let no interrupt end the run of a guest that is entered with interrupts off
/// (docs/testing.md): it is waited for until that CPU's turn is over in any case.
fn take_off(vm: &Vm) -> bool {
    let until = tsc::read() + 2 * turn();
    loop {
        if vm.take_off() {
            return true;
        }
        if tsc::read() > until {
            return false;
        }
    }
}

/// A turn of a CPU that does nothing but run guests, in ticks.
fn turn() -> u64 {
    tsc::ticks(sched::SLICE_US)
}

/// How many turns the spinner spins with interrupts off at a time.
const TURNS_OFF: u64 = 5;

fn slice_timer() -> Verdict {
    let off = u32::try_from(TURNS_OFF * turn()).unwrap_or(u32::MAX);
    with_image(&arch::selftest_spinner(off), slice)
}

/// How long a guest that spins has the CPU, by the host's TSC, against what it is given; on its home CPU.
fn slice(vm: &Arc<Vm>) -> Result<String, String> {
    const TURNS: u64 = 2 * TURNS_OFF;
    let slot = vm.vcpus.first().ok_or("no vCPU")?;
    let ended = || {
        let by = |reason: ExitReason| slot.exits.all().find(|counted| counted.number == reason as u16);
        [ExitReason::PreemptionTimer, ExitReason::ExternalInterrupt]
            .into_iter()
            .filter_map(by)
            .map(|counted| counted.count)
            .sum::<u64>()
    };
    let wanted = turn();
    let mut scheduler = Scheduler::default();
    let start = tsc::micros();
    // Should the timer fail, an interrupt brings the only CPU back.
    apic::timer_once(tsc::ticks(PATIENCE_US));
    vm.apply(Change::Run)?;
    while ended() < TURNS && tsc::micros() - start < PATIENCE_US {
        flush::serve();
        scheduler.turn(wanted);
        irq::drain();
    }
    let off = take_off(vm);
    apic::timer_stop();
    if !off {
        return Err("its vCPU could not be taken off".into());
    }
    let turns = ended();
    let took = slot.ran.load(core::sync::atomic::Ordering::Relaxed) / turns.max(1);
    let choice = host::of(slot.cpu()).map(|cpu| cpu.slice).ok_or("no VMX")?;
    let text = format!(
        "{turns} turns of {wanted} ticks took {took} each, interrupts off, by {}; {}",
        choice.timer,
        choice.errata()
    );
    let near = wanted - wanted / 10..wanted + wanted / 10;
    if turns >= TURNS && near.contains(&took) { Ok(text) } else { Err(text) }
}

/// Exits of the kinds that every guest has, and what each costs.
fn exits(vm: &Arc<Vm>) -> Result<String, String> {
    vm.vcpus[0].exits.set_timed(true);
    vm.apply(Change::Run)?;
    run(vm, || Ok(()))?;
    let words = host::required().map(|cpu| &cpu.controls)?;
    let mut text = format!(
        "controls pin {:#x} proc {:#x} {:#x} exit {:#x} entry {:#x}; ticks of an exit:",
        words.pin.bits(),
        words.proc.bits(),
        words.proc2.bits(),
        words.exit.bits(),
        words.entry.bits()
    );
    for (name, reason) in [
        ("CPUID", ExitReason::Cpuid),
        ("RDMSR", ExitReason::Rdmsr),
        ("I/O", ExitReason::Io),
        ("MMIO", ExitReason::EptViolation),
    ] {
        let counted = vm.vcpus[0].exits.all().find(|counted| counted.number == reason as u16);
        let Some(counted) = counted.filter(|counted| counted.count >= EXITS) else {
            return Err(format!("{name}: {} exits, at least {EXITS} wanted", counted.map_or(0, |c| c.count)));
        };
        text += &format!(" {name} {}", counted.ticks / counted.timed.max(1));
    }
    Ok(text)
}

fn dirty(method: DirtyMethod) -> Verdict {
    if let (Some(lacks), true) = (Vm::lacks(method), host::boot_cpu().is_some()) {
        return Verdict::NotTried(lacks.into());
    }
    with_guest(match method {
        DirtyMethod::Pml => |vm| tracked(vm, DirtyMethod::Pml),
        DirtyMethod::AccessDirty => |vm| tracked(vm, DirtyMethod::AccessDirty),
        DirtyMethod::WriteProtect => |vm| tracked(vm, DirtyMethod::WriteProtect),
    })
}

/// Every page that the guest writes is noticed, and not many more.
fn tracked(vm: &Arc<Vm>, method: DirtyMethod) -> Result<String, String> {
    finish(|| vm.start_tracking(method)).map_err(|error| error.to_string())?;
    vm.apply(Change::Run)?;
    let ended = run(vm, || Ok(()));
    let noticed = finish(|| vm.harvest());
    let missed = (PAGES..2 * PAGES).filter(|page| !vm.to_send.contains(*page)).count();
    let again = finish(|| vm.harvest());
    finish(|| vm.end_tracking());
    ended?;
    let text = format!("{noticed} pages");
    if missed != 0 {
        return Err(format!("{text}, {missed} written ones missed"));
    }
    if noticed > PAGES + 16 || again != 0 {
        return Err(format!("{text} where {PAGES} were written, {again} more after it had ended"));
    }
    Ok(text)
}

/// The whole of something that is done in steps.
fn finish<T>(mut step: impl FnMut() -> Poll<T>) -> T {
    loop {
        if let Poll::Ready(result) = step() {
            return result;
        }
    }
}

/// State that is taken from a vCPU and put back is the same.
fn state(vm: &Arc<Vm>) -> Result<String, String> {
    vm.apply(Change::Run)?;
    run(vm, || Ok(()))?;
    let mut vcpu = vm.vcpus[0].vcpu.lock();
    let before = vcpu.export(vm);
    vcpu.import(vm, &before).map_err(|error| error.to_string())?;
    let after = vcpu.export(vm);
    if before == after { Ok(format!("stopped at {:#x}", before.rip)) } else { Err("it differs".into()) }
}
