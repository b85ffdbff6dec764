//! Memory of tables, EPT pointers and VPIDs are used again: what a CPU keeps of whoever had them leads nowhere.

mod model;

use model::cpu::Access;
use model::host::{FEATURES, Flaw, Host, NO_FLAGS, Vm};
use model::{Memory, VICTIM};
use translation::{Backing, Change, DirtyMethod, Step, Tracked};

const MIB: u64 = 1 << 20;
/// Where the RAM of the two VMs is.
const OF_A: u64 = 0x4000_0000;
const OF_B: u64 = 0x8000_0000;

/// The guest uses a few pages in all ways.
fn runs(vm: &Vm<'_>, cpu: usize) {
    vm.load(cpu);
    for gpa in [0, 4096, 2 * MIB, 3 * MIB] {
        for access in [Access::Fetch, Access::Read, Access::Write] {
            vm.reaches(cpu, gpa, access);
        }
    }
}

/// VM B gets the root page, and the VPID, that VM A had: whether a CPU that ran A stays inside B's memory.
fn second_vm_is_kept_apart(flaw: Flaw, cpu: usize) -> bool {
    let host = Host::new(16, 2, flaw);
    let first = Vm::new(&host, FEATURES, OF_A, 4 * MIB, 1);
    runs(&first, 0);
    runs(&first, 1);
    let tags = first.tags();
    drop(first);
    let second = Vm::new(&host, FEATURES, OF_B, 4 * MIB, 1);
    assert_eq!(second.tags(), tags, "the allocator gives the same root again at once");
    second.load(1 - cpu);
    second.load(cpu);
    [0, 4096, 2 * MIB, 3 * MIB].into_iter().all(|gpa| second.stays_inside(cpu, gpa))
}

/// Fault 2.1.
#[test]
fn a_new_vm_is_kept_apart_from_the_one_that_had_its_root() {
    assert!(second_vm_is_kept_apart(Flaw::None, 0));
    assert!(second_vm_is_kept_apart(Flaw::None, 1));
}

#[test]
fn the_model_finds_out_that_a_new_root_is_not_flushed() {
    assert!(!second_vm_is_kept_apart(Flaw::NoFlushOfNewRoot, 0));
    // INVVPID alone leaves guest-physical mappings, INVEPT takes combined ones as well.
    assert!(second_vm_is_kept_apart(Flaw::NoFlushOfVpid, 0));
}

