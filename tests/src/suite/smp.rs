//! Guests with several CPUs: Debian's kernel brings all of them up, takes one down and up again, and powers off; on each of
//! several hosts with `--matrix smp`.

use super::linux::{VM, complaints, debian, judge_log, powers_off, read_log};
use super::migrate::proven_and_back;
use super::{Case, Context, start};
use crate::emu::IPS;
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use crate::levels;
use crate::scenario::{Pair, Plan, SOURCE, Silent, TARGET};
use anyhow::{Context as _, Result, bail, ensure};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(500);
const LEVEL: &str = "haswell";
const SKYLAKE: &str = "corei7_skylake_x";
const HASWELL: &str = "corei7_haswell_4770";

/// Prefix of the cases of the full matrix: host models with the newest level that each can give, of those below, with so
/// many vCPUs, on so many host CPUs.
const MATRIX: &str = "matrix-smp/";
const MODELS: [(&str, &str, &str); 3] = [
    ("skylake", SKYLAKE, "haswell"),
    ("haswell", HASWELL, "haswell"),
    ("sandy_bridge", "corei7_sandy_bridge_2600k", "sandybridge"),
];
const VCPUS: [u32; 3] = [2, 4, 8];
const CPUS: [u32; 3] = [1, 2, 4];
/// Instructions a second of hosts whose guests have no TSC_ADJUST. Linux then compares the TSC with its timer ticks, 250 a
/// second, before it has another clock, and loses ticks, on one CPU as on several, where it has interrupts off for longer
/// than 80,000 instructions. And of hosts with more than two vCPUs a CPU: Linux checks its ftrace records in one go, 300 to 400
/// million instructions without a look at who else wants the CPU, and calls a CPU stuck that takes 20 s for it.
const FASTER: u64 = IPS * 5;
/// How often CPUs have gone and come before each move, and after the last.
const CYCLES: usize = 3;

/// What Linux says, in any case of letters, where CPUs do not come up, or find fault with each other's time or APIC.
const COMPLAINTS: [&str; 9] = [
    "apic error",
    "not responding",
    "failed to bring up",
    "tsc warp",
    "marking tsc unstable",
    "clocksource: timekeeping watchdog",
    "rcu: info",
    "soft lockup",
    "stuck",
];

pub(super) fn cases() -> Vec<Case> {
    let case = |vcpus: u32, cpus: u32| {
        let name = format!("smp/linux_{vcpus}_vcpus_on_{cpus}");
        Case::new(&name, 700, move |context| linux(context, SKYLAKE, LEVEL, vcpus, cpus))
    };
    let mut moves = Case::new("smp/linux_moves_and_back", 900, moves_and_back);
    moves.weight = 2;
    let resets = Case::new("smp/linux_resets", 900, resets).slow();
    let topology = Case::new("smp/linux_topology", 900, topology).slow();
    let mut cases = vec![case(2, 1), case(2, 2), case(4, 2).slow(), moves, resets, topology];
    cases.extend([1, 2].map(|cpus| {
        let name = format!("smp/linux_kexec_on_{cpus}");
        Case::new(&name, 900, move |context| kexec(context, cpus)).slow()
    }));
    cases.extend(matrix());
    cases
}

/// A cell of the matrix, which would take `--all` hours: only where it is asked for.
fn cell(name: &str, limit: u64, run: impl Fn(&Context) -> Result<()> + Send + Sync + 'static) -> Case {
    let mut case = Case::new(&format!("{MATRIX}{name}"), limit, run);
    case.apart = true;
    case
}

fn matrix() -> Vec<Case> {
    let mut cases = Vec::new();
    for vcpus in VCPUS {
        // The work of starting grows with them, and so does what an emulated host spends on their ticks.
        let limit = 300 * u64::from(vcpus) + 300;
        for (short, model, level) in MODELS {
            for cpus in CPUS {
                let run = move |context: &Context| linux(context, model, level, vcpus, cpus);
                cases.push(cell(&format!("{short}_{vcpus}_vcpus_on_{cpus}"), limit, run));
            }
        }
    }
    for (vcpus, cpus) in [(2, 1), (2, 2), (4, 2)] {
        let name = format!("off_and_on_while_moving_{vcpus}_vcpus_on_{cpus}");
        let mut case = cell(&name, 1800, move |context| off_and_on_while_moving(context, vcpus, cpus));
        case.weight = 2;
        cases.push(case);
    }
    cases
}

/// To an older Xeon and back.
fn moves_and_back(context: &Context) -> Result<()> {
    let mut plan = Plan::linux(SKYLAKE, HASWELL, LEVEL)?;
    plan.vm.options.push("vcpus=2".to_string());
    proven_and_back(context, &plan)
}

/// Debian's kernel with a shell on so many vCPUs.
fn with_vcpus(vcpus: u32, level: &str) -> Result<VmSpec> {
    let mut vm = debian(VM, level)?;
    vm.options.push(format!("vcpus={vcpus}"));
    Ok(vm)
}

