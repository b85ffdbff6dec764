//! EPT to one vCPU: the CPU does what there is to do, but for violations. By the enum, as the hypervisor has it.

mod model;

use model::host::{FEATURES, NO_FLAGS};
use model::{Memory, Unseen, WRITE};
use std::sync::atomic::Ordering;
use translation::{
    Admitted, Backing, Cause, Change, DirtyMethod, Ept, Eptp, Fault, GuestPaging, HwPaging, Invalid, Kept,
    Permission, Step, Translation, View,
};
use vm_types::{Backlog, Gpa, Hpa, PageSet};
use vmx_types::paging::{CR0_PE, CR0_PG, CR4_PAE, ControlRegs, EFER_LMA, EFER_LME};
use vmx_types::qualification::EptViolation;

const RAM: u64 = 0x4000_0000;
const LEN: u64 = 4 << 20;
/// A write, a read and a fetch of a page that has the other permissions (SDM table 27-7).
const WRITES: u64 = 1 << 1 | 1 << 3 | 1 << 5 | 3 << 7;
const READS: u64 = 1;
const FETCHES: u64 = 1 << 2 | 3 << 3 | 3 << 7;

type Of<'m> = Translation<'m, &'m Memory>;

fn mapped(memory: &Memory, features: translation::Features) -> Of<'_> {
    let mut tables = Translation::Ept(Ept::new(memory, features).unwrap());
    tables.map(Gpa(0), Hpa(RAM), LEN).unwrap();
    tables
}

fn fault(tables: &mut Of<'_>, vcpu: u32, access: u64, gpa: u64, logged: &PageSet) -> Fault {
    tables.view(vcpu).fault(Cause::violation(EptViolation::decode(access, gpa)), &Unseen, logged).unwrap()
}

