//! What each command does.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt::Write;
use shell::{Align, Code, Command, Failure, Size, Table};

use super::session::{Attachment, Job, Out};
use super::{audit, cpu, dirty, migrate, pool};
use crate::arch::power;
use crate::log as host_log;
use crate::migration::Migrations;
use crate::mm::{frame, heap_usage};
use crate::start;
use crate::vm::{State, Vm, registry};

/// How a command that did not fail goes on.
pub(super) enum Done {
    /// It is over.
    Now,
    /// It ends later.
    Later(Job),
    /// The terminal is to be a guest's.
    Attach(Attachment),
}

pub(super) fn find(name: &str) -> Result<Arc<Vm>, Failure> {
    registry::find(name).ok_or_else(|| Failure::new(Code::NotFound, format!("no VM named {name}")))
}

fn state_error(text: String) -> Failure {
    Failure::new(Code::State, text)
}

pub(super) fn execute(
    command: Command<'_>,
    migrations: &mut Migrations,
    out: &mut Out<'_>,
) -> Result<Done, Failure> {
    match command {
        Command::Empty => {}
        Command::Help(topic) => {
            let _ = shell::write_help(topic, out);
        }
        Command::Version => {
            let _ = writeln!(out, "{}", start::version());
        }
        Command::VmList => list(out),
        Command::VmShow(name) => show(find(name)?.as_ref(), out),
        Command::VmStart(name) => find(name)?.resume().map_err(state_error)?,
        Command::VmResume(vm) => resume(find(vm)?.as_ref())?,
        Command::VmPause(name) => find(name)?.pause().map_err(state_error)?,
        Command::VmDestroy { vm, force } => destroy(&find(vm)?, force, migrations)?,
        Command::DirtyStart { vm, method } => dirty::start(&find(vm)?, method, migrations, out)?,
        Command::DirtyHarvest(vm) => dirty::harvest(&find(vm)?, migrations, out)?,
        Command::DirtyStop(vm) => dirty::stop(&find(vm)?, migrations)?,
        Command::Console(name) => {
            return Ok(Done::Attach(Attachment { vm: find(name)? }));
        }
        Command::Cpu => cpu::summary(out),
        Command::CpuAbout(about, output) => cpu::about(about, output, out)?,
        Command::Audit { vm, action, output } => audit::execute(&find(vm)?, action, output, out)?,
        Command::Pool(command, output) => return pool::execute(command, output, out),
        Command::Migrate(command) => return migrate::execute(command, migrations, out),
        Command::Log(None) => {
            let _ = out.write_str(&host_log::recent());
        }
        Command::Log(Some(level)) => host_log::set_level(convert(level)),
        Command::Net => crate::net::show(out),
        Command::Mem => {
            let stats = frame::stats();
            let (used, size) = heap_usage();
            let _ = writeln!(
                out,
                "total {}, free {}, heap {} of {} used",
                Size(stats.total),
                Size(stats.free),
                Size(used as u64),
                Size(size as u64)
            );
        }
        Command::Reboot { force } => reboot(force)?,
    }
    Ok(Done::Now)
}

const fn convert(level: shell::LogLevel) -> cmdline::LogLevel {
    match level {
        shell::LogLevel::Error => cmdline::LogLevel::Error,
        shell::LogLevel::Warn => cmdline::LogLevel::Warn,
        shell::LogLevel::Info => cmdline::LogLevel::Info,
        shell::LogLevel::Debug => cmdline::LogLevel::Debug,
        shell::LogLevel::Trace => cmdline::LogLevel::Trace,
    }
}

fn resume(vm: &Vm) -> Result<(), Failure> {
    if vm.state() == State::Unknown {
        return Err(in_doubt(vm));
    }
    vm.resume().map_err(state_error)
}

/// A VM that a migration left behind as unknown may run on the other host.
fn in_doubt(vm: &Vm) -> Failure {
    let name = &vm.name;
    let text = format!(
        "vm {name} is unknown: say `migrate resolve {name} run-here` or `migrate resolve {name} discard`"
    );
    Failure::new(Code::State, text)
}

fn destroy(vm: &Arc<Vm>, force: bool, migrations: &Migrations) -> Result<(), Failure> {
    if vm.state() == State::Unknown {
        return Err(in_doubt(vm));
    }
    if migrations.uses(vm) {
        return Err(Failure::new(Code::Busy, format!("vm {} is in a migration", vm.name)));
    }
    let state = vm.state();
    if !force && !matches!(state, State::Stopped(_)) {
        let text = format!("vm {} is {}: say --force to lose it", vm.name, state.name());
        return Err(Failure::new(Code::Force, text));
    }
    vm.destroy();
    log::info!(target: "vm", "vm {}: destroyed", vm.name);
    Ok(())
}

fn reboot(force: bool) -> Result<(), Failure> {
    let running = registry::all().iter().filter(|vm| !matches!(vm.state(), State::Stopped(_))).count();
    if running != 0 && !force {
        return Err(Failure::new(Code::Force, format!("{running} VMs would be lost: say --force")));
    }
    log::info!("rebooting");
    start::leave_vmx();
    power::reboot()
}

fn list(out: &mut Out<'_>) {
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("LEVEL", Align::Left),
        ("VCPUS", Align::Right),
        ("MEM", Align::Right),
        ("EXITS", Align::Right),
    ]);
    for vm in registry::all() {
        let bytes: u64 = vm_types::GuestMemory::ranges(&vm.memory).iter().map(|r| r.len).sum();
        table.row([
            vm.name.clone(),
            vm.state().name().into(),
            vm.policy.level_name().into(),
            vm.vcpus.len().to_string(),
            Size(bytes).to_string(),
            exits(&vm),
        ]);
    }
    let _ = write!(out, "{table}");
}

/// VM exits so far; a vCPU that runs on another CPU at this moment keeps its count to itself.
fn exits(vm: &Vm) -> String {
    let mut sum = 0;
    for slot in &vm.vcpus {
        match slot.vcpu.try_lock() {
            Some(vcpu) => sum += vcpu.exits,
            None => return "-".into(),
        }
    }
    sum.to_string()
}

fn show(vm: &Vm, out: &mut Out<'_>) {
    let uuid = vm.uuid.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let state = match vm.state() {
        State::Stopped(reason) => format!("stopped: {reason}"),
        other => other.name().into(),
    };
    let now = vm.clock.now();
    let _ = writeln!(out, "name      {}\nuuid      {uuid}\nstate     {state}", vm.name);
    let _ = writeln!(out, "level     {}\nvcpus     {}", vm.policy.level_name(), vm.vcpus.len());
    for (index, slot) in vm.vcpus.iter().enumerate() {
        let _ = writeln!(out, "vcpu {index}    on CPU {}", slot.cpu);
    }
    for range in vm_types::GuestMemory::ranges(&vm.memory) {
        let _ = writeln!(out, "memory    {:#x} to {:#x}", range.start.0, range.end());
    }
    let scaled = if vm.clock.scaling().is_some() { ", scaled" } else { "" };
    let _ = writeln!(out, "tsc       {} at {} Hz{scaled}", now.tsc, now.hz);
    let tracking = vm.tracking().map_or("off", |method| method.name());
    let _ = writeln!(out, "tracking  {tracking}\nexits     {}", exits(vm));
}
