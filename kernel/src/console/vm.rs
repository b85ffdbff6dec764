//! `vm`: what a VM is and does.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;
use core::task::Poll;
use shell::{Code, DEFAULT_STOP_S, EventKind, Failure, Hex, Megahertz, Millis, Output, VmCommand};
use vm_types::GuestMemory;

use super::answer::{Done, Job, Task, find, state_error, the_vcpu};
use super::out::{Out, json_line};
use super::{create, exits, inspect, lines, list, waits};
use crate::events;
use crate::guest::StopReason;
use crate::migration::Migrations;
use crate::vcpu::Activity;
use crate::vm::registry::Nascent;
use crate::vm::reset::Anew;
use crate::vm::{Change, State, Vm, create as vm_create, ending, registry, sched};
use crate::{pool, restart};
use hw::arch::{cpu, tsc};
use hw::vmx::host;

pub(super) fn execute(command: VmCommand<'_>, out: &mut Out<'_>) -> Result<Done, Failure> {
    match command {
        VmCommand::List(options, output) => list::print(options, output, out),
        VmCommand::Show(vm, output) => show(find(vm)?.as_ref(), output, out),
        VmCommand::Create(options) => return create::begin(&options),
        VmCommand::Start(vm) => return start(&find(vm)?),
        VmCommand::Pause(vm) => return pause(find(vm)?),
        VmCommand::Resume(vm) => find(vm)?.apply(Change::Run).map_err(state_error)?,
        VmCommand::Stop { vm, timeout_s } => return stop(find(vm)?, timeout_s.unwrap_or(DEFAULT_STOP_S)),
        VmCommand::Reset { vm, force, level } => return reset(&find(vm)?, force, level),
        VmCommand::Rename { vm, to } => rename(&find(vm)?, to)?,
        VmCommand::Destroy { vm, force } => return destroy(&find(vm)?, force),
        VmCommand::Exits { vm, vcpu, timed, output } => {
            exits::execute(find(vm)?.as_ref(), vcpu, timed, output, out)?;
        }
        VmCommand::Regs { vm, vcpu, output } => inspect::registers(&find(vm)?, vcpu, output, out)?,
        VmCommand::Nmi { vm, vcpu } => nmi(&find(vm)?, vcpu)?,
        VmCommand::Pin { vm, vcpu, cpu } => pin(&find(vm)?, vcpu, cpu)?,
        VmCommand::Unpin { vm, vcpu } => unpin(&find(vm)?, vcpu)?,
        VmCommand::Memory { vm, at, length, output } => {
            inspect::memory(&find(vm)?, at, length, output, out)?;
        }
        VmCommand::Stack { vm, vcpu, output } => inspect::stack(&find(vm)?, vcpu, output, out)?,
        VmCommand::Log { vm, utc, output } => {
            return Ok(Done::Later(match find(vm) {
                Ok(vm) => lines::recent(Some(vm.name.owned()), utc, output),
                // One that was destroyed, or has moved on, is just the one that is asked about.
                Err(none) => lines::of_one_gone(vm, none, utc, output),
            }));
        }
    }
    Ok(Done::Now)
}

fn start(vm: &Arc<Vm>) -> Result<Done, Failure> {
    if vm.state() == State::Stopped {
        return boot_anew(vm, None);
    }
    vm.apply(Change::Run).map_err(state_error)?;
    Ok(Done::Now)
}

fn pause(vm: Arc<Vm>) -> Result<Done, Failure> {
    vm.apply(Change::Pause).map_err(state_error)?;
    Ok(waits::pause(vm))
}

fn reset(vm: &Arc<Vm>, force: bool, level: Option<&str>) -> Result<Done, Failure> {
    wants_force(vm, force)?;
    boot_anew(vm, level)
}

/// The level is chosen before anything of the VM is touched.
fn boot_anew(vm: &Arc<Vm>, level: Option<&str>) -> Result<Done, Failure> {
    let unsupported = |why: String| Failure::new(Code::Unsupported, why);
    let source = vm.source.lock().clone();
    let mut source = source.ok_or_else(|| unsupported(vm.has_no_kernel()))?;
    if let Some(lacks) = source.lacks_for_good() {
        return Err(unsupported(format!("vm {} cannot boot anew here: {lacks}", vm.name)));
    }
    if level == Some(vm_create::POOL_LEVEL) && pool::is_forming() {
        return Err(state_error("the pool is not formed yet: wait until `pool show` says so".into()));
    }
    let policy = level.map(|level| vm_create::at_level(vm, &mut source.options, level));
    let policy = policy.transpose().map_err(unsupported)?;
    let outcome = restart::order(vm, Anew { source, policy, why: "" }).map_err(state_error)?;
    Ok(waits::outcome(outcome, format!("the reset of vm {} goes on", vm.name)))
}

