//! Messages that wait for a local APIC whose vCPU runs elsewhere.

mod model;

use super::*;
use crate::config;
use crate::lapic::LocalApic;
use vm_types::Now;

const HZ: u64 = 20_000_000;

fn at(tsc: u64) -> Now {
    Now { tsc, hz: HZ }
}

/// Local APICs that take interrupts, with their bus.
fn machine(vcpus: u16) -> (ApicBus, Vec<LocalApic>) {
    let config = crate::PlatformConfig { vcpus, x2apic: true, tsc_deadline: true, ..config::for_tests() };
    let bus = ApicBus::new(vcpus);
    let mut apics: Vec<LocalApic> = (0..vcpus).map(|id| LocalApic::new(id, &config, &bus)).collect();
    for apic in &mut apics {
        apic.mmio_write(vm_types::Gpa(crate::LAPIC_BASE + 0xF0), 4, 0x1FF, at(0));
    }
    (bus, apics)
}

fn has_mail(bus: &ApicBus, id: usize) -> bool {
    bus.posted().of(id).expect("there is such a vCPU").has_mail()
}

fn fixed(dest: u32, vector: u8, level: bool) -> Message {
    Message { vector, delivery: Delivery::Fixed, logical: false, level, dest, from_io: true }
}

/// One by its id is not searched for: the answer is that of the search.
#[test]
fn a_message_for_an_id_is_for_that_apic_alone() {
    let (bus, apics) = machine(64);
    assert_eq!(apics.len(), 64);
    for dest in (0..0x200).chain([u32::MAX - 1, u32::MAX]) {
        let message = fixed(dest, 0x41, false);
        let matching = (0..64).filter(|id| bus.0.mailboxes[*id as usize].address().matches(*id, &message));
        assert_eq!(bus.targets(&message), VcpuSet(matching.map(|id| 1 << id).sum()), "{dest:#x}");
    }
    let all: Vec<usize> = bus.targets(&fixed(0xFF, 0x41, false)).iter().collect();
    assert_eq!(all, (0..64).collect::<Vec<_>>());
    assert_eq!(VcpuSet(0).iter().count(), 0);
}

#[test]
fn a_message_waits_until_the_vcpu_looks() {
    let (bus, mut apics) = machine(2);
    assert_eq!(bus.deliver(&fixed(1, 0x41, false)), VcpuSet(0b10));
    assert!(has_mail(&bus, 1) && !has_mail(&bus, 0));
    assert_eq!(apics[1].pending(), None, "it has not looked");
    apics[1].catch_up(at(1));
    assert_eq!(apics[1].pending(), Some(0x41));
    assert!(!has_mail(&bus, 1));
}

#[test]
fn messages_of_one_vector_merge_and_none_of_others_is_lost() {
    let (bus, mut apics) = machine(1);
    for vector in [0x31, 0x31, 0x90, 0xFE, 0x31] {
        bus.deliver(&fixed(0, vector, false));
    }
    apics[0].catch_up(at(1));
    for vector in [0xFE, 0x90, 0x31] {
        assert_eq!(apics[0].pending(), Some(vector));
        apics[0].accept(vector);
        apics[0].mmio_write(vm_types::Gpa(crate::LAPIC_BASE + 0xB0), 4, 0, at(1));
    }
    assert_eq!(apics[0].pending(), None);
}

#[test]
fn the_end_of_a_level_triggered_interrupt_is_told() {
    let (bus, mut apics) = machine(1);
    for (vector, level) in [(0x41, true), (0x42, false)] {
        bus.deliver(&fixed(0, vector, level));
        apics[0].catch_up(at(1));
        apics[0].accept(vector);
        let sent = apics[0].mmio_write(vm_types::Gpa(crate::LAPIC_BASE + 0xB0), 4, 0, at(1));
        assert_eq!(sent.eoi, level.then_some(vector));
    }
}

/// A CPU that takes what was posted does not touch TMR: nothing is posted that has to.
#[test]
fn what_changes_the_trigger_mode_is_left_to_the_vcpu() {
    let (bus, mut apics) = machine(1);
    let posted = |bus: &ApicBus| bus.0.mailboxes[0].posted.any();
    bus.deliver(&fixed(0, 0x41, true));
    bus.deliver(&fixed(0, 0x41, false));
    assert!(!posted(&bus) && has_mail(&bus, 0), "the edge comes after a level that was not looked at");
    apics[0].catch_up(at(1));
    bus.deliver(&fixed(0, 0x42, true));
    bus.deliver(&fixed(0, 0x41, false));
    assert!(posted(&bus), "it is edge-triggered again");
    apics[0].catch_up(at(1));
    bus.deliver(&fixed(0, 0x42, false));
    assert!(!posted(&bus), "its last one was level-triggered");
    apics[0].catch_up(at(1));
    apics[0].accept(0x42);
    assert_eq!(apics[0].eoi(), None);
    assert!(!has_mail(&bus, 0));
}

#[test]
fn an_apic_that_is_off_takes_no_message() {
    let (bus, mut apics) = machine(2);
    apics[1].mmio_write(vm_types::Gpa(crate::LAPIC_BASE + 0xF0), 4, 0xFF, at(0));
    bus.deliver(&fixed(1, 0x41, false));
    assert!(!has_mail(&bus, 1));
}

