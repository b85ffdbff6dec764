//! `migrate`: moving VMs, watching and ending that.

use alloc::format;
use shell::{Code, Failure, MigrateCommand};

use super::commands::{Done, find, state_error};
use crate::migration::Migrations;

pub(super) fn execute(command: MigrateCommand<'_>, migrations: &mut Migrations) -> Result<Done, Failure> {
    match command {
        MigrateCommand::Check { vm, host } => migrate(migrations, vm, host, true),
        MigrateCommand::Move { vm, host, .. } => migrate(migrations, vm, host, false),
        MigrateCommand::All { .. }
        | MigrateCommand::Status(_)
        | MigrateCommand::Cancel(_)
        | MigrateCommand::Resolve { .. } => Err(Failure::new(Code::Unsupported, "not yet")),
    }
}

fn migrate(
    migrations: &mut Migrations,
    name: &str,
    to: core::net::SocketAddrV4,
    check_only: bool,
) -> Result<Done, Failure> {
    let vm = find(name)?;
    if !check_only && vm.tracking().is_some() && !migrations.uses(&vm) {
        return Err(Failure::new(
            Code::Busy,
            format!("vm {name}'s written pages are counted: say `vm dirty stop {name}` first"),
        ));
    }
    migrations.start(name, to, check_only).map_err(state_error)?;
    Ok(Done::Later)
}