fn rename(vm: &Arc<Vm>, to: &str) -> Result<(), Failure> {
    let from = vm.name.get();
    registry::rename(vm, to).map_err(state_error)?;
    log::info!(target: "vm", "vm {to}: named {from} until now");
    events::tell(EventKind::VmRenamed, to, format!("was {from}"));
    Ok(())
}

/// What would lose a guest's work is said twice.
fn wants_force(vm: &Vm, force: bool) -> Result<(), Failure> {
    let state = vm.state();
    if force || state == State::Stopped {
        return Ok(());
    }
    let text = format!("vm {} is {}: say --force to lose it", vm.name, state.name());
    Err(Failure::new(Code::Force, text))
}

fn destroy(vm: &Arc<Vm>, force: bool) -> Result<Done, Failure> {
    wants_force(vm, force)?;
    let outcome = ending::order(vm).map_err(state_error)?;
    Ok(waits::outcome(outcome, format!("the end of vm {} goes on", vm.name)))
}

/// Ends the making of a VM: whoever asked for it hears of that.
pub(super) fn end(nascent: &Nascent) -> Result<(), Failure> {
    let name = &nascent.name;
    if nascent.comes {
        let text = format!(
            "vm {name} is being made for its migration: `migrate cancel {name}` on its source ends it"
        );
        return Err(Failure::new(Code::Busy, text));
    }
    nascent.end();
    log::info!(target: "vm", "vm {name}: its making is ended");
    Ok(())
}

fn pin(vm: &Arc<Vm>, vcpu: u32, number: u32) -> Result<(), Failure> {
    let vmx = |index: &usize| host::of(*index).is_some();
    let Some(to) = usize::try_from(number).ok().filter(vmx) else {
        let able: Vec<String> = (0..cpu::count()).filter(vmx).map(|index| index.to_string()).collect();
        let text = format!("CPU {number} of this host runs no guests; those that do: {}", able.join(", "));
        return Err(Failure::new(Code::NotFound, text));
    };
    let index = the_vcpu(vm, vcpu)?;
    sched::pin(&vm.vcpus[index], to);
    log::info!(target: "vm", "vm {}: vCPU {index} runs on CPU {to} from now on", vm.name);
    Ok(())
}

fn unpin(vm: &Arc<Vm>, vcpu: u32) -> Result<(), Failure> {
    let index = the_vcpu(vm, vcpu)?;
    if vm.vcpus[index].unpin() {
        log::info!(target: "vm", "vm {}: vCPU {index} runs where there is least to do from now on", vm.name);
    }
    Ok(())
}

fn nmi(vm: &Arc<Vm>, vcpu: u32) -> Result<(), Failure> {
    let index = the_vcpu(vm, vcpu)?;
    let doing = vm.vcpus[index].vcpu.try_lock().map(|vcpu| vcpu.vcpu.activity);
    // It takes none before it is started, and whoever starts it does so by an INIT, behind which nothing is left.
    if doing == Some(Activity::WaitForSipi) {
        let text = format!("vm {}: its guest has not started vCPU {index}: it takes no NMI", vm.name);
        return Err(state_error(text));
    }
    if !vm.with_board(|board| board.send_nmi(index as u8)) {
        let text = format!("vm {}: the guest has switched the local APIC of vCPU {index} off", vm.name);
        return Err(state_error(text));
    }
    log::info!(target: "vm", "vm {}: NMI sent to vCPU {index}", vm.name);
    events::tell(EventKind::VmNmi, vm.name.owned(), format!("vCPU {index}"));
    Ok(())
}

fn stop(vm: Arc<Vm>, timeout_s: u64) -> Result<Done, Failure> {
    vm.press_power_button();
    log::info!(target: "vm", "vm {}: power button pressed", vm.name);
    let until_us = tsc::micros().saturating_add(timeout_s.saturating_mul(1_000_000));
    Ok(Done::Later(Job::Task(Box::new(Stopping { vm, timeout_s, until_us, interrupted: false }))))
}

/// A guest that was told to power off.
struct Stopping {
    vm: Arc<Vm>,
    timeout_s: u64,
    until_us: u64,
    interrupted: bool,
}

