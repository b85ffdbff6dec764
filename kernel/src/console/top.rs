//! `top`: what the host does, each second anew.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Display, Write};
use core::sync::atomic::Ordering;
use core::task::Poll;
use json::Object;
use migrate::ownership::Phase;
use shell::{Align, Failure, Millis, Output, Size, Table};

use super::answer::Task;
use super::out::{CLEAR, Out, json_line};
use crate::migration::Migrations;
use crate::vm::{Vm, registry};
use crate::{meter, net};
use hw::arch::{cpu, tsc};
use hw::mm::frame;

/// Between two pictures, in microseconds.
const INTERVAL_US: u64 = 1_000_000;

/// Counters at one instant.
struct Sample {
    at_us: u64,
    tsc: u64,
    /// Ticks that CPU 0 worked for the host.
    host: u64,
    net: net::Counters,
    vms: Vec<Row>,
    /// Pages written since the sample before, of VMs whose writes `vm dirty` counts.
    written: Vec<Written>,
}

/// Those of a VM.
struct Row {
    vm: Arc<Vm>,
    vcpus: Vec<Ran>,
}

/// Those of a vCPU.
#[derive(Clone, Copy, Default)]
struct Ran {
    exits: u64,
    ticks: u64,
}

impl Row {
    fn take(vm: Arc<Vm>) -> Self {
        let slots = vm.vcpus.iter();
        let ran = slots.map(|s| Ran { exits: s.exits.total(), ticks: s.ran.load(Ordering::Relaxed) });
        Self { vcpus: ran.collect(), vm }
    }
}

/// Pages that a VM has written.
struct Written {
    vm: Arc<Vm>,
    pages: u64,
}

impl Sample {
    fn take(written: Vec<Written>) -> Self {
        let vms = registry::all().into_iter();
        Self {
            at_us: tsc::micros(),
            tsc: tsc::read(),
            host: meter::before(),
            net: net::counters().unwrap_or_default(),
            vms: vms.map(Row::take).collect(),
            written,
        }
    }
}

/// A sample on its way: what VMs wrote is harvested in steps, one a turn, as large as they may be.
struct Harvest {
    left: Vec<Arc<Vm>>,
    written: Vec<Written>,
}

impl Harvest {
    fn begin() -> Self {
        Self { left: registry::all(), written: Vec::new() }
    }

    /// Goes on for a bounded time. `vm dirty`, which counts the writes, loses none of them by it; a VM that moves has its
    /// migration's own measure.
    fn poll(&mut self, migrations: &Migrations) -> Poll<Sample> {
        while let Some(vm) = self.left.last() {
            if vm.tracking().is_some() && migrations.phase(vm) == Phase::None {
                let Poll::Ready(pages) = vm.harvest() else { return Poll::Pending };
                self.written.push(Written { vm: vm.clone(), pages });
                self.left.pop();
                return Poll::Pending;
            }
            self.left.pop();
        }
        Poll::Ready(Sample::take(core::mem::take(&mut self.written)))
    }
}

/// The command.
pub(super) struct Top {
    once: bool,
    output: Output,
    /// `None`: the first one is on its way, so that the first picture is of its own second.
    before: Option<Sample>,
    harvest: Option<Harvest>,
    quit: bool,
}

impl Top {
    pub(super) fn new(once: bool, output: Output) -> Self {
        let once = once || output == Output::Json;
        Self { once, output, before: None, harvest: None, quit: false }
    }
}

impl Task for Top {
    fn poll(&mut self, migrations: &mut Migrations, out: &mut Out<'_>) -> Poll<Result<(), Failure>> {
        if self.quit {
            return Poll::Ready(Ok(()));
        }
        if self.before.as_ref().is_some_and(|before| tsc::micros() < before.at_us + INTERVAL_US) {
            return Poll::Pending;
        }
        let harvest = self.harvest.get_or_insert_with(Harvest::begin);
        let Poll::Ready(now) = harvest.poll(migrations) else { return Poll::Pending };
        self.harvest = None;
        let Some(before) = &self.before else {
            self.before = Some(now);
            return Poll::Pending;
        };
        let picture = Picture::new(before, &now, migrations);
        match self.output {
            Output::Json => json_line(out, |o| picture.json(o)),
            Output::Text if out.is_ansi() && !self.once => {
                let _ = writeln!(out, "{CLEAR}{picture}q ends this");
            }
            Output::Text => {
                let _ = write!(out, "{picture}");
            }
        }
        self.before = Some(now);
        if self.once {
            return Poll::Ready(Ok(()));
        }
        if !out.is_ansi() {
            let _ = out.write_str("\n");
        }
        Poll::Pending
    }