/// The guest sees so many CPUs, all of them up.
fn all_are_up(host: &mut Host, vcpus: u32, patience: Duration) -> Result<()> {
    let console = host.guest()?;
    console.send_line(
        "echo online $(cat /sys/devices/system/cpu/online) of $(grep -c ^processor /proc/cpuinfo)",
    )?;
    console.expect(&format!("online 0-{} of {vcpus}", vcpus - 1), patience)?;
    Ok(())
}

/// A guest that resets its machine finds all of its CPUs again, waiting as at first.
fn resets(context: &Context) -> Result<()> {
    let mut vm = with_vcpus(2, LEVEL)?;
    vm.options.push("on-reset=restart".to_string());
    let mut host = start(context, &HostSpec::new("host", SKYLAKE).with_vm(vm))?;
    host.guest()?.expect("guest# ", PATIENCE)?;
    all_are_up(&mut host, 2, PATIENCE)?;
    // The prompt of before, so that the next one is that of the guest that has booted again.
    host.guest()?.expect("guest# ", PATIENCE)?;
    host.guest()?.send_line("reboot -f")?;
    host.guest()?.expect("guest# ", PATIENCE)?;
    all_are_up(&mut host, 2, PATIENCE)
}

/// A kernel that another has started by kexec finds all CPUs, which that one has left halted, and their APICs as they were.
fn kexec(context: &Context, cpus: u32) -> Result<()> {
    let mut vm = with_vcpus(2, LEVEL)?;
    vm.initrd = Some(guest::kexec()?.initrd);
    let mut spec = HostSpec::new("host", SKYLAKE).with_vm(vm);
    spec.cpus = cpus;
    let mut host = start(context, &spec)?;
    host.guest()?.expect("kexec: loaded", PATIENCE)?;
    host.guest()?.expect("guest# ", PATIENCE)?;
    all_are_up(&mut host, 2, PATIENCE)?;
    let log = judged_log(&mut host, LEVEL, PATIENCE)?;
    ensure!(log.iter().any(|line| line.contains("after=kexec")), "it is the first kernel still");
    powers_off(&mut host, VM, PATIENCE)
}

/// Linux takes four vCPUs for two packages with two threads each, as it is told.
fn topology(context: &Context) -> Result<()> {
    let mut vm = with_vcpus(4, LEVEL)?;
    vm.options.push("topology=2:1:2".to_string());
    let mut host = start(context, &HostSpec::new("host", SKYLAKE).with_vm(vm))?;
    host.guest()?.expect("guest# ", PATIENCE)?;
    all_are_up(&mut host, 4, PATIENCE)?;
    let console = host.guest()?;
    for (cpu, package) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        let files = ["physical_package_id", "core_cpus_list", "package_cpus_list"];
        let files = files.map(|file| format!("/sys/devices/system/cpu/cpu{cpu}/topology/{file}"));
        console.send_line(&format!("echo cpu {cpu}: $(cat {})", files.join(" ")))?;
        let threads = format!("{}-{}", 2 * package, 2 * package + 1);
        console.expect(&format!("cpu {cpu}: {package} {threads} {threads}"), PATIENCE)?;
    }
    for (line, value) in [("siblings", 2), ("cpu cores", 1)] {
        console.send_line(&format!("echo $(grep -c '^{line}.*: {value}$' /proc/cpuinfo) with {line}"))?;
        console.expect(&format!("4 with {line}"), PATIENCE)?;
    }
    judged_log(&mut host, LEVEL, PATIENCE)?;
    powers_off(&mut host, VM, PATIENCE)
}

fn linux(context: &Context, model: &str, level: &str, vcpus: u32, cpus: u32) -> Result<()> {
    let patience = PATIENCE * vcpus.max(2) / 2;
    let vm = with_vcpus(vcpus, level)?;
    let mut spec = HostSpec::new("host", model).with_vm(vm);
    spec.cpus = cpus;
    let has_tsc_adjust = levels::flags(level).is_some_and(|flags| flags.contains(&"tsc_adjust"));
    if !has_tsc_adjust || vcpus > 2 * cpus {
        spec.ips = FASTER;
    }
    let mut host = start(context, &spec)?;
    let console = host.guest()?;
    console.expect("guest# ", patience)?;
    all_are_up(&mut host, vcpus, patience)?;
    let last = vcpus - 1;
    let console = host.guest()?;
    // Down and up again: INIT and a start-up IPI once more.
    let control = format!("/sys/devices/system/cpu/cpu{last}/online");
    for (value, left) in [(0, last), (1, vcpus)] {
        console.send_line(&format!("echo {value} > {control}; echo has $(nproc)"))?;
        console.expect(&format!("has {left}"), patience)?;
    }
    let log = judged_log(&mut host, level, patience)?;
    ensure!(
        log.iter().any(|line| line.contains(&format!("{vcpus} CPUs"))),
        "no line says that {vcpus} CPUs are up"
    );
    if cpus > 1 {
        pinned(&mut host, last)?;
    }
    let console = host.guest()?;
    // Each CPU takes its timer interrupts: as many sleeps as there are CPUs end, each on one of them.
    let sleeps: String = (0..vcpus).map(|cpu| format!("taskset -c {cpu} sleep 1 && ")).collect();
    console.send_line(&format!("{sleeps}echo slept $((1 + 1))"))?;
    console.expect("slept 2", patience)?;
    powers_off(&mut host, VM, patience)
}

