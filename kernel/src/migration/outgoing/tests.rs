//! What a migration reads of its VM.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::Ordering;

use cmdline::VmOptions;
use migrate::{PAGE_BYTES, PageKind, Shares, SourceVm};
use vm_types::{Gpa, GuestMemory, PAGE_SIZE};

use super::Leaving;
use crate::meter::Stopped;
use crate::testing::{host, small};
use crate::vm::Vm;

fn leaving(vm: Arc<Vm>) -> Leaving {
    let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
    Leaving { vm, to, stopped: None, told: 0, files: Vec::new(), marks: Stopped::default() }
}

#[test]
fn shares_are_the_vcpus_own() {
    let host = host();
    let vm = host.vm_with(&VmOptions { vcpus: 3, ..small("a") });
    let shares = || vm.vcpus.iter().map(|slot| slot.share.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let mut leaving = leaving(Arc::clone(&vm));
    leaving.throttle(&Shares::Each(Vec::from([100, 20, 100])));
    assert_eq!(shares(), [100, 20, 100]);
    leaving.throttle(&Shares::All(5));
    assert_eq!(shares(), [5; 3]);
    leaving.throttle(&Shares::All(100));
    assert_eq!(shares(), [100; 3]);
}

#[test]
fn a_page_is_copied_only_where_it_is_data() {
    let host = host();
    let vm = host.vm("a");
    let write = |gfn: u64, bytes: &[u8]| vm.memory.write(Gpa(gfn * PAGE_SIZE), bytes).expect("it is RAM");
    write(0x301, &[0xcc; PAGE_BYTES]);
    write(0x302, &[0xcc; PAGE_BYTES - 1]);
    let beyond = vm.memory.pages();
    let mut leaving = leaving(vm);
    let mut page = [0x11; PAGE_BYTES];
    assert_eq!(leaving.classify_page(0x300, &mut page), Ok(PageKind::Fill(0)));
    assert_eq!(leaving.classify_page(0x301, &mut page), Ok(PageKind::Fill(0xcccc_cccc_cccc_cccc)));
    assert_eq!(page, [0x11; PAGE_BYTES], "it was looked at where it lies");
    assert_eq!(leaving.classify_page(0x302, &mut page), Ok(PageKind::Data));
    assert_eq!((page[..2].to_vec(), page[PAGE_BYTES - 2..].to_vec()), ([0xcc; 2].into(), [0xcc, 0].into()));
    assert!(
        leaving.classify_page(beyond, &mut page).is_err()
            && leaving.classify_page(u64::MAX, &mut page).is_err()
    );
}
