//! What a migration reads of its VM.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use migrate::{PAGE_BYTES, PageKind, SourceVm};
use vm_types::{Gpa, GuestMemory, PAGE_SIZE};

use super::Leaving;
use crate::meter::Stopped;
use crate::testing::host;

#[test]
fn a_page_is_copied_only_where_it_is_data() {
    let host = host();
    let vm = host.vm("a");
    let write = |gfn: u64, bytes: &[u8]| vm.memory.write(Gpa(gfn * PAGE_SIZE), bytes).expect("it is RAM");
    write(0x301, &[0xcc; PAGE_BYTES]);
    write(0x302, &[0xcc; PAGE_BYTES - 1]);
    let beyond = vm.memory.pages();
    let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
    let marks = Stopped::default();
    let mut leaving = Leaving { vm, to, stopped: None, told: 0, files: Vec::new(), marks };
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
