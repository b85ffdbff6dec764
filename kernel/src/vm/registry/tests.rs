//! Names, identities, and the list that CPUs copy.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{MAX_VMS, Reserved, find, generation, insert, making, nascent, remove, rename};
use crate::testing::{HOME, host};
use crate::vm::remains;
use hw::mock::Ipi;
use hw::platform::irq;

fn reserve(name: &str, uuid: Option<[u8; 16]>) -> Result<Reserved, alloc::string::String> {
    Reserved::new(name, uuid, 0, 1, "")
}

#[test]
fn the_name_of_a_vm_in_the_making_is_nobody_elses() {
    let host = host();
    let reserved = reserve("a", None).unwrap();
    assert_eq!(reserve("a", None).err().unwrap(), "a VM named a is being made on this host");
    let other = host.vm("b");
    assert!(rename(&other, "a").is_err());
    drop(reserved);
    assert!(making().is_empty());
    rename(&other, "a").unwrap();
    assert_eq!(reserve("a", None).err().unwrap(), "a VM named a is on this host already");
    drop(reserve("b", None).unwrap());
}

#[test]
fn a_vm_is_found_by_its_new_name_alone() {
    let host = host();
    let (one, two) = (host.vm("one"), host.vm("two"));
    assert!(rename(&one, "two").is_err());
    assert!(rename(&one, "one").is_err(), "nor is it given the name that it has");
    rename(&one, "three").unwrap();
    assert!(find("one").is_none());
    assert!(find("three").is_some_and(|vm| Arc::ptr_eq(&vm, &one)));
    assert!(find("two").is_some_and(|vm| Arc::ptr_eq(&vm, &two)));
}

#[test]
fn a_vm_is_on_a_host_once() {
    let host = host();
    let vm = host.vm("a");
    assert!(reserve("b", Some(vm.uuid)).is_err());
    let coming = reserve("b", Some([7; 16])).unwrap();
    assert!(nascent("b").is_some_and(|b| b.comes));
    assert!(reserve("c", Some([7; 16])).is_err(), "it comes already");
    drop(coming);
    let name = reserve("c", Some([7; 16])).unwrap();
    let before = generation();
    assert!(insert(name, Arc::clone(&vm)).is_err(), "whatever it is called");
    assert_eq!(generation(), before);
    assert!(making().is_empty(), "the name is free again");
}

#[test]
fn a_host_takes_so_many_vms_and_no_more() {
    let host = host();
    let vm = host.vm("a");
    let mut names: Vec<_> = (1..MAX_VMS).map(|at| reserve(&format!("n{at}"), None).unwrap()).collect();
    assert_eq!(reserve("more", None).err().unwrap(), "64 VMs are on this host, the most it takes");
    names.pop();
    names.push(reserve("more", None).unwrap());
    remove(&vm);
    names.push(reserve("another", None).unwrap());
    assert!(reserve("one", None).is_err());
}

#[test]
fn who_is_to_be_given_up_hears_of_it() {
    let _host = host();
    let reserved = reserve("a", None).unwrap();
    assert!(!reserved.is_ended());
    nascent("a").unwrap().end();
    assert!(reserved.is_ended());
}

#[test]
fn cpus_see_that_the_list_has_changed() {
    let host = host();
    let before = generation();
    let vm = host.vm("a");
    let made = generation();
    assert_ne!(made, before);
    host.ipis();
    remove(&vm);
    assert_ne!(generation(), made);
    let kick = Ipi { to: HOME as u32, vector: Some(irq::KICK) };
    assert_eq!(host.ipis(), [kick], "one that sleeps would hold on to it");
    while remains::poll() {}
    assert_eq!(Arc::strong_count(&vm), 1);
}

#[test]
fn no_number_comes_twice() {
    let host = host();
    let one = host.vm("a");
    let first = one.id;
    remove(&one);
    while remains::poll() {}
    drop(one);
    assert!(host.vm("a").id > first);
}
