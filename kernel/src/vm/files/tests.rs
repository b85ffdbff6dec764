//! Files that VMs have in common.

use alloc::sync::Arc;
use alloc::vec;
use core::task::Poll;

use sha2::Digest;

use super::{are_known, came, find, max_file, poll, set_max_file, sha256, usage};
use crate::testing::{Host, file, host};
use crate::vm::Vm;
use crate::vm::source::{Content, SourceFile};
use hw::mm::held::Held;

/// A VM whose module is these bytes.
fn vm(host: &Host, name: &str, module: &Arc<Held>) -> Arc<Vm> {
    let vm = host.vm(name);
    let file = SourceFile::here(Arc::clone(module), "initrd".into(), None);
    vm.source.lock().as_mut().unwrap().files.push(file);
    vm
}

fn module(vm: &Vm) -> Arc<Held> {
    let source = vm.source.lock();
    let Content::Here(held) = &source.as_ref().unwrap().files[1].content else { panic!("it is here") };
    Arc::clone(held)
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

#[test]
fn the_same_bytes_are_held_once() {
    let host = host();
    let bytes = vec![3; 100_000];
    let one = vm(&host, "one", &file(&bytes));
    let two = vm(&host, "two", &file(&bytes));
    let other = vm(&host, "other", &file(&vec![4; 100_000]));
    assert!(!Arc::ptr_eq(&module(&one), &module(&two)));
    came();
    let mut turns = 0;
    while poll() {
        turns += 1;
    }
    assert!(turns > 30, "a piece at a time: {turns}");
    assert!(Arc::ptr_eq(&module(&one), &module(&two)));
    assert!(!Arc::ptr_eq(&module(&one), &module(&other)), "what is only as long stays apart");
    let shared = usage().into_iter().find(|usage| usage.sha256 == Some(digest(&bytes))).unwrap();
    assert_eq!((shared.bytes, shared.users), (100_000, 2));
    assert!(Arc::ptr_eq(&find(&digest(&bytes)).unwrap(), &module(&one)));
}

#[test]
fn a_digest_is_computed_where_somebody_asks() {
    let host = host();
    let vm = vm(&host, "a", &file(b"a module of some length"));
    let held = module(&vm);
    came();
    while poll() {}
    assert_eq!(held.sha256(), None, "no other file is that long");
    assert!(!are_known(held.len()));
    while poll() {}
    assert_eq!(sha256(&held), Poll::Ready(digest(b"a module of some length")));
    assert!(are_known(held.len()));
    assert!(find(&[0; 32]).is_none());
}

#[test]
fn what_nobody_needs_any_more_is_not_digested() {
    let _host = host();
    let held = file(&vec![5; 1 << 20]);
    assert_eq!(sha256(&held), Poll::Pending);
    drop(held);
    assert!(poll(), "it is let go of");
    assert!(!poll());
}

#[test]
fn a_file_that_is_too_long_does_not_go_along() {
    let host = host();
    let vm = vm(&host, "a", &file(&vec![6; (1 << 20) + 1]));
    let before = max_file();
    set_max_file(1);
    let origin = vm.source.lock().as_ref().unwrap().origin(max_file());
    set_max_file(2);
    let longer = vm.source.lock().as_ref().unwrap().origin(max_file());
    super::MAX_FILE.store(before, core::sync::atomic::Ordering::Relaxed);
    assert_eq!([&origin.files[0], &origin.files[1]].map(|file| file.stays), [None, Some(true)]);
    assert_eq!(longer.files[1].stays, None);
}
