//! A VM in the making: what it takes, what it gives back, what its guest finds.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::Poll;

use cmdline::VmOptions;
use vm_types::{Gpa, GuestMemory};

use super::Making;
use crate::testing::{TURN_US, host, source};
use crate::vm::create::{self, Spec};
use crate::vm::registry::{self, Reserved};
use crate::vm::{State, Vm, remains};
use hw::arch::tsc;
use hw::mm::held::Held;
use hw::mm::{PAGE, frame};

fn options(mem_mib: u32) -> VmOptions {
    VmOptions { name: "a".into(), mem_mib, ..VmOptions::default() }
}

fn begin(mem_mib: u32) -> Result<Making, String> {
    let options = options(mem_mib);
    Making::of(Reserved::of(&options)?, source(&options))
}

/// Makes a VM; how many turns of CPU 0 that takes.
fn finish(mut making: Making) -> (Result<Arc<Vm>, String>, usize) {
    for turns in 1.. {
        if let Poll::Ready(made) = making.poll() {
            return (made, turns);
        }
    }
    unreachable!("a VM is made sometime")
}

#[test]
fn a_vm_is_made_in_turns_of_a_tenth_of_a_millisecond() {
    let host = host();
    // Each step looks at the clock once: eight of them fill a turn.
    host.slow(tsc::ticks(TURN_US) / 8);
    let (made, turns) = finish(begin(4).unwrap());
    made.unwrap();
    assert!(turns > 1, "{turns}");
}

#[test]
fn what_another_guest_left_is_cleared() {
    let host = host();
    // All of it is known to be clear when the first gets it.
    while frame::prepare(u64::MAX) > 0 {}
    let free = frame::stats().free;
    let mib = (free >> 20) as u32 - 8;
    let first = host.vm_with(&options(mib));
    for gfn in 0..first.memory.pages() {
        first.memory.fill_page(gfn, u64::MAX).unwrap();
    }
    first.destroy();
    while remains::poll() {}
    drop(first);
    assert_eq!(frame::stats().free, free);
    let piece = Held::new(frame::alloc_contiguous(1 << 20, 4096).unwrap(), 1 << 20);
    assert!(piece.bytes().iter().all(|byte| *byte == 0), "what anybody gets is clear");
    drop(piece);
    let making = begin(mib).unwrap();
    assert!(making.to_clear() > 0);
    let second = finish(making).0.unwrap();
    let mut page = [0; 4096];
    // What is made for the guest lies below its kernel, which ends soon after 1 MiB.
    for gfn in 0x101..second.memory.pages() {
        second.memory.read(Gpa(gfn << 12), &mut page).unwrap();
        assert_eq!(page, [0; 4096], "page {gfn:#x}");
    }
}

#[test]
fn one_that_is_given_up_gives_everything_back() {
    let host = host();
    let free = frame::stats().free;
    host.slow(tsc::ticks(TURN_US));
    for turns in 0..30 {
        let mut making = begin(4).unwrap();
        let over = (0..turns).any(|_| making.poll().is_ready());
        drop(making);
        if over {
            break;
        }
        assert!(registry::making().is_empty() && registry::all().is_empty());
        while remains::poll() {}
        assert_eq!(frame::stats().free, free, "after {turns} turns");
    }
}

/// All memory of the host's but that many pages.
fn all_but(pages: u64) -> Vec<Held> {
    let mut taken = Vec::new();
    let mut most = u64::MAX;
    loop {
        let bytes = most.min((frame::stats().free).saturating_sub(pages * PAGE));
        if bytes == 0 {
            return taken;
        }
        match frame::alloc_contiguous(bytes, PAGE) {
            Some(at) => taken.push(Held::new(at, bytes)),
            None => most = bytes.div_ceil(2).next_multiple_of(PAGE),
        }
    }
}

#[test]
fn one_for_which_memory_runs_out_gives_everything_back() {
    let _host = host();
    let free = frame::stats().free;
    let mut refused = 0;
    for spare in 0..64 {
        let making = begin(4).unwrap();
        let taken = all_but(spare);
        let made = finish(making).0;
        drop(taken);
        if let Ok(vm) = made {
            vm.destroy();
            break;
        }
        refused += 1;
        assert!(registry::making().is_empty() && registry::all().is_empty());
        while remains::poll() {}
        assert_eq!(frame::stats().free, free, "with {spare} pages to spare");
    }
    assert!((4..64).contains(&refused), "refused {refused} times");
}

#[test]
fn what_an_operator_does_not_want_is_not_made() {
    let host = host();
    host.slow(tsc::ticks(TURN_US));
    let mut making = begin(4).unwrap();
    assert!(making.poll().is_pending());
    registry::nascent("a").unwrap().end();
    let Poll::Ready(Err(why)) = making.poll() else { panic!("it is given up") };
    assert_eq!(why, "ended by `vm destroy`");
    drop(making);
    assert!(registry::find("a").is_none() && !registry::is_making());
}

#[test]
fn more_memory_than_is_free_is_refused_at_once() {
    let _host = host();
    let free = frame::stats().free;
    let why = begin(1 << 20).err().unwrap();
    assert!(why.starts_with("1048576 MiB of guest memory asked for, "), "{why}");
    assert_eq!((frame::stats().free, registry::is_making()), (free, false));
}

#[test]
fn one_that_comes_by_migration_waits_for_its_source() {
    let _host = host();
    let made = create::spec_of(source(&options(4)), [9; 16]).unwrap();
    let spec = Spec { came: true, source: None, ..made };
    let vm = finish(Making::new(Reserved::of(&options(4)).unwrap(), spec).unwrap()).0.unwrap();
    assert_eq!((vm.state(), vm.uuid), (State::Incoming, [9; 16]));
    assert!(!vm.console.lock().is_live(), "its UART is the other host's");
    let mut at_kernel = [1; 64];
    vm.memory.read(Gpa(1 << 20), &mut at_kernel).unwrap();
    assert_eq!(at_kernel, [0; 64], "nothing is loaded");
}

#[test]
fn a_file_that_is_no_kernel_is_refused_before_anything_is_taken() {
    let _host = host();
    let free = frame::stats().free;
    let mut no_kernel = source(&options(4));
    no_kernel.files.clear();
    assert_eq!(Making::of(Reserved::of(&options(4)).unwrap(), no_kernel).err().unwrap(), "no kernel");
    assert_eq!((frame::stats().free, registry::is_making()), (free, false));
}
