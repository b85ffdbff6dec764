//! `cpu` and its questions.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use cpu_policy::{Dump, HostPolicy, Lacking, Level, LevelList, Sense, Subject, diff};
use shell::{Code, CpuAbout, Failure, Megahertz, Named, Output};

use super::answer::find;
use super::names::HERE;
use super::out::{Out, json_line};
use super::{flex, ledger, mitigations, names};
use crate::vm::{Vm, registry};
use crate::{policy, pool};
use hw::arch::{cpu, tsc};
use hw::vmx::host;

pub(super) fn about(about: CpuAbout<'_>, output: Output, out: &mut Out<'_>) -> Result<(), Failure> {
    match about {
        CpuAbout::Levels => levels(output, out),
        CpuAbout::Show(subject) => show(subject.unwrap_or(HERE), output, out),
        CpuAbout::Diff(one, other) => compare(one, other, output, out),
        CpuAbout::Check { vm, host } => check(find(vm)?.as_ref(), host, output, out),
        CpuAbout::Dump(host) => dump(host.unwrap_or(HERE), out),
        CpuAbout::Ledger(vm) => ledger::show(find(vm)?.as_ref(), output, out),
        CpuAbout::Flex => flex::show(output, out),
        CpuAbout::Mitigations(vm) => {
            let vm = vm.map(find).transpose()?;
            mitigations::show(vm.as_deref(), output, out)
        }
    }
}

pub(super) fn summary(output: Output, out: &mut Out<'_>) {
    let brand = hw::arch::cpu::id().get_processor_brand_string();
    if output == Output::Json {
        return json_line(out, |o| {
            o.field("model", brand.as_ref().map_or("unnamed", |b| b.as_str().trim()))?;
            o.field("cpus", cpu::count() as u64)?;
            o.field("tsc_hz", tsc::hz())?;
            o.field("vmx", host::boot_cpu().map(|host| json::Shown(&host.caps)))?;
            o.field("tracking", Vm::best_method().name())?;
            o.array("levels", |a| a.items(policy::host().levels().map(|level| level.name)))?;
            o.array("others", |a| Lacking(policy::host()).json(a))
        });
    }
    let _ = writeln!(out, "model     {}", brand.as_ref().map_or("unnamed", |b| b.as_str().trim()));
    let _ = writeln!(out, "cpus      {}\ntsc       {}", cpu::count(), Megahertz(tsc::hz()));
    if let Some(host) = host::boot_cpu() {
        let _ = writeln!(out, "vmx       {}", host.caps);
    }
    let _ = writeln!(out, "tracking  {}", Vm::best_method().name());
    let _ = writeln!(out, "levels    {}", policy::levels_of_this_host());
    let lacking = Lacking(policy::host()).to_string();
    if !lacking.is_empty() {
        let _ = write!(out, "what the others lack here:\n{lacking}");
    }
}

/// Prints an answer; the console cannot fail.
fn print<'a>(out: &mut Out<'a>, write: impl FnOnce(&mut Out<'a>) -> fmt::Result) -> Result<(), Failure> {
    let _ = write(out);
    Ok(())
}

fn levels(output: Output, out: &mut Out<'_>) -> Result<(), Failure> {
    let list = LevelList(Some(policy::host()));
    print(out, |out| match output {
        Output::Text => write!(out, "{list}"),
        Output::Json => {
            json::array(out, |a| list.json(a))?;
            out.write_char('\n')
        }
    })
}

fn host_named(name: &str) -> Option<HostPolicy> {
    if name == HERE { Some(policy::host().clone()) } else { pool::cpu_of(name) }
}

fn no_such(what: &str, name: &str) -> Failure {
    let kinds =
        if what == "host" { &[Named::Members][..] } else { &[Named::CpuLevels, Named::Vms, Named::Members] };
    let near = kinds.iter().map(|kind| names::nearest(*kind, name)).find(|near| !near.is_empty());
    let text = near.unwrap_or_else(|| format!("; members of the pool: {}", pool::other_names()));
    Failure::new(Code::NotFound, format!("{what} '{name}' is not known{text}"))
}

/// A level, a VM or a host, in this order.
fn subject(name: &str) -> Result<Subject, Failure> {
    if let Some(level) = Level::by_name(name) {
        return Ok(Subject::level(level));
    }
    if let Some(vm) = registry::find(name) {
        return Ok(Subject::guest(name, &vm.policy()));
    }
    let host = host_named(name).ok_or_else(|| no_such("level, VM or host", name))?;
    Ok(Subject::host(name, &host, Sense::Host))
}

fn show(name: &str, output: Output, out: &mut Out<'_>) -> Result<(), Failure> {
    let subjects: Vec<Subject> = match host_named(name) {
        Some(host) => Sense::ALL.map(|sense| Subject::host(name, &host, sense)).into(),
        None => [subject(name)?].into(),
    };
    print(out, |out| match output {
        Output::Text => subjects.iter().try_for_each(|subject| write!(out, "{subject}")),
        Output::Json => {
            json::array(out, |a| subjects.iter().try_for_each(|s| a.object(|o| s.json(o))))?;
            out.write_char('\n')
        }
    })
}

fn compare(one: &str, other: &str, output: Output, out: &mut Out<'_>) -> Result<(), Failure> {
    let found = diff(&subject(one)?, &subject(other)?);
    print(out, |out| match output {
        Output::Text if found.is_empty() => writeln!(out, "no difference"),
        Output::Text => found.iter().try_for_each(|difference| writeln!(out, "{difference}")),
        Output::Json => {
            json::array(out, |a| found.iter().try_for_each(|d| a.object(|o| d.json(o))))?;
            out.write_char('\n')
        }
    })
}

fn check(vm: &Vm, name: &str, output: Output, out: &mut Out<'_>) -> Result<(), Failure> {
    let target = host_named(name).ok_or_else(|| no_such("host", name))?;
    let verdict = vm.policy().round_trip(policy::host(), &target);
    let clocks = pool::tsc_means(name, vm.clock.hz());
    print(out, |out| match output {
        Output::Text => {
            write!(out, "{verdict}")?;
            clocks.map_or(Ok(()), |[there, back]| {
                writeln!(out, "tsc    there {}, back {}", there.name(), back.name())
            })
        }
        Output::Json => {
            json::object(out, |o| {
                verdict.json(o)?;
                o.field("tsc_there", clocks.map(|[there, _]| there.name()))?;
                o.field("tsc_back", clocks.map(|[_, back]| back.name()))
            })?;
            out.write_char('\n')
        }
    })
}

fn dump(name: &str, out: &mut Out<'_>) -> Result<(), Failure> {
    let host = host_named(name).ok_or_else(|| no_such("host", name))?;
    print(out, |out| write!(out, "{}", Dump::of(name, &host)))
}
