//! CPUID: the rendered policy answers, not this host.

use cpu_policy::Dynamic;
use hw::arch::cpu;
use vmx_types::field;
use vmx_types::reason::ExitReason;

use super::{GP, RAX, RBX, RCX, RDX, START, in_user_mode};
use crate::testing::{Host, host};
use crate::vm::Vm;

fn cpuid(host: &Host, vm: &Vm, leaf: u32, subleaf: u32) -> [u32; 4] {
    let after = host.exit(vm, move |guest| {
        guest.gprs[RAX] = leaf.into();
        guest.gprs[RCX] = subleaf.into();
        guest.exits(ExitReason::Cpuid as u32, 2);
    });
    let gprs = after.back().gprs;
    [RAX, RBX, RCX, RDX].map(|at| {
        assert_eq!(gprs[at] >> 32, 0, "CPUID clears the upper halves");
        gprs[at] as u32
    })
}

#[test]
fn a_guest_of_an_older_level_is_told_of_that_cpu_and_not_of_this_one() {
    let host = host();
    let vm = host.running_at("a", "nehalem");
    let [signature, _, features, _] = cpuid(&host, &vm, 1, 0);
    let [real, _, real_features, _] = cpu::cpuid(1, 0);
    assert_eq!(signature & 0xf_fff0, 0x1_06a0, "a Nehalem");
    assert_ne!(signature, real);
    const AVX: u32 = 1 << 28;
    assert_eq!((features & AVX, real_features & AVX), (0, AVX));
}

#[test]
fn every_answer_is_that_of_the_rendered_policy() {
    let host = host();
    let vm = host.running_at("a", "haswell");
    let policy = vm.policy();
    let state = || Dynamic { apic_id: 0, cr4: 0, xcr0: 1 };
    for leaf in (0..0x20).chain(0x4000_0000..0x4000_0003).chain(0x8000_0000..0x8000_000a).chain([u32::MAX]) {
        for subleaf in [0, 1, 2, 7, 0xffff_ffff] {
            let answer = cpuid(&host, &vm, leaf, subleaf);
            assert_eq!(answer, policy.cpuid(leaf, subleaf, state), "leaf {leaf:#x}.{subleaf:#x}");
        }
    }
}

#[test]
fn what_cr4_turns_on_shows_in_cpuid() {
    const OSXSAVE: u32 = 1 << 27;
    const CR4_OSXSAVE: u64 = 1 << 18;
    let host = host();
    let vm = host.running_at("a", "haswell");
    assert_eq!(cpuid(&host, &vm, 1, 0)[2] & OSXSAVE, 0);
    host.exit(&vm, |guest| {
        guest.gprs[RBX] = CR4_OSXSAVE;
        guest.set(field::EXIT_QUALIFICATION, 4 | (RBX as u64) << 8);
        guest.exits(ExitReason::CrAccess as u32, 3);
    });
    assert_eq!(cpuid(&host, &vm, 1, 0)[2] & OSXSAVE, OSXSAVE);
}

#[test]
fn cpuid_faulting_is_for_user_mode_alone_and_ends_when_it_is_turned_off() {
    const MISC_FEATURES_ENABLES: u64 = 0x140;
    let host = host();
    let vm = host.running("a");
    let turn = |on: u64| {
        let after = host.exit(&vm, move |guest| {
            guest.gprs[RCX] = MISC_FEATURES_ENABLES;
            (guest.gprs[RAX], guest.gprs[RDX]) = (on, 0);
            guest.exits(ExitReason::Wrmsr as u32, 2);
        });
        assert!(after.injected.is_empty(), "this level has CPUID faulting");
    };
    let user = || {
        let after = host.exit(&vm, |guest| {
            in_user_mode(guest);
            guest.exits(ExitReason::Cpuid as u32, 2);
        });
        host.exit(&vm, |guest| {
            let rights = guest.read(field::GUEST_SS_ACCESS_RIGHTS);
            guest.set(field::GUEST_SS_ACCESS_RIGHTS, rights & !(3 << 5));
            guest.set(field::GUEST_RIP, START);
            guest.exits(ExitReason::ExternalInterrupt as u32, 0);
        });
        after.injected
    };
    assert!(user().is_empty());
    turn(1);
    assert_eq!(user(), [GP]);
    cpuid(&host, &vm, 0, 0);
    turn(0);
    assert!(user().is_empty());
}
