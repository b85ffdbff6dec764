//! A whole VM out and in.

use alloc::sync::Arc;
use alloc::vec::Vec;

use cmdline::VmOptions;
use vm_types::{OnReset, StateRecord};
use vmx_types::field;
use vmx_types::reason::ExitReason;

use super::{MACHINE, VCPU, export, import};
use crate::testing::{Host, host, small};
use crate::vm::Vm;

/// Two VMs of the same kind, of which the first has done something, and its records.
fn pair(host: &Host) -> (Arc<Vm>, Arc<Vm>, Vec<StateRecord>) {
    let options = VmOptions { debug_exit: true, on_reset: OnReset::Stop, ..small("from") };
    let from = host.running_with(&options);
    host.exit(&from, |guest| {
        guest.gprs[3] = 0xb0b;
        guest.gprs[0] = 0x5a;
        guest.set(field::EXIT_QUALIFICATION, 0x3ff << 16); // the UART's scratch register
        guest.exits(ExitReason::Io as u32, 1);
    });
    let to = host.vm("to");
    let records = export(&from).unwrap();
    (from, to, records)
}

fn kinds(records: &[StateRecord]) -> Vec<&str> {
    records.iter().map(|record| record.kind.as_str()).collect()
}

#[test]
fn a_vm_is_on_the_other_side_what_it_was_here() {
    let host = host();
    let (from, to, records) = pair(&host);
    let tsc = import(&to, &records).unwrap();
    assert!(tsc <= from.clock.now().tsc);
    assert_eq!(host.vcpu_state(&to), host.vcpu_state(&from));
    assert!(to.platform.lock().config().debug_exit);
    assert_eq!(to.restarts.lock().on_reset, OnReset::Stop);
    to.clock.set(tsc);
    let again = export(&to).unwrap();
    assert_eq!(kinds(&again), kinds(&records));
    let of = |records: &[StateRecord], kind: &str| {
        records.iter().find(|record| record.kind == kind).map(|record| record.body.clone())
    };
    for kind in ["uart", "chipset", VCPU] {
        assert_eq!(of(&again, kind), of(&records, kind), "{kind}");
    }
}

#[test]
fn records_that_are_no_vm_are_refused_by_their_kind() {
    let host = host();
    let (_from, to, records) = pair(&host);
    let at = |kind: &str| records.iter().position(|record| record.kind == kind).unwrap();
    let (machine, vcpu) = (at(MACHINE), at(VCPU));
    let without = |at: usize| {
        let mut records = records.clone();
        records.remove(at);
        records
    };
    let with = |at: usize, change: &dyn Fn(&mut StateRecord)| {
        let mut records = records.clone();
        change(&mut records[at]);
        records
    };
    let doubled = |at: usize| {
        let mut records = records.clone();
        records.push(records[at].clone());
        records
    };
    for (kind, wrong) in [
        (MACHINE, without(machine)),
        (MACHINE, doubled(machine)),
        (MACHINE, with(machine, &|record| record.version += 1)),
        (MACHINE, with(machine, &|record| record.body.truncate(1))),
        (MACHINE, Vec::new()),
        (VCPU, without(vcpu)),
        (VCPU, doubled(vcpu)),
        (VCPU, with(vcpu, &|record| record.instance = 1)),
        (VCPU, with(vcpu, &|record| record.version += 1)),
        (VCPU, with(vcpu, &|record| record.body.truncate(20))),
        (VCPU, with(vcpu, &|record| record.body.push(0))),
    ] {
        let error = import(&to, &wrong).expect_err("it is no VM");
        assert_eq!(error.kind, kind, "{}", error.why);
    }
    import(&to, &records).unwrap();
}

#[test]
fn records_of_one_vcpu_twice_are_refused() {
    let host = host();
    let options = |name: &str| VmOptions { vcpus: 2, ..small(name) };
    let (from, to) = (host.vm_with(&options("from")), host.vm_with(&options("to")));
    let records = export(&from).unwrap();
    for (kind, why) in [("lapic", "instance 0 is there twice"), (VCPU, "vCPU 1 is missing")] {
        let mut wrong = records.clone();
        let at = |instance| wrong.iter().position(|r| r.kind == kind && r.instance == instance).unwrap();
        let (first, second) = (at(0), at(1));
        wrong[second] = wrong[first].clone();
        let error = import(&to, &wrong).expect_err("it is no VM");
        assert_eq!((error.kind.as_str(), error.why.as_str()), (kind, why));
    }
    import(&to, &records).unwrap();
}

#[test]
fn no_byte_of_a_record_makes_the_host_panic() {
    let host = host();
    let (_from, to, records) = pair(&host);
    let mut refused = 0;
    for (number, record) in records.iter().enumerate() {
        for at in 0..record.body.len().min(400) {
            let mut records = records.clone();
            records[number].body[at] ^= 0x81;
            refused += u32::from(import(&to, &records).is_err());
        }
    }
    assert!(refused > 100, "{refused}");
    import(&to, &records).unwrap();
}