impl Task for Stopping {
    fn poll(&mut self, _: &mut Migrations, out: &mut Out<'_>) -> Poll<Result<(), Failure>> {
        let name = self.vm.name.get();
        match self.vm.state() {
            State::Stopped => {
                if let Some(reason) = self.vm.stop_reason().filter(|reason| *reason != StopReason::PowerOff) {
                    let _ = writeln!(out, "vm {name} stopped: {reason}");
                }
                return Poll::Ready(Ok(()));
            }
            State::Running | State::Paused | State::Leaving => {}
            other => {
                let text = format!("vm {name} is {} now", other.name());
                return Poll::Ready(Err(Failure::new(Code::Failed, text)));
            }
        }
        if !self.interrupted && tsc::micros() < self.until_us {
            return Poll::Pending;
        }
        let text = if self.interrupted {
            format!("not waited for: the power button of vm {name} is pressed, and it runs on")
        } else {
            format!(
                "vm {name} did not power off within {} s and runs on: `vm destroy {name} --force` ends it",
                self.timeout_s
            )
        };
        Poll::Ready(Err(Failure::new(Code::Failed, text)))
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
    }
}

fn show(vm: &Vm, output: Output, out: &mut Out<'_>) {
    let state = vm.state();
    let reason = vm.stop_reason().map(|reason| reason.to_string());
    let now = vm.clock.now();
    let tracking = vm.tracking().map(|method| method.name());
    let printed = vm.printed();
    let restarts = *vm.restarts.lock();
    let topology = vm.policy().shape().topology.to_string();
    if output == Output::Json {
        return json_line(out, |o| {
            o.field("name", &*vm.name.get())?;
            o.field("uuid", Hex(&vm.uuid).to_string().as_str())?;
            o.field("state", state.name())?;
            o.field("reason", reason.as_deref())?;
            o.field("on_reset", restarts.on_reset.name())?;
            o.field("resets", restarts.count())?;
            o.field("level", vm.policy().level_name())?;
            o.field("came", vm.came)?;
            o.field("topology", topology.as_str())?;
            o.array("vcpus", |a| {
                vm.vcpus.iter().try_for_each(|slot| {
                    a.object(|o| {
                        o.field("cpu", slot.cpu() as u64)?;
                        o.field("pinned", slot.is_pinned())?;
                        o.field("state", slot.doing())?;
                        o.field("share", u64::from(slot.share.load(Ordering::Relaxed)))?;
                        o.field("exits", slot.exits.total())?;
                        o.field("ran_us", tsc::ns(slot.ran.load(Ordering::Relaxed)) / 1000)
                    })
                })
            })?;
            o.array("memory", |a| {
                vm.memory.ranges().iter().try_for_each(|range| {
                    a.object(|o| {
                        o.field("start", range.start.0)?;
                        o.field("end", range.end())
                    })
                })
            })?;
            o.field("tsc", now.tsc)?;
            o.field("tsc_hz", now.hz)?;
            o.field("tsc_scaled", vm.clock.scaling().is_some())?;
            o.field("tracking", tracking)?;
            o.field("printed", printed)?;
            o.field("exits", vm.exits())
        });
    }
    let shown = reason.map_or_else(|| String::from(state.name()), |reason| format!("stopped: {reason}"));
    let _ = writeln!(out, "name      {}\nuuid      {}\nstate     {shown}", vm.name, Hex(&vm.uuid));
    let _ = writeln!(out, "on-reset  {}, {} so far", restarts.on_reset.name(), restarts.count());
    let _ = writeln!(out, "level     {}\nvcpus     {}", vm.policy().level_name(), vm.vcpus.len());
    let _ = writeln!(out, "topology  {topology}");
    for (index, slot) in vm.vcpus.iter().enumerate() {
        let (state, share) = (slot.doing(), slot.share.load(Ordering::Relaxed));
        let ran = Millis(tsc::ns(slot.ran.load(Ordering::Relaxed)) / 1000);
        let exits = slot.exits.total();
        let pinned = if slot.is_pinned() { ", pinned" } else { "" };
        let _ = writeln!(
            out,
            "vcpu {index:<4} on CPU {}{pinned}, {state}, share {share} %, {exits} exits, ran {ran}",
            slot.cpu()
        );
    }
    for range in vm.memory.ranges() {
        let _ = writeln!(out, "memory    {:#x} to {:#x}", range.start.0, range.end());
    }
    let scaled = if vm.clock.scaling().is_some() { ", scaled" } else { "" };
    let _ = writeln!(out, "tsc       {} at {}{scaled}", now.tsc, Megahertz(now.hz));
    let _ = writeln!(out, "tracking  {}\nprinted   {printed} bytes", tracking.unwrap_or("off"));
    let _ = writeln!(out, "exits     {}", vm.exits());
}

#[cfg(test)]
mod tests;
