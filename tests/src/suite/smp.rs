//! Guests with several CPUs: Debian's kernel brings all of them up, takes one down and up again, and powers off.

use super::linux::{VM, complaints, debian, judge_log, powers_off, read_log};
use super::migrate::proven_and_back;
use super::{Case, Context, start};
use crate::host::{Host, HostSpec, VmSpec};
use crate::scenario::Plan;
use anyhow::{Result, ensure};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(500);
const LEVEL: &str = "haswell";

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
        Case::new(&name, 700, move |context| linux(context, vcpus, cpus))
    };
    let mut moves = Case::new("smp/linux_moves_and_back", 900, moves_and_back);
    moves.weight = 2;
    let resets = Case::new("smp/linux_resets", 900, resets).slow();
    vec![case(2, 1), case(2, 2), case(4, 2).slow(), moves, resets]
}

/// To an older Xeon and back.
fn moves_and_back(context: &Context) -> Result<()> {
    let mut plan = Plan::linux("corei7_skylake_x", "corei7_haswell_4770", LEVEL)?;
    plan.vm.options.push("vcpus=2".to_string());
    proven_and_back(context, &plan)
}

/// Debian's kernel with a shell on so many vCPUs.
fn with_vcpus(vcpus: u32) -> Result<VmSpec> {
    let mut vm = debian(VM, LEVEL)?;
    vm.options.push(format!("vcpus={vcpus}"));
    Ok(vm)
}

/// The guest sees so many CPUs, all of them up.
fn all_are_up(host: &mut Host, vcpus: u32) -> Result<()> {
    let console = host.guest()?;
    console.send_line(
        "echo online $(cat /sys/devices/system/cpu/online) of $(grep -c ^processor /proc/cpuinfo)",
    )?;
    console.expect(&format!("online 0-{} of {vcpus}", vcpus - 1), PATIENCE)?;
    Ok(())
}

/// A guest that resets its machine finds all of its CPUs again, waiting as at first.
fn resets(context: &Context) -> Result<()> {
    let mut vm = with_vcpus(2)?;
    vm.options.push("on-reset=restart".to_string());
    let mut host = start(context, &HostSpec::new("host", "corei7_skylake_x").with_vm(vm))?;
    host.guest()?.expect("guest# ", PATIENCE)?;
    all_are_up(&mut host, 2)?;
    // The prompt of before, so that the next one is that of the guest that has booted again.
    host.guest()?.expect("guest# ", PATIENCE)?;
    host.guest()?.send_line("reboot -f")?;
    host.guest()?.expect("guest# ", PATIENCE)?;
    all_are_up(&mut host, 2)
}

fn linux(context: &Context, vcpus: u32, cpus: u32) -> Result<()> {
    let vm = with_vcpus(vcpus)?;
    let mut spec = HostSpec::new("host", "corei7_skylake_x").with_vm(vm);
    spec.cpus = cpus;
    let mut host = start(context, &spec)?;
    let console = host.guest()?;
    console.expect("guest# ", PATIENCE)?;
    all_are_up(&mut host, vcpus)?;
    let last = vcpus - 1;
    let console = host.guest()?;
    // Down and up again: INIT and a start-up IPI once more.
    let control = format!("/sys/devices/system/cpu/cpu{last}/online");
    for (value, left) in [(0, last), (1, vcpus)] {
        console.send_line(&format!("echo {value} > {control}; echo has $(nproc)"))?;
        console.expect(&format!("has {left}"), PATIENCE)?;
    }
    let log = read_log(console, PATIENCE)?;
    judge_log(LEVEL, &log)?;
    let complaints = complaints(&log, &COMPLAINTS);
    ensure!(complaints.is_empty(), "the kernel complains: {complaints:#?}");
    ensure!(
        log.iter().any(|line| line.contains(&format!("{vcpus} CPUs"))),
        "no line says that {vcpus} CPUs are up"
    );
    // Each CPU takes its timer interrupts: as many sleeps as there are CPUs end, each on one of them.
    let sleeps: String = (0..vcpus).map(|cpu| format!("taskset -c {cpu} sleep 1 && ")).collect();
    console.send_line(&format!("{sleeps}echo slept $((1 + 1))"))?;
    console.expect("slept 2", PATIENCE)?;
    powers_off(&mut host, VM, PATIENCE)
}
