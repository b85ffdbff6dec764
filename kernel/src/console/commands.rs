//! Which file does what a command asks for.

use ::migrate::ownership::Command as Deed;
use alloc::boxed::Box;
use shell::{AuditAction, Command, CpuAbout, Failure, Folded, HostCommand, MigrateCommand, VmCommand};

use super::answer::{Attachment, Done, Job, find};
use super::out::Out;
use super::watch::Watch;
use super::{audit, cpu, dirty, host, migrate, pool, vm};
use crate::migration::Migrations;
use crate::vm::registry;

/// What a command does with one VM, for its migration to be asked: everything that changes a VM stands here.
fn subject<'a>(command: &Command<'a>) -> Option<(Deed, &'a str)> {
    Some(match *command {
        Command::Vm(command) => match command {
            VmCommand::Start(vm) => (Deed::Start, vm),
            VmCommand::Pause(vm) => (Deed::Pause, vm),
            VmCommand::Resume(vm) => (Deed::Resume, vm),
            VmCommand::Stop { vm, .. } | VmCommand::Nmi { vm, .. } => (Deed::Stop, vm),
            VmCommand::Reset { vm, .. } => (Deed::Reset, vm),
            VmCommand::Rename { vm, .. } => (Deed::Rename, vm),
            VmCommand::Destroy { vm, .. } => (Deed::Destroy, vm),
            VmCommand::Regs { vm, .. } | VmCommand::Memory { vm, .. } | VmCommand::Stack { vm, .. } => {
                (Deed::Inspect, vm)
            }
            VmCommand::Show(vm, _)
            | VmCommand::Exits { vm, .. }
            | VmCommand::Pin { vm, .. }
            | VmCommand::Unpin { vm, .. } => (Deed::Look, vm),
            // A log is also that of a VM that is gone.
            VmCommand::List(..) | VmCommand::Create(_) | VmCommand::Log { .. } => return None,
        },
        Command::DirtyStart { vm, .. } | Command::DirtyHarvest(vm, _) | Command::DirtyStop(vm) => {
            (Deed::Dirty, vm)
        }
        Command::Audit { vm, action: AuditAction::Report, .. } => (Deed::Look, vm),
        Command::Audit { vm, .. } => (Deed::Audit, vm),
        // Each byte typed there is judged by itself: `Vm::offer`.
        Command::Console { vm, .. } => (Deed::Look, vm),
        Command::Migrate(command) => match command {
            MigrateCommand::Check { vm, .. } => (Deed::Check, vm),
            MigrateCommand::Move { vm, .. } => (Deed::Move, vm),
            MigrateCommand::Cancel(vm) => (Deed::Cancel, vm),
            MigrateCommand::Resolve { vm, .. } => (Deed::Resolve, vm),
            // Each VM is asked when its turn comes: `Migrations::start`.
            MigrateCommand::All { .. } | MigrateCommand::Status(_) => return None,
        },
        Command::Empty
        | Command::Help(_)
        | Command::Exit
        | Command::Term(_)
        // Each time by itself.
        | Command::Watch { .. }
        | Command::Cpu(_)
        | Command::CpuAbout(..)
        | Command::Pool(..)
        | Command::Host(_) => return None,
    })
}

/// Runs a command. What it answers at once is folded to a terminal's row, but for what is made to be copied.
pub(super) fn execute(
    command: Command<'_>,
    migrations: &mut Migrations,
    out: &mut Out<'_>,
) -> Result<Done, Failure> {
    if let Command::Vm(VmCommand::Destroy { vm, .. }) = command
        && let Some(nascent) = registry::nascent(vm)
    {
        return vm::end(&nascent).map(|()| Done::Now);
    }
    if let Some((deed, vm)) = subject(&command) {
        migrations.admit(deed, &find(vm)?)?;
    }
    if matches!(command, Command::CpuAbout(CpuAbout::Dump(_), _) | Command::Host(HostCommand::ConfigLine)) {
        return run(command, migrations, out);
    }
    let ansi = out.is_ansi();
    run(command, migrations, &mut Out::terminal(&mut Folded::new(out), ansi))
}

fn run(command: Command<'_>, migrations: &mut Migrations, out: &mut Out<'_>) -> Result<Done, Failure> {
    match command {
        Command::Empty => {}
        Command::Exit => return Ok(Done::Exit),
        Command::Help(topic) => {
            let _ = shell::write_help(topic, out);
        }
        Command::Vm(command) => return vm::execute(command, out),
        Command::DirtyStart { vm, method } => return dirty::start(find(vm)?, method),
        Command::DirtyHarvest(vm, output) => return dirty::harvest(find(vm)?, output),
        Command::DirtyStop(vm) => return dirty::stop(find(vm)?),
        Command::Console { vm, read_only } => {
            return Ok(Done::Attach(Attachment { vm: find(vm)?, read_only }));
        }
        Command::Term(settings) => return Ok(Done::Term(settings)),
        Command::Watch { line, seconds } => {
            return Ok(Done::Later(Job::Task(Box::new(Watch::new(line, seconds, execute)))));
        }
        Command::Cpu(output) => cpu::summary(output, out),
        Command::CpuAbout(about, output) => cpu::about(about, output, out)?,
        Command::Audit { vm, action, output } => return audit::execute(&find(vm)?, action, output, out),
        Command::Pool(command, output) => return pool::execute(command, output, out),
        Command::Migrate(command) => return migrate::execute(command, migrations, out),
        Command::Host(command) => return host::execute(command, out),
    }
    Ok(Done::Now)
}
