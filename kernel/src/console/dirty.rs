//! `vm dirty`: a meter for the rate at which a guest dirties its memory.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use core::fmt::Write;
use ept::DirtyMethod;
use shell::{Code, Failure, Output};

use super::commands::json_line;
use super::session::Out;
use crate::arch::tsc;
use crate::migration::Migrations;
use crate::vm::{State, Vm};

fn busy(text: alloc::string::String) -> Failure {
    Failure::new(Code::Busy, text)
}

/// A migration tracks by itself, and what it harvests is its own.
fn not_in_a_migration(vm: &Arc<Vm>, migrations: &Migrations) -> Result<(), Failure> {
    if migrations.uses(vm) { Err(busy(format!("vm {} is in a migration", vm.name))) } else { Ok(()) }
}

fn metered(vm: &Arc<Vm>, migrations: &Migrations) -> Result<(), Failure> {
    not_in_a_migration(vm, migrations)?;
    if vm.tracking().is_none() {
        let text = format!("vm {0}'s written pages are not counted: say `vm dirty start {0}`", vm.name);
        return Err(Failure::new(Code::State, text));
    }
    Ok(())
}

pub(super) fn start(
    vm: &Arc<Vm>,
    method: Option<shell::DirtyMethod>,
    migrations: &Migrations,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    not_in_a_migration(vm, migrations)?;
    if let Some(method) = vm.tracking() {
        return Err(busy(format!(
            "vm {}'s written pages are counted already, by {}",
            vm.name,
            method.name()
        )));
    }
    let state = vm.state();
    if !matches!(state, State::Running | State::Paused) {
        return Err(Failure::new(Code::State, format!("vm {} is {}", vm.name, state.name())));
    }
    let method = match method {
        None => Vm::best_method(),
        Some(shell::DirtyMethod::Pml) => DirtyMethod::Pml,
        Some(shell::DirtyMethod::AccessDirty) => DirtyMethod::AccessDirty,
        Some(shell::DirtyMethod::WriteProtect) => DirtyMethod::WriteProtect,
    };
    if let Some(lacking) = Vm::lacks(method) {
        return Err(Failure::new(Code::Unsupported, format!("this host's CPU lacks {lacking}")));
    }
    vm.start_tracking(method).map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
    let _ = writeln!(out, "dirty: counted by {}", method.name());
    Ok(())
}

pub(super) fn harvest(
    vm: &Arc<Vm>,
    migrations: &Migrations,
    output: Output,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    metered(vm, migrations)?;
    let before = tsc::read();
    vm.harvest();
    let ticks = tsc::read() - before;
    let pages = vm.to_send.count();
    vm.to_send.clear();
    if output == Output::Json {
        json_line(out, |o| {
            o.field("pages", pages)?;
            o.field("ticks", ticks)
        });
    } else {
        let _ = writeln!(out, "dirty: {pages} pages, {ticks} ticks");
    }
    Ok(())
}

pub(super) fn stop(vm: &Arc<Vm>, migrations: &Migrations) -> Result<(), Failure> {
    metered(vm, migrations)?;
    vm.stop_tracking();
    Ok(())
}
