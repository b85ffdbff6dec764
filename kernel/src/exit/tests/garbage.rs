//! Whatever a guest has in its registers, and whatever an exit says of it: there is an answer, and the host goes on.

use hw::mock::Guest;
use vm_types::{Gpa, GuestMemory};
use vmx_types::field::{self, Segment};
use vmx_types::reason::ExitReason;

use crate::run::Outcome;
use crate::testing::host;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_of(&mut self, of: &[u64]) -> u64 {
        of[self.below(of.len() as u64) as usize]
    }

    /// A value as guests have it: any, small, near an end, an address in RAM or of a device, a few bits.
    fn value(&mut self) -> u64 {
        let any = self.next();
        match self.below(8) {
            0 => any,
            1 => any & 0xff,
            2 => any.wrapping_neg() & 0xffff | !0xffff,
            3 => any & 0x3f_ffff,
            4 => 0xfec0_0000 + (any & 0x3f_ffff),
            5 => 1 << (any & 63),
            6 => self.one_of(&[0, u64::MAX, 1 << 63, 1 << 47, (1 << 47) - 1, 1 << 32, u64::from(u32::MAX)]),
            _ => any & self.next() & self.next(),
        }
    }
}

/// Fields of an exit, and those that the guest itself has in its hands.
fn scramble(guest: &mut Guest<'_>, random: &mut Random) {
    for gpr in guest.gprs.iter_mut() {
        if random.below(3) == 0 {
            *gpr = random.value();
        }
    }
    for natural in [field::GUEST_RIP, field::GUEST_RSP, field::GUEST_RFLAGS, field::GUEST_PENDING_DEBUG] {
        if random.below(4) == 0 {
            guest.set(natural, random.value());
        }
    }
    let segment = Segment::ALL[random.below(8) as usize];
    guest.set(segment.base(), random.value());
    guest.set(segment.limit(), random.value() & 0xffff_ffff);
    guest.set(segment.access_rights(), random.next() & 0x1_f0ff);
    guest.set(segment.selector(), random.next() & 0xffff);
    guest.set(field::GUEST_CR4, random.value());
    guest.set(field::GUEST_INTERRUPTIBILITY, random.below(16));
    guest.set(field::EXIT_QUALIFICATION, random.value());
    guest.set(field::GUEST_PHYSICAL_ADDRESS, random.value());
    guest.set(field::GUEST_LINEAR_ADDRESS, random.value());
    guest.set(field::EXIT_INTERRUPTION_INFO, random.next() & 0xffff_ffff | random.below(2) << 31);
    guest.set(field::EXIT_INTERRUPTION_ERROR_CODE, random.value() & 0xffff_ffff);
    guest.set(field::IDT_VECTORING_ERROR_CODE, random.value() & 0xffff_ffff);
    if random.below(4) == 0 {
        guest.set(field::IDT_VECTORING_INFO, random.next() & 0xffff_ffff | 1 << 31);
    }
}

/// Exits of the kind `reason` picks, with all around them at random.
fn run(seed: u64, exits: u64, reason: impl Fn(&mut Random) -> u64) {
    let host = host();
    let (vm, other) = (host.running("a"), host.running("b"));
    let start = host.vcpu_state(&vm);
    let mut random = Random(seed);
    for number in 0..exits {
        if number % 64 == 0 {
            // Away from where it has come to.
            let slot = &mut vm.vcpus[0].vcpu.lock();
            slot.release(&vm);
            slot.import(&vm, &start).expect("a state that was exported");
        }
        let code: [u8; 16] = core::array::from_fn(|_| random.next() as u8);
        vm.memory.write(Gpa(0x10_0020), &code).unwrap();
        let (why, mut around) = (reason(&mut random) as u32, Random(random.next()));
        host.guest_does(move |guest| {
            scramble(guest, &mut around);
            if why as u16 == ExitReason::Io as u16 {
                // The CPU knows three sizes.
                let qualification = guest.read(field::EXIT_QUALIFICATION) & !7;
                guest.set(field::EXIT_QUALIFICATION, qualification | around.one_of(&[0, 1, 3]));
            }
            guest.exits(why, around.next() & 0xffff_ffff);
        });
        host.run(&vm);
        host.guest_does_nothing_more();
    }
    assert!(vm.exits() >= exits / 2, "exits were handled");
    assert!(matches!(host.run(&other), Outcome::Yield), "the other VM goes on");
    assert!(host.written_to_ports().is_empty(), "no guest reaches the host's ports");
}

#[test]
fn any_exit_with_anything_around_it_has_an_answer() {
    run(0x5eed, 6000, |random| random.below(84) | ((random.below(8) / 7) << 31));
}

#[test]
fn any_access_to_what_is_no_memory_has_an_answer() {
    run(0xacce, 6000, |_| ExitReason::EptViolation as u64);
}

#[test]
fn any_task_switch_has_an_answer() {
    run(0x7a5c, 3000, |_| ExitReason::TaskSwitch as u64);
}

#[test]
fn any_port_and_any_control_register_has_an_answer() {
    let reasons = [ExitReason::Io, ExitReason::CrAccess, ExitReason::Xsetbv].map(|reason| reason as u64);
    run(0x1010, 6000, move |random| random.one_of(&reasons));
}

#[test]
fn any_value_in_any_msr_of_the_policy_has_an_answer() {
    let host = host();
    let vm = host.running("a");
    let mut random = Random(0x3513);
    let known: alloc::vec::Vec<u64> = cpu_policy::RULES
        .iter()
        .flat_map(|rule| rule.first..rule.first + rule.count)
        .map(u64::from)
        .collect();
    for _ in 0..6000 {
        let (index, value) = (random.one_of(&known), random.value());
        let reason = if random.below(3) == 0 { ExitReason::Rdmsr } else { ExitReason::Wrmsr };
        host.guest_does(move |guest| {
            guest.gprs[1] = index;
            (guest.gprs[0], guest.gprs[2]) = (value, value >> 32);
            guest.exits(reason as u32, 2);
        });
        assert!(!matches!(host.run(&vm), Outcome::Stopped(_)), "an MSR ends no VM: {index:#x}, {value:#x}");
        host.guest_does_nothing_more();
    }
}
