//! Checks of what stands around the CPUs: machine checks, memory types, memory's speed, serial ports, IOMMU.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use acpi_tables::NodeMemory;
use bootinfo::RegionKind;
use bring_up::mtrr::{PAT, PAT_RESET};
use selftest_report::Verdict;

use super::{Run, askable, under};
use crate::log::uarts::Opened;
use crate::{boot, iommu, log as host_log};
use hw::arch::{machine_check, memory_types, msr, tsc};
use hw::mm::frame;
use hw::platform::call;

pub(super) const RUNS: [Run; 5] = [
    ("machine-check", machine_checks),
    ("memory-types", memory_types),
    ("clearing", || Verdict::of(clearing())),
    ("serial", || Verdict::of(serial())),
    ("iommu", translation),
];

/// How long a CPU may take to answer, in microseconds.
const PATIENCE_US: u64 = 1_000_000;

/// Banks of each CPU: on, and empty.
fn machine_checks() -> Verdict {
    let Some(caps) = machine_check::caps() else { return Verdict::NotTried("the CPU has no banks".into()) };
    if caps.banks() == 0 {
        return Verdict::NotTried("the CPU has no banks".into());
    }
    let mut cpus = 0;
    for index in askable() {
        match call::on(index, PATIENCE_US, machine_check::trouble) {
            Some(0) => cpus += 1,
            Some(number) => {
                return Verdict::Failed(format!("CPU {index}: {number} banks off or with an error"));
            }
            None => return Verdict::Failed(format!("CPU {index} does not answer")),
        }
    }
    let has = |flag| if flag { "+" } else { "-" };
    Verdict::Passed(format!(
        "{} banks of {cpus} CPUs, recovery{}, local{}",
        caps.banks(),
        has(caps.recovery()),
        has(caps.local())
    ))
}

/// MTRRs and PAT of each CPU, and what they make of RAM.
fn memory_types() -> Verdict {
    let Some(mtrrs) = memory_types::first() else { return Verdict::NotTried("the CPU has no MTRRs".into()) };
    let same: fn() -> u64 =
        || u64::from(memory_types::mtrrs().as_ref() == memory_types::first() && msr::read(PAT) == PAT_RESET);
    for index in askable() {
        if call::on(index, PATIENCE_US, same) != Some(1) {
            return Verdict::Failed(format!("CPU {index} has others than CPU 0"));
        }
    }
    let width = hw::arch::cpu::id()
        .get_processor_capacity_feature_info()
        .map_or(36, |sizes| sizes.physical_address_bits());
    let Some(boot) = boot::get() else { return Verdict::NotTried("no memory map".into()) };
    let mut ram = 0;
    for region in boot.info.memory.iter().filter(|region| region.kind == RegionKind::Usable) {
        ram += region.end - region.start;
        if let Some((at, kind)) = mtrrs.not_write_back(region.start, region.end, width) {
            let kind = kind.map_or_else(|| "undefined".into(), |kind| format!("{kind}"));
            return Verdict::Failed(format!("RAM at {at:#x} is of type {kind}, not 6 (write-back)"));
        }
    }
    Verdict::Passed(format!("{} MiB of RAM write-back, PAT and MTRRs the same", ram >> 20))
}

/// What it takes CPU 0 to clear memory of each NUMA node, by the code that clears what guests leave.
fn clearing() -> Result<String, String> {
    const LEN: u64 = 16 << 20;
    const GIB: u64 = 1 << 30;
    const SLOWEST_NS: u64 = 1_100_000_000;
    let told = boot::get().map_or(&[][..], |boot| &boot.acpi.nodes);
    let mut nodes: Vec<u32> = told.iter().map(|memory| memory.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let all = [NodeMemory { node: 0, start: 0, end: u64::MAX }];
    let (nodes, memory) = if nodes.is_empty() { (alloc::vec![0], &all[..]) } else { (nodes, told) };
    // An emulator's ticks are instructions, a hypervisor's memory is somebody's else.
    let real = tsc::hz() >= 500_000_000 && under().is_none();
    let (mut text, mut slow) = (String::from("1 GiB"), false);
    for (at, node) in nodes.iter().enumerate() {
        let mut ranges = memory.iter().filter(|memory| memory.node == *node);
        let piece = ranges.find_map(|memory| frame::time_to_clear(memory.start, memory.end, LEN));
        let comma = if at == 0 { "" } else { "," };
        match piece.map(|ticks| ticks * (GIB / LEN)) {
            None => text += &format!("{comma} of node {node} not tried (no 16 MiB free)"),
            Some(ticks) => {
                slow |= real && tsc::ns(ticks) > SLOWEST_NS;
                text +=
                    &format!("{comma} of node {node} in {} ms, {ticks} ticks", tsc::ns(ticks) / 1_000_000);
            }
        }
    }
    if told.is_empty() {
        text += "; the firmware tells no nodes apart";
    }
    if slow { Err(text) } else { Ok(text) }
}

/// Each port takes an empty line in the time of the slowest.
fn serial() -> Result<String, String> {
    const PATIENCE_US: u64 = 2_000_000;
    let ports = boot::get().map(|boot| Opened::names(&boot.consoles)).unwrap_or_default();
    host_log::flush();
    let mut slowest = 0;
    for port in 0..host_log::ports() {
        let began = tsc::micros();
        // Carriage returns change nothing on a terminal.
        host_log::raw(port, &("\r".repeat(63) + "\n"));
        host_log::flush();
        slowest = slowest.max(tsc::micros() - began);
    }
    let text = format!("{ports}: 64 bytes in {slowest} us at most");
    if slowest < PATIENCE_US { Ok(text) } else { Err(text) }
}

fn translation() -> Verdict {
    match iommu::state() {
        None => Verdict::NotTried("no remapping unit, or iommu=off".into()),
        Some(state) if state.faults > 0 => Verdict::Failed(format!("{state}")),
        Some(state) => Verdict::Passed(format!("{state}")),
    }
}