#[test]
fn lowest_priority_goes_to_who_is_least_busy() {
    let (bus, mut apics) = machine(3);
    apics[0].set_cr8(5);
    apics[1].set_cr8(2);
    apics[2].set_cr8(3);
    let message = Message { delivery: Delivery::LowestPriority, ..fixed(0xFF, 0x71, false) };
    assert_eq!(bus.deliver(&message), VcpuSet(0b010));
}

#[test]
fn init_leaves_another_vcpu_with_a_fresh_apic() {
    let (_, mut apics) = machine(2);
    apics[1].set_cr8(7);
    // INIT to all but itself.
    let sent = apics[0].mmio_write(vm_types::Gpa(crate::LAPIC_BASE + 0x300), 4, 0xC_C500, at(0));
    assert_eq!(sent.kicks, VcpuSet(0b10));
    apics[1].catch_up(at(1));
    assert_eq!(apics[1].cr8(), 0);
    assert_eq!(apics[1].take_init_sipi(), InitSipi { init: true, sipi: None });
}

/// The command register: INIT, a start-up IPI with this page, to all but the sender.
const INIT_OTHERS: u64 = 0xC_4500;
const SIPI_OTHERS: u64 = 0xC_4600;

fn send(apic: &mut LocalApic, icr: u64) -> VcpuSet {
    apic.mmio_write(vm_types::Gpa(crate::LAPIC_BASE + 0x300), 4, icr, at(0)).kicks
}

fn received(apic: &mut LocalApic) -> InitSipi {
    apic.catch_up(at(1));
    apic.take_init_sipi()
}

#[test]
fn start_up_ipis_reach_their_targets_and_the_first_one_counts() {
    let (_, mut apics) = machine(3);
    assert_eq!(send(&mut apics[0], INIT_OTHERS), VcpuSet(0b110));
    assert_eq!(send(&mut apics[0], SIPI_OTHERS | 0x9A), VcpuSet(0b110));
    assert_eq!(send(&mut apics[0], SIPI_OTHERS | 0x9B), VcpuSet(0b110), "as Linux sends it twice");
    for apic in &mut apics[1..] {
        assert_eq!(received(apic), InitSipi { init: true, sipi: Some(0x9A) });
        assert_eq!(received(apic), InitSipi::default(), "it is taken once");
    }
    assert_eq!(received(&mut apics[0]), InitSipi::default());
}

/// Whether the vCPU has looked in between or not.
#[test]
fn init_after_a_start_up_ipi_is_the_last_word() {
    for looks in [false, true] {
        let (_, mut apics) = machine(2);
        send(&mut apics[0], SIPI_OTHERS | 0x10);
        if looks {
            apics[1].catch_up(at(1));
        }
        send(&mut apics[0], INIT_OTHERS);
        assert_eq!(received(&mut apics[1]), InitSipi { init: true, sipi: None });
        send(&mut apics[0], SIPI_OTHERS | 0x11);
        assert_eq!(received(&mut apics[1]), InitSipi { init: false, sipi: Some(0x11) });
    }
}

#[test]
fn init_drops_the_messages_before_it_and_keeps_the_mode() {
    let (bus, mut apics) = machine(2);
    apics[1].msr_write(0x1B, crate::LAPIC_BASE | 0xC00, at(0)).unwrap();
    bus.deliver(&fixed(1, 0x41, false));
    bus.deliver(&Message { delivery: Delivery::Nmi, ..fixed(1, 0, false) });
    send(&mut apics[0], INIT_OTHERS);
    assert!(received(&mut apics[1]).init);
    assert!(!apics[1].take_nmi() && apics[1].pending().is_none());
    assert_eq!(apics[1].base() & 0xC00, 0xC00, "it is in x2APIC mode still");
}

#[test]
fn what_was_left_for_an_apic_is_not_for_the_next_one() {
    let (bus, _) = machine(1);
    bus.deliver(&fixed(0, 0x41, false));
    let config = crate::PlatformConfig { vcpus: 1, ..config::for_tests() };
    let mut renewed = LocalApic::new(0, &config, &bus);
    renewed.mmio_write(vm_types::Gpa(crate::LAPIC_BASE + 0xF0), 4, 0x1FF, at(0));
    assert_eq!(renewed.pending(), None);
}

/// Two threads leave messages while the vCPU takes them: each vector arrives.
#[test]
fn messages_from_several_threads_all_arrive() {
    extern crate std;
    let (bus, mut apics) = machine(1);
    let mut seen = [false; 256];
    std::thread::scope(|scope| {
        for half in 0..2_u8 {
            let bus = &bus;
            scope.spawn(move || {
                for vector in (16 + half..=254).step_by(2) {
                    bus.deliver(&fixed(0, vector, vector % 3 == 0));
                }
            });
        }
        let mut left = 239;
        while left > 0 {
            apics[0].catch_up(at(1));
            while let Some(vector) = apics[0].pending() {
                apics[0].accept(vector);
                let sent = apics[0].mmio_write(vm_types::Gpa(crate::LAPIC_BASE + 0xB0), 4, 0, at(1));
                assert_eq!(sent.eoi.is_some(), vector % 3 == 0, "vector {vector}");
                left -= usize::from(!core::mem::replace(&mut seen[usize::from(vector)], true));
            }
        }
    });
}
