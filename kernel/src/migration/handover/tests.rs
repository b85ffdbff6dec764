//! A VM that two hosts may run: here it runs by an operator's word alone, or by what the other host says.

use alloc::sync::Arc;
use core::net::{Ipv4Addr, SocketAddrV4};

use migrate::handover::{Deal, Role, Word};
use migrate::ownership::Entry;
use shell::{Code, Verdict};

use super::{Doubt, Handovers};
use crate::testing::{Host, host};
use crate::vm::{Change, State, Vm, registry};

const TARGET: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);

/// What both ends know, as the source has it.
fn deal(vm: &Vm) -> Deal {
    let (migration, here, there) = ([7; 16], super::boot_id(), [9; 16]);
    Deal { role: Role::Source, migration, vm_uuid: vm.uuid, here, there, secret: [5; 32] }
}

/// The same as the target has it.
fn theirs(deal: &Deal) -> Deal {
    Deal { role: Role::Target, here: deal.there, there: deal.here, ..deal.clone() }
}

/// A VM that has been given up here, and whose target cannot be asked.
fn left(host: &Host) -> (Arc<Vm>, Deal, Handovers) {
    let vm = host.running("a");
    for change in [Change::Still, Change::GiveUp, Change::Doubt] {
        vm.apply(change).expect("the way of a VM that leaves");
    }
    let deal = deal(&vm);
    let mut all = Handovers::default();
    all.open(Doubt::left(Arc::clone(&vm), Some(deal.clone()), TARGET, 0));
    (vm, deal, all)
}

/// No CPU enters it.
fn may_not_run(vm: &Vm) -> bool {
    !vm.state().may_run() && vm.vcpus[0].gate.enter(vm.state_cell()) == Entry::Off
}

fn run_here(all: &mut Handovers, receipt: Option<&str>, force: bool) -> Result<(), Code> {
    all.resolve("a", Verdict::RunHere, receipt, force).map(|_| ()).map_err(|failure| failure.code)
}

#[test]
fn a_vm_in_doubt_runs_here_neither_by_itself_nor_without_force_or_receipt() {
    let host = host();
    let (vm, deal, mut all) = left(&host);
    assert!(may_not_run(&vm));
    assert!(vm.apply(Change::Run).is_err());
    assert_eq!(run_here(&mut all, None, false), Err(Code::Force));
    assert_eq!(run_here(&mut all, Some("0123"), false), Err(Code::Refused));
    assert!(may_not_run(&vm));
    let receipt = theirs(&deal).receipt();
    assert_eq!(run_here(&mut all, Some(&alloc::format!("{receipt}")), false), Ok(()));
    assert_eq!(vm.state(), State::Running);
}

#[test]
fn what_the_target_says_decides_and_a_forged_word_does_not() {
    let host = host();
    let (vm, deal, mut all) = left(&host);
    let forger = Deal { secret: [6; 32], ..theirs(&deal) };
    all.answer(&forger.say(Word::Destroyed, 0));
    assert!(may_not_run(&vm));
    all.answer(&theirs(&deal).say(Word::Holds, 0));
    assert!(may_not_run(&vm), "it may run there");
    all.answer(&theirs(&deal).say(Word::Destroyed, 0));
    assert_eq!(vm.state(), State::Running);
}

#[test]
fn a_vm_that_runs_there_is_freed_here() {
    let host = host();
    let (vm, deal, mut all) = left(&host);
    all.answer(&theirs(&deal).say(Word::Runs, 0));
    assert!(may_not_run(&vm));
    assert!(!registry::holds(&vm));
    all.poll();
    assert!(all.phase(&vm).is_none());
}

#[test]
fn a_vm_discarded_here_leaves_a_receipt_that_the_other_end_takes() {
    let host = host();
    let (vm, deal, mut all) = left(&host);
    let receipt = all.resolve("a", Verdict::Discard, None, false).expect("it is in doubt");
    assert!(theirs(&deal).takes(&receipt.expect("both can check it")));
    assert!(may_not_run(&vm));
    assert!(!registry::holds(&vm));
}

#[test]
fn there_is_nothing_to_resolve_about_other_vms() {
    let host = host();
    let _vm = host.running("a");
    let mut all = Handovers::default();
    assert_eq!(run_here(&mut all, None, true), Err(Code::State));
    let missing = all.resolve("b", Verdict::Discard, None, false).map_err(|failure| failure.code);
    assert_eq!(missing, Err(Code::NotFound));
}