#[test]
fn whatever_its_control_registers_a_vcpu_has_the_pointer_and_no_exit() {
    let memory = Memory::new(8);
    let mut tables = mapped(&memory, FEATURES);
    let Some(Eptp(pointer)) = tables.cached() else { panic!("CPUs keep what they read of EPT") };
    // write-back, four levels, accessed and dirty flags (SDM 24.6.11)
    assert_eq!(pointer & 0xfff, 6 | 3 << 3 | 1 << 6);
    let long = ControlRegs { cr0: CR0_PE | CR0_PG, cr3: 0x1000, cr4: CR4_PAE, efer: EFER_LME | EFER_LMA };
    for regs in [ControlRegs::default(), ControlRegs { efer: 0, ..long }, long] {
        for (vcpu, pdptes) in [(0, None), (1, Some([0x2001, 0, 0, 0]))] {
            let paging = tables.view(vcpu).activate(&GuestPaging { regs, pdptes, phys_bits: 36 });
            assert_eq!(paging, HwPaging::Nested(Eptp(pointer)), "{regs:x?}");
        }
    }
    const { assert!(!Ept::<'_, &Memory>::FOLLOWS_PAGING, "nobody need ask it") };
}

#[test]
fn what_a_guest_invalidates_is_the_cpus_to_drop() {
    let memory = Memory::new(8);
    let mut tables = mapped(&memory, FEATURES);
    let all = |memory: &Memory| -> Vec<u64> {
        let entries = (1..=8).flat_map(|page| (0..512).map(move |index| (page, index)));
        entries
            .map(|(page, index)| memory.entry(page << 12, index).unwrap().load(Ordering::Relaxed))
            .collect()
    };
    let before = all(&memory);
    assert!(before.iter().any(|entry| entry & WRITE != 0));
    for what in [Invalid::Page(0x1000), Invalid::All] {
        tables.view(0).invalidate(what);
    }
    assert_eq!(all(&memory), before);
}

#[test]
fn a_violation_says_where_it_was() {
    let memory = Memory::new(8);
    let mut tables = mapped(&memory, FEATURES);
    let logged = PageSet::new(LEN >> 12);
    let device = 0xfee0_0030;
    assert_eq!(fault(&mut tables, 0, READS, device, &logged), Fault::Unmapped(Gpa(device)));
    assert_eq!(fault(&mut tables, 0, FETCHES, 0x3123, &logged), Fault::Resolved, "a large page is split");
    change(&mut tables, Change::Audit, &logged);
    assert_eq!(fault(&mut tables, 0, FETCHES, 0x3123, &logged), Fault::FirstFetch(Gpa(0x3123)));
    assert_eq!(
        tables.keep(Gpa(0x3000), Permission::Execute),
        Ok(Some(Kept { executed: false, already: false }))
    );
    tables.admit(Gpa(0x3000), Admitted::Code, &logged);
    assert_eq!(fault(&mut tables, 0, WRITES, 0x3456, &logged), Fault::CodeWrite(Gpa(0x3456)));
    assert_eq!(logged.count(), 0);
}

fn change(tables: &mut Of<'_>, change: Change, logged: &PageSet) {
    let backlog = Backlog::new(LEN >> 12);
    tables.begin(change);
    loop {
        match tables.step(logged, &backlog) {
            Step::Ask(_) => tables.answered(),
            Step::Done(done, result) => return assert_eq!((done, result.is_ok()), (change, true)),
            Step::Working | Step::Wait(_) | Step::Idle => {}
        }
    }
}

/// What one vCPU resolves is resolved for the other: they have one set of tables.
#[test]
fn vcpus_share_the_tables() {
    let memory = Memory::new(8);
    let mut tables = mapped(&memory, NO_FLAGS);
    let logged = PageSet::new(LEN >> 12);
    change(&mut tables, Change::Track(DirtyMethod::WriteProtect), &logged);
    assert_eq!(fault(&mut tables, 1, WRITES, 0x5000, &logged), Fault::Resolved);
    assert!(logged.contains(5) && logged.count() == 1);
    assert!(!tables.first_write(0x5000, &logged), "it is writable for vCPU 0 as well");
    assert!(tables.first_write(0x6000, &logged) && logged.contains(6));
}

/// A page that is the hypervisor's is there for reads and writes, is nobody's code, and is left alone by all changes,
/// though memory lies above it.
#[test]
fn a_device_page_is_no_memory() {
    const PAGE: u64 = 0xfee0_0000;
    const DEVICE: u64 = 0xd_ead0_9000;
    let memory = Memory::new(32);
    let free = memory.free_pages();
    let mut tables = mapped(&memory, FEATURES);
    tables.map(Gpa(1 << 32), Hpa(RAM + LEN), 2 << 20).unwrap();
    let logged = PageSet::new((1 << 20) + 512);
    tables.map_device(Gpa(PAGE), Hpa(DEVICE)).unwrap();
    let entry = |memory: &Memory| {
        let entries =
            (1..=32).flat_map(|page| (0..512).filter_map(move |index| memory.entry(page << 12, index)));
        let found: Vec<u64> = entries
            .map(|entry| entry.load(Ordering::Relaxed))
            .filter(|value| value & 0xf_ffff_f000 == DEVICE)
            .collect();
        found
    };
    let as_made = entry(&memory);
    assert_eq!(as_made.len(), 1);
    // Readable, writable, not executable; accessed and dirty, so that the CPU neither writes to it nor logs it.
    assert_eq!(as_made[0] & 0x307, 0x303);
    for method in [DirtyMethod::WriteProtect, DirtyMethod::AccessDirty, DirtyMethod::Pml] {
        change(&mut tables, Change::Track(method), &logged);
        assert_eq!(entry(&memory), as_made, "{method:?}");
        assert!(!tables.first_write(PAGE + 0xb0, &logged));
        change(&mut tables, Change::Audit, &logged);
        change(&mut tables, Change::EndAudit, &logged);
        change(&mut tables, Change::Untrack, &logged);
        assert_eq!(entry(&memory), as_made, "{method:?}");
    }
    assert_eq!(fault(&mut tables, 0, FETCHES, PAGE, &logged), Fault::Unmapped(Gpa(PAGE)));
    assert_eq!(tables.translate(Gpa(PAGE)), Some(Hpa(DEVICE)));
    assert!(tables.unmap_device(Gpa(PAGE)) && !tables.unmap_device(Gpa(PAGE)));
    assert!(!tables.unmap_device(Gpa(0x1000)), "memory is not taken away");
    assert_eq!((tables.translate(Gpa(PAGE)), logged.count()), (None, 0));
    tables.map_device(Gpa(PAGE), Hpa(DEVICE)).unwrap();
    drop(tables);
    assert_eq!(memory.free_pages(), free);
}
