//! The run loop, with guests that do what a test says.

mod apicv;
mod events;
mod ipis;
mod posted;
mod start;
mod turns;

use vmx_types::field;

use super::Outcome;
use crate::guest::StopReason;
use crate::testing::host;

/// Basic exit reasons (SDM appendix C).
const EXTERNAL_INTERRUPT: u32 = 1;
const TRIPLE_FAULT: u32 = 2;
const CPUID: u32 = 10;
const HLT: u32 = 12;

#[test]
fn a_guest_runs_until_its_time_is_over() {
    let host = host();
    let vm = host.running("a");
    assert!(matches!(host.run(&vm), Outcome::Yield));
    assert!(vm.exits() > 0);
}

#[test]
fn rip_moves_past_an_instruction_that_is_carried_out() {
    let host = host();
    let vm = host.running("a");
    host.guest_does(|guest| {
        assert_eq!(guest.read(field::GUEST_RIP), 0x10_0020);
        guest.gprs[0] = 0;
        guest.exits(CPUID, 2);
    });
    host.guest_does(|guest| {
        assert_eq!(guest.read(field::GUEST_RIP), 0x10_0022);
        guest.exits(EXTERNAL_INTERRUPT, 0);
    });
    assert!(matches!(host.run(&vm), Outcome::Yield));
    assert_eq!(host.left_to_do(), 0);
}

#[test]
fn a_halted_guest_gives_its_cpu_back() {
    let host = host();
    let vm = host.running("a");
    host.guest_does(|guest| guest.exits(HLT, 1));
    assert!(matches!(host.run(&vm), Outcome::Halted(_)));
    assert!(host.vcpu_state(&vm).halted);
}

#[test]
fn a_triple_fault_is_the_end_of_that_vm() {
    let host = host();
    let vm = host.running("a");
    host.guest_does(|guest| guest.exits(TRIPLE_FAULT, 0));
    assert!(matches!(host.run(&vm), Outcome::Stopped(StopReason::TripleFault)));
}
