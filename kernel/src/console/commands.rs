//! Which file does what a command asks for.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::{self, Write};
use json::Object;
use shell::{Code, Command, Failure, Named, TermSettings};

use super::session::{Attachment, Job, Out};
use super::{audit, cpu, dirty, host, migrate, names, pool, vm};
use crate::migration::Migrations;
use crate::vm::{Vm, registry};

/// How a command that did not fail goes on.
pub(super) enum Done {
    /// It is over.
    Now,
    /// It ends later.
    Later(Job),
    /// The terminal is to be a guest's.
    Attach(Attachment),
    /// It is about the terminal.
    Term(TermSettings),
    /// The session is to end.
    Exit,
}

pub(super) fn find(name: &str) -> Result<Arc<Vm>, Failure> {
    registry::find(name).ok_or_else(|| {
        let near = names::nearest(Named::Vms, name);
        Failure::new(Code::NotFound, format!("no VM named {name}{near}"))
    })
}

pub(super) fn state_error(text: String) -> Failure {
    Failure::new(Code::State, text)
}

/// One JSON object on one line.
pub(super) fn json_line(out: &mut Out<'_>, fill: impl FnOnce(&mut Object<'_>) -> fmt::Result) {
    // An answer cannot fail.
    let _ = json::object(out, fill).and_then(|()| out.write_char('\n'));
}

pub(super) fn execute(
    command: Command<'_>,
    migrations: &mut Migrations,
    out: &mut Out<'_>,
) -> Result<Done, Failure> {
    match command {
        Command::Empty => {}
        Command::Exit => return Ok(Done::Exit),
        Command::Help(topic) => {
            let _ = shell::write_help(topic, out);
        }
        Command::Vm(command) => return vm::execute(command, migrations, out),
        Command::DirtyStart { vm, method } => return dirty::start(find(vm)?, method, migrations),
        Command::DirtyHarvest(vm, output) => return dirty::harvest(find(vm)?, migrations, output),
        Command::DirtyStop(vm) => return dirty::stop(find(vm)?, migrations),
        Command::Console { vm, read_only } => {
            return Ok(Done::Attach(Attachment { vm: find(vm)?, read_only }));
        }
        Command::Term(settings) => return Ok(Done::Term(settings)),
        Command::Cpu(output) => cpu::summary(output, out),
        Command::CpuAbout(about, output) => cpu::about(about, output, out)?,
        Command::Audit { vm, action, output } => audit::execute(&find(vm)?, action, output, out)?,
        Command::Pool(command, output) => return pool::execute(command, output, out),
        Command::Migrate(command) => return migrate::execute(command, migrations, out),
        Command::Host(command) => return host::execute(command, out),
    }
    Ok(Done::Now)
}