    fn interrupt(&mut self) {
        self.quit = true;
    }

    fn key(&mut self, byte: u8) -> bool {
        self.quit |= byte == b'q';
        byte == b'q'
    }
}

/// Tenths of a percent.
#[derive(Clone, Copy)]
struct Share(u64);

impl Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} %", self.0 / 10, self.0 % 10)
    }
}

struct CpuLine {
    guests: Share,
    host: Share,
}

struct VmLine {
    name: String,
    state: &'static str,
    cpu: Share,
    exits: u64,
    dirty: Option<u64>,
    vcpus: Vec<VcpuLine>,
}

struct VcpuLine {
    /// The host CPU on which it is.
    on: usize,
    state: &'static str,
    cpu: Share,
    exits: u64,
}

/// What happened between two samples, each second of it.
struct Picture {
    up_us: u64,
    free: u64,
    total: u64,
    cpus: Vec<CpuLine>,
    vms: Vec<VmLine>,
    /// Frames and bytes received, frames and bytes sent.
    net: [u64; 4],
}

impl VcpuLine {
    fn json(&self, o: &mut Object<'_>) -> fmt::Result {
        o.field("cpu", self.on as u64)?;
        o.field("state", self.state)?;
        o.field("cpu_permille", self.cpu.0)?;
        o.field("exits_per_s", self.exits)
    }
}

impl Picture {
    fn new(before: &Sample, now: &Sample, migrations: &Migrations) -> Self {
        let ticks = now.tsc.saturating_sub(before.tsc).max(1);
        let micros = now.at_us.saturating_sub(before.at_us).max(1);
        let share = |part: u64, cpus: usize| {
            Share((u128::from(part) * 1000 / u128::from(ticks)).min(1000 * cpus as u128) as u64)
        };
        let rate = |from: u64, to: u64| {
            (u128::from(to.saturating_sub(from)) * 1_000_000 / u128::from(micros)) as u64
        };
        let mut guests = alloc::vec![0; cpu::count()];
        let mut vms = Vec::new();
        for row in &now.vms {
            let old = before.vms.iter().find(|old| Arc::ptr_eq(&old.vm, &row.vm));
            // One that has come since then has done nothing yet.
            let old = old.unwrap_or(row);
            let (mut all, mut vcpus) = (Ran::default(), Vec::new());
            for ((slot, now), old) in row.vm.vcpus.iter().zip(&row.vcpus).zip(&old.vcpus) {
                let busy = now.ticks.saturating_sub(old.ticks);
                if let Some(on) = guests.get_mut(slot.cpu()) {
                    *on += busy;
                }
                all.ticks += busy;
                all.exits += now.exits.saturating_sub(old.exits);
                vcpus.push(VcpuLine {
                    on: slot.cpu(),
                    state: slot.doing(),
                    cpu: share(busy, 1),
                    exits: rate(old.exits, now.exits),
                });
            }
            vms.push(VmLine {
                name: row.vm.name.owned(),
                state: row.vm.state().name(),
                cpu: share(all.ticks, vcpus.len()),
                exits: rate(0, all.exits),
                dirty: dirty_rate(&row.vm, &now.written, migrations).map(|pages| rate(0, pages)),
                vcpus,
            });
        }
        let host = now.host.saturating_sub(before.host);
        let cpus = guests.iter().enumerate().map(|(index, guests)| CpuLine {
            guests: share(*guests, 1),
            host: share(if index == 0 { host } else { 0 }, 1),
        });
        let stats = frame::stats();
        Self {
            up_us: now.at_us,
            free: stats.free,
            total: stats.total,
            cpus: cpus.collect(),
            vms,
            net: [
                rate(before.net.rx_frames, now.net.rx_frames),
                rate(before.net.rx_bytes, now.net.rx_bytes),
                rate(before.net.tx_frames, now.net.tx_frames),
                rate(before.net.tx_bytes, now.net.tx_bytes),
            ],
        }
    }