/// A vCPU goes to CPU 0 of the host, which it was kept from.
fn pinned(host: &mut Host, vcpu: u32) -> Result<()> {
    let pinned = host.command(&format!("vm pin {VM} {vcpu} 0"), PATIENCE)?;
    ensure!(pinned.error.is_none(), "{pinned:?}");
    let absent = host.command(&format!("vm pin {VM} {vcpu} 64"), PATIENCE)?;
    ensure!(
        absent.error.as_deref().is_some_and(|e| e.contains("CPU 64 of this host runs no guests")),
        "{absent:?}"
    );
    // Its old CPU lets go of it after the turn that it is in.
    for _ in 0..100 {
        let show = host.command(&format!("vm show {VM}"), PATIENCE)?;
        let there = |line: &String| line.starts_with(&format!("vcpu {vcpu} ")) && line.contains("on CPU 0,");
        if show.lines.iter().any(there) {
            return Ok(());
        }
    }
    bail!("vCPU {vcpu} is not on CPU 0 after a hundred looks")
}

/// The kernel's log, in which nothing finds fault with CPUs, APICs and time.
fn judged_log(host: &mut Host, level: &str, patience: Duration) -> Result<Vec<String>> {
    let log = read_log(host.guest()?, patience)?;
    judge_log(level, &log)?;
    let complaints = complaints(&log, &COMPLAINTS);
    ensure!(complaints.is_empty(), "the kernel complains: {complaints:#?}");
    Ok(log)
}

/// All CPUs but the first are switched off and on in a loop, and the guest moves there and back meanwhile.
fn off_and_on_while_moving(context: &Context, vcpus: u32, cpus: u32) -> Result<()> {
    let mut plan = Plan::linux(SKYLAKE, HASWELL, LEVEL)?;
    plan.cpus = cpus;
    plan.vm.options.push(format!("vcpus={vcpus}"));
    plan.vm.cmdline = guest::SHELL_CMDLINE.to_string();
    plan.vm.mem_mib = 128;
    plan.own_guest = false;
    plan.migrate_after = "guest# ".to_string();
    plan.patience = PATIENCE;
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_frozen(&plan, &mut Silent)?;
    let each = |value: u32| -> String {
        (1..vcpus).map(|cpu| format!("echo {value} > /sys/devices/system/cpu/cpu{cpu}/online && ")).collect()
    };
    let cycle =
        format!("{}a=$(nproc) && {}n=$((n + 1)) && echo cycle $n: $a then $(nproc)", each(0), each(1));
    pair.hosts[SOURCE]
        .guest()?
        .send_line(&format!("n=0; while {cycle}; do :; done; echo loop $((1 + 1))"))?;
    for from in [SOURCE, TARGET] {
        cycles(&mut pair, from, vcpus)?;
        pair.migrate(from, &plan, &mut Silent).with_context(|| format!("move from host {from}"))?;
    }
    cycles(&mut pair, SOURCE, vcpus)?;
    let host = &mut pair.hosts[SOURCE];
    // Ctrl-C may leave a CPU off, which is switched on again by hand.
    host.guest()?.send(b"\x03")?;
    host.guest()?.expect("guest# ", PATIENCE)?;
    host.guest()?.send_line(&format!("{}true; echo at the end $(nproc)", each(1).replace("&&", ";")))?;
    host.guest()?.expect(&format!("at the end {vcpus}"), PATIENCE)?;
    judged_log(host, LEVEL, PATIENCE)?;
    powers_off(host, crate::scenario::VM, PATIENCE)
}

/// So many further cycles are over at `host`, each of which had one CPU left and all of them again.
fn cycles(pair: &mut Pair, host: usize, vcpus: u32) -> Result<()> {
    let guest = pair.hosts[host].guest()?;
    guest.take_lines();
    for _ in 0..CYCLES {
        // Not the loop's echo, nor the rest of a line that the move has cut.
        let line = guest.expect_line("the end of a cycle", PATIENCE, |line| {
            let ends = line.starts_with("loop 2") || line.starts_with("cycle ") && line.contains(" then ");
            ends.then(|| line.to_string())
        })?;
        ensure!(line.ends_with(&format!(": 1 then {vcpus}")), "the guest says: {line}");
    }
    Ok(())
}