/// Tables are used for something else after a CPU has dropped them, not before.
fn retired_tables_are_not_walked(change: impl Fn(&Vm<'_>)) -> bool {
    let host = Host::new(16, 1, Flaw::None);
    let vm = Vm::new(&host, FEATURES, OF_A, 4 * MIB, 1);
    let before = host.memory.free_pages();
    vm.track(DirtyMethod::AccessDirty);
    vm.load(0);
    for gpa in [0, 2 * MIB] {
        vm.reaches(0, gpa, Access::Write);
    }
    change(&vm);
    assert_eq!(host.memory.free_pages(), before, "all tables are given back");
    [0, 4096, 2 * MIB].into_iter().all(|gpa| vm.stays_inside(0, gpa))
}

#[test]
fn retired_tables_are_flushed_before_they_are_given_back() {
    assert!(retired_tables_are_not_walked(|vm| assert_eq!(vm.change(Change::Untrack), 2)));
}

#[test]
fn the_model_finds_out_that_tables_are_given_back_too_early() {
    assert!(!retired_tables_are_not_walked(|vm| {
        loop {
            let step = vm.with(|mmu| {
                mmu.begin(Change::Untrack);
                mmu.step(vm.logged(), vm.backlog())
            });
            match step {
                Step::Ask(_) => vm.with(|mmu| mmu.answered()),
                Step::Done(..) => break,
                Step::Working | Step::Wait(_) | Step::Idle => {}
            }
        }
    }));
}

/// The end of the audit gives tables back too, not only the next start of tracking.
#[test]
fn tables_of_the_audit_are_given_back() {
    let host = Host::new(16, 1, Flaw::None);
    let vm = Vm::new(&host, FEATURES, OF_A, 4 * MIB, 1);
    let before = host.memory.free_pages();
    vm.change(Change::Audit);
    vm.track(DirtyMethod::Pml);
    vm.load(0);
    vm.reaches(0, 0, Access::Write);
    assert_eq!(vm.change(Change::Untrack), 0, "the audit needs them small");
    assert_eq!(vm.change(Change::EndAudit), 2);
    assert_eq!(host.memory.free_pages(), before);
    assert!(vm.stays_inside(0, 0));
}

/// Without memory for all tables nothing is tracked, and nothing is lost.
#[test]
fn tracking_without_memory_leaves_all_as_it_was() {
    for pages in [4, 5] {
        let host = Host::new(pages, 1, Flaw::None);
        let vm = Vm::new(&host, NO_FLAGS, OF_A, 6 * MIB, 1);
        vm.load(0);
        let before = host.memory.free_pages();
        assert!(before < 3);
        let refused = translation::finish(&vm, Change::Track(DirtyMethod::WriteProtect));
        assert_eq!(refused, Err(translation::OutOfMemory));
        assert_eq!(host.memory.free_pages(), before);
        assert_eq!(vm.reaches(0, 4096, Access::Write), [OF_A + 4096].into());
    }
}

/// All memory comes back with the tables, wherever a change stands.
#[test]
fn tables_are_freed_in_the_middle_of_a_change() {
    let host = Host::new(2000, 1, Flaw::None);
    let before = host.memory.free_pages();
    for steps in 0..40 {
        let vm = Vm::new(&host, FEATURES, OF_A, 64 * MIB, 1);
        for step in 0..steps {
            let change = if step < 15 { Change::Track(DirtyMethod::Pml) } else { Change::Untrack };
            let _ = translation::poll(&vm, change);
        }
        drop(vm);
        assert_eq!(host.memory.free_pages(), before, "after {steps} steps");
    }
}

/// A guest that maps another page while its vCPU is elsewhere, and comes back to a CPU that knows the old one.
fn guest_sees_its_own_mapping(flaw: Flaw) -> bool {
    const LINEAR: u64 = 0x7000;
    let host = Host::new(16, 2, flaw);
    let vm = Vm::new(&host, FEATURES, OF_A, 4 * MIB, 1);
    vm.load(0);
    vm.may_reach(0, LINEAR, 0, Access::Read);
    vm.load(1);
    host.cpus[1].guest_flushes(vm.tags());
    vm.may_reach(1, LINEAR, 4096, Access::Read);
    vm.load(0);
    vm.may_reach(0, LINEAR, 4096, Access::Read) == [OF_A + 4096].into()
}

/// Fault 2.4, its sister: INVVPID wherever a vCPU comes to another CPU.
#[test]
fn a_vcpu_that_comes_back_to_a_cpu_sees_its_own_mappings() {
    assert!(guest_sees_its_own_mapping(Flaw::None));
    assert!(!guest_sees_its_own_mapping(Flaw::NoFlushOfVpid));
}

/// Large pages that are not executable are split under a running guest: what it keeps of the large one does no harm.
#[test]
fn a_split_under_a_live_mapping_changes_no_address() {
    let host = Host::new(16, 1, Flaw::None);
    let vm = Vm::new(&host, FEATURES, OF_A, 4 * MIB, 1);
    vm.load(0);
    vm.reaches(0, 4096, Access::Write);
    assert!(vm.reaches(0, 4096, Access::Fetch).is_empty());
    let violation = vmx_types::qualification::EptViolation::decode(1 << 2 | 3 << 3, 4096);
    assert_eq!(vm.fault(violation), Ok(translation::Fault::Resolved));
    assert_eq!(vm.reaches(0, 4096, Access::Fetch), [OF_A + 4096].into());
    assert!(vm.stays_inside(0, 4096) && vm.stays_inside(0, MIB));
}

/// The model is hard on whoever uses a page that was given back.
#[test]
fn a_page_that_is_given_back_is_somebody_elses() {
    use translation::Frames;
    let memory = Memory::new(1);
    let page = (&memory).alloc().unwrap();
    (&memory).free(page);
    let entry = memory.entry(page.0, 7).unwrap();
    assert_eq!(entry.load(std::sync::atomic::Ordering::Relaxed) & model::ADDRESS, VICTIM);
}