    fn json(&self, o: &mut Object<'_>) -> fmt::Result {
        o.field("up_us", self.up_us)?;
        o.field("total", self.total)?;
        o.field("free", self.free)?;
        o.array("cpus", |a| {
            self.cpus.iter().try_for_each(|cpu| {
                a.object(|o| {
                    o.field("guests_permille", cpu.guests.0)?;
                    o.field("host_permille", cpu.host.0)
                })
            })
        })?;
        o.array("vms", |a| {
            self.vms.iter().try_for_each(|vm| {
                a.object(|o| {
                    o.field("name", vm.name.as_str())?;
                    o.field("state", vm.state)?;
                    o.field("cpu_permille", vm.cpu.0)?;
                    o.field("exits_per_s", vm.exits)?;
                    o.field("dirty_pages_per_s", vm.dirty)?;
                    o.array("vcpus", |a| vm.vcpus.iter().try_for_each(|vcpu| a.object(|o| vcpu.json(o))))
                })
            })
        })?;
        o.object("longest_turn", longest_turn)?;
        let names = ["rx_frames_per_s", "rx_bytes_per_s", "tx_frames_per_s", "tx_bytes_per_s"];
        o.object("net", |o| names.iter().zip(self.net).try_for_each(|(name, value)| o.field(name, value)))
    }
}

/// The longest turn of CPU 0's loop as JSON has it.
pub(super) fn longest_turn(o: &mut Object<'_>) -> fmt::Result {
    let longest = meter::longest();
    o.field("ticks", longest.ticks)?;
    o.field("us", tsc::ns(longest.ticks) / 1000)?;
    o.field("part", longest.part.name())?;
    o.field("part_ticks", longest.of_it)?;
    o.field("at_us", tsc::micros_at(longest.at))
}

/// Pages that the guest wrote in the last interval: by its migration's own measure, or by `vm dirty`.
fn dirty_rate(vm: &Arc<Vm>, written: &[Written], migrations: &Migrations) -> Option<u64> {
    if migrations.phase(vm) != Phase::None {
        let report = migrations.report().filter(|report| vm.name.is(&report.vm));
        return report.map(|report| report.progress.dirty_pages_rate);
    }
    written.iter().find(|written| Arc::ptr_eq(&written.vm, vm)).map(|written| written.pages)
}

impl Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.up_us / 1_000_000;
        writeln!(f, "up {seconds} s, {} free of {}", Size(self.free), Size(self.total))?;
        let mut table = Table::new([("CPU", Align::Left), ("GUESTS", Align::Right), ("HOST", Align::Right)]);
        for (index, cpu) in self.cpus.iter().enumerate() {
            table.row([index.to_string(), cpu.guests.to_string(), cpu.host.to_string()]);
        }
        write!(f, "{table}")?;
        let mut table = Table::new([
            ("VM", Align::Left),
            ("STATE", Align::Left),
            ("CPU", Align::Right),
            ("EXITS/S", Align::Right),
            ("WRITTEN/S", Align::Right),
        ]);
        for vm in &self.vms {
            let dirty = vm.dirty.map(|pages| format!("{pages} pages")).unwrap_or_default();
            table.row([vm.name.clone(), vm.state.into(), vm.cpu.to_string(), vm.exits.to_string(), dirty]);
            // The only vCPU of a VM does what the VM does.
            let several = vm.vcpus.iter().enumerate().filter(|_| vm.vcpus.len() > 1);
            for (index, vcpu) in several {
                let name = format!("  vcpu {index} on CPU {}", vcpu.on);
                let (cpu, exits) = (vcpu.cpu.to_string(), vcpu.exits.to_string());
                table.row([name, vcpu.state.into(), cpu, exits, String::new()]);
            }
        }
        write!(f, "{table}")?;
        let longest = meter::longest();
        let [turn, of_it] = [longest.ticks, longest.of_it].map(|ticks| Millis(tsc::ns(ticks) / 1000));
        writeln!(f, "longest turn of CPU 0 {turn}, {of_it} of it {}", longest.part)?;
        let [rx_frames, rx_bytes, tx_frames, tx_bytes] = self.net;
        writeln!(
            f,
            "net  in {rx_frames} frames/s, {}/s; out {tx_frames} frames/s, {}/s",
            Size(rx_bytes),
            Size(tx_bytes)
        )
    }
}

#[cfg(test)]
mod tests;
