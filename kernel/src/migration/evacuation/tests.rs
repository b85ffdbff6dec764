//! What becomes of each VM of a host that is to be empty.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use migrate::Tuning;

use super::Evacuation;
use crate::ended::Ended;
use crate::testing::host;

fn of(vms: Vec<alloc::sync::Arc<crate::vm::Vm>>) -> Result<Evacuation, alloc::string::String> {
    Evacuation::new(vms, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1), Tuning::default())
}

#[test]
fn a_host_without_vms_has_nothing_to_move() {
    assert!(of(Vec::new()).is_err());
}

#[test]
fn every_vm_that_runs_is_moved_in_turn_and_the_others_are_named() {
    let host = host();
    let mut moving = of(Vec::from([host.running("a"), host.vm("paused"), host.running("b")])).unwrap();
    assert_eq!(moving.next().as_deref(), Some("a"));
    moving.ended("a".into(), Ended::Done);
    assert_eq!(moving.next().as_deref(), Some("b"));
    moving.ended("b".into(), Ended::Refused("no memory".into()));
    assert_eq!(moving.next(), None);
    assert_eq!(moving.finish(), Ended::Failed("1 moved, 2 stay: paused, b".to_string()));
}

#[test]
fn it_is_done_where_all_are_gone_and_not_where_the_operator_ended_it() {
    let host = host();
    let (a, b) = (host.running("a"), host.running("b"));
    let mut moving = of(Vec::from([a.clone()])).unwrap();
    moving.next();
    moving.ended("a".into(), Ended::Done);
    assert_eq!(moving.finish(), Ended::Done);
    let mut moving = of(Vec::from([a, b])).unwrap();
    moving.next();
    moving.give_up();
    moving.ended("a".into(), Ended::Failed("cancelled".into()));
    assert_eq!(moving.finish(), Ended::Failed("0 moved, 2 stay: b, a".to_string()));
}
