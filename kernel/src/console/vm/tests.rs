//! Commands that are about one vCPU of a VM.

use alloc::string::{String, ToString};
use alloc::sync::Arc;

use cmdline::VmOptions;
use shell::{Code, Command, EventKind, Failure};

use super::super::commands;
use super::super::out::Out;
use crate::events;
use crate::guest::mailbox::Request;
use crate::migration::Migrations;
use crate::testing::{Host, host, small};
use crate::vcpu::Activity;
use crate::vm::Vm;
use core::sync::atomic::Ordering;

/// What an operator reads who types this.
fn typed(line: &str) -> Result<String, Failure> {
    let command: Command<'_> = shell::parse(line).expect("it is a command");
    let mut text = String::new();
    commands::execute(command, &mut Migrations::default(), &mut Out::new(&mut text)).map(|_| text)
}

fn refused(line: &str) -> (Code, String) {
    let failure = typed(line).expect_err("it is refused");
    (failure.code, failure.text)
}

/// A VM of two vCPUs, which is to run.
fn two(host: &Host) -> Arc<Vm> {
    host.running_with(&VmOptions { vcpus: 2, ..small("two") })
}

#[test]
fn registers_and_stacks_of_one_vcpu_or_of_all() {
    let host = host();
    let _vm = two(&host);
    let heads = |line: &str| {
        let text = typed(line).unwrap();
        let heads = text.lines().filter_map(|line| line.strip_prefix("vcpu "));
        heads.map(|head| head[..1].to_string()).collect::<alloc::vec::Vec<_>>()
    };
    for what in ["regs", "stack"] {
        assert_eq!(heads(&alloc::format!("vm {what} two")), ["0", "1"]);
        assert_eq!(heads(&alloc::format!("vm {what} two 0")), ["0"]);
        assert_eq!(heads(&alloc::format!("vm {what} two 1")), ["1"]);
        let json = typed(&alloc::format!("vm {what} two 1 --json")).unwrap();
        assert!(json.starts_with(r#"{"vm":"two","vcpus":[{"vcpu":1,"#), "{json}");
        assert!(!json.contains(r#""vcpu":0"#), "{json}");
    }
}

#[test]
fn a_vcpu_that_is_not_there_is_named_with_how_many_there_are() {
    let host = host();
    let _two = two(&host);
    let _one = host.running("one");
    for line in ["vm regs two 2", "vm stack two 2", "vm exits two 2", "vm exits two 2 on", "vm nmi two 2"] {
        let text = "vm two has no vCPU 2: it has 2, vCPUs 0 to 1";
        assert_eq!(refused(line), (Code::NotFound, text.to_string()), "{line}");
    }
    let text = "vm one has no vCPU 4294967295: it has 1, vCPU 0";
    assert_eq!(refused("vm nmi one 4294967295"), (Code::NotFound, text.to_string()));
    assert_eq!(refused("vm nmi three").0, Code::NotFound);
}

#[test]
fn exits_are_counted_and_timed_of_one_vcpu_or_of_all() {
    let host = host();
    let vm = two(&host);
    let total = |line: &str| {
        let text = typed(line).unwrap();
        text.lines().last().unwrap_or_default().split(' ').next().unwrap_or_default().to_string()
    };
    (0..3).for_each(|_| vm.vcpus[0].exits.count(10));
    (0..4).for_each(|_| vm.vcpus[1].exits.count(12));
    assert_eq!([total("vm exits two"), total("vm exits two 0"), total("vm exits two 1")], ["7", "3", "4"]);
    let json = typed("vm exits two 1 --json").unwrap();
    assert!(json.starts_with(r#"{"vm":"two","vcpu":1,"timed":false,"total":4,"#), "{json}");
    assert!(typed("vm exits two --json").unwrap().starts_with(r#"{"vm":"two","vcpu":null,"#));
    typed("vm exits two 1 on").unwrap();
    assert_eq!([0, 1].map(|index| vm.vcpus[index].exits.is_timed()), [false, true]);
    typed("vm exits two on").unwrap();
    typed("vm exits two 1 off").unwrap();
    assert_eq!([0, 1].map(|index| vm.vcpus[index].exits.is_timed()), [true, false]);
}

#[test]
fn an_nmi_is_left_for_one_vcpu_which_is_made_to_look() {
    let host = host();
    let vm = two(&host);
    let asked = || {
        [0, 1].map(|index| {
            let asked = vm.vcpus[index].requests.swap(0, Ordering::Relaxed);
            asked & Request::Interrupt as u32 != 0
        })
    };
    let nmis = || {
        [0, 1].map(|index| {
            let apic = &mut vm.vcpus[index].vcpu.lock().vcpu.apic;
            apic.catch_up(vm.clock.now());
            apic.take_nmi()
        })
    };
    let refusal = "vm two: its guest has not started vCPU 1: it takes no NMI";
    assert_eq!(refused("vm nmi two 1"), (Code::State, refusal.to_string()));
    vm.vcpus[1].vcpu.lock().vcpu.activity = Activity::Running;
    asked();
    let first = events::next();
    for (line, hit) in
        [("vm nmi two", [true, false]), ("vm nmi two 0", [true, false]), ("vm nmi two 1", [false, true])]
    {
        assert_eq!(typed(line), Ok(String::new()));
        assert_eq!((asked(), nmis()), (hit, hit), "{line}");
    }
    let told = (first..events::next()).filter_map(events::get);
    let told: alloc::vec::Vec<_> = told.map(|(_, event)| (event.kind, event.subject, event.detail)).collect();
    let of = |vcpu: &str| (EventKind::VmNmi, "two".to_string(), vcpu.to_string());
    assert_eq!(told, [of("vCPU 0"), of("vCPU 0"), of("vCPU 1")]);
}

#[test]
fn a_vm_that_does_not_run_gets_no_nmi() {
    let host = host();
    let vm = host.vm("still");
    assert_eq!(refused("vm nmi still"), (Code::State, "vm still is paused, not running".to_string()));
    let apic = &mut vm.vcpus[0].vcpu.lock().vcpu.apic;
    apic.catch_up(vm.clock.now());
    assert!(!apic.take_nmi());
}

#[test]
fn a_vcpu_is_pinned_to_a_cpu_that_runs_guests() {
    let host = host();
    let vm = two(&host);
    assert_eq!(typed("vm pin two 1 0"), Ok(String::new()));
    assert_eq!(vm.vcpus[1].leaves_for(), Some(0));
    let text = "CPU 7 of this host runs no guests; those that do: 0, 1";
    assert_eq!(refused("vm pin two 1 7"), (Code::NotFound, text.to_string()));
    assert_eq!(refused("vm pin two 2 0").0, Code::NotFound);
    assert!(typed("vm show two").unwrap().contains("on CPU 1, pinned"));
    for _ in 0..2 {
        assert_eq!(typed("vm unpin two 1"), Ok(String::new()));
    }
    assert!(!typed("vm show two").unwrap().contains("pinned"));
    assert_eq!(refused("vm unpin two 2").0, Code::NotFound);
}
