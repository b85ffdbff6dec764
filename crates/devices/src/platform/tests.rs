use super::*;
use crate::whole::Whole;
use crate::{Effect, IOAPIC_BASE, InitSipi, LAPIC_BASE};
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use vm_types::{Gpa, StateRecord};

const HZ: u64 = 20_000_000;

fn config(vcpus: u16) -> PlatformConfig {
    PlatformConfig {
        vcpus,
        debug_exit: false,
        rtc_base_unix_secs: 1_795_375_858,
        low_ram: 256 << 20,
        high_ram: 0,
        x2apic: true,
        tsc_deadline: true,
        pci: false,
        rng: false,
    }
}

fn at(tsc: u64) -> Now {
    Now { tsc, hz: HZ }
}

fn outb(p: &mut Whole, port: u16, value: u8, now: Now) -> Option<Effect> {
    p.io_write(port, 1, value.into(), now)
}

fn lapic_write(p: &mut Whole, vcpu: usize, offset: u64, value: u32, now: Now) -> Option<Effect> {
    p.mmio_write(vcpu, Gpa(LAPIC_BASE + offset), 4, value.into(), now)
}

fn route(p: &mut Whole, pin: u64, low: u32, dest: u32) {
    for (half, value) in [(1, dest << 24), (0, low)] {
        p.mmio_write(0, Gpa(IOAPIC_BASE), 4, 0x10 + 2 * pin + half, at(0));
        p.mmio_write(0, Gpa(IOAPIC_BASE + 0x10), 4, value.into(), at(0));
    }
}

/// Vectors 0x20 and 0x28, everything but `open` masked.
fn init_pic(p: &mut Whole, open: u16) {
    for (port, value) in [
        (0x20, 0x11),
        (0xA0, 0x11),
        (0x21, 0x20),
        (0xA1, 0x28),
        (0x21, 4),
        (0xA1, 2),
        (0x21, 1),
        (0xA1, 1),
        (0x21, !open as u8),
        (0xA1, (!open >> 8) as u8),
    ] {
        outb(p, port, value, at(0));
    }
}

fn start_pit(p: &mut Whole, count: u16, now: Now) {
    outb(p, 0x43, 0x34, now);
    outb(p, 0x40, count as u8, now);
    outb(p, 0x40, (count >> 8) as u8, now);
}

#[test]
fn pit_reaches_a_guest_without_apic_by_the_virtual_wire() {
    let mut p = Whole::new(&config(2));
    init_pic(&mut p, 1);
    start_pit(&mut p, 11_932, at(0));
    let tick = p.next_event().unwrap();
    assert_eq!(tick, (11_932 * HZ).div_ceil(crate::PIT_HZ));
    p.advance(at(tick - 1));
    assert_eq!(p.pending_interrupt(0), None);
    p.advance(at(tick));
    assert!(p.irq_dirty(0));
    assert_eq!((p.pending_interrupt(0), p.pending_interrupt(1)), (Some(0x20), None));
    p.accept(0, 0x20);
    assert_eq!(p.pending_interrupt(0), None);
    let second = p.next_event().unwrap();
    p.advance(at(second));
    assert_eq!(p.pending_interrupt(0), None, "still in service");
    outb(&mut p, 0x20, 0x20, at(second));
    assert_eq!(p.pending_interrupt(0), Some(0x20));
}

#[test]
fn pit_reaches_pin_2_of_the_io_apic() {
    let mut p = Whole::new(&config(1));
    lapic_write(&mut p, 0, 0xF0, 0x1FF, at(0));
    lapic_write(&mut p, 0, 0x350, 0x1_0700, at(0));
    route(&mut p, 2, 0x30, 0);
    start_pit(&mut p, 1000, at(0));
    let tick = p.next_event().unwrap();
    p.advance(at(tick));
    assert_eq!(p.pending_interrupt(0), Some(0x30));
    p.accept(0, 0x30);
    lapic_write(&mut p, 0, 0xB0, 0, at(tick));
    assert_eq!(p.pending_interrupt(0), None);
    let tick = p.next_event().unwrap();
    p.advance(at(tick));
    assert_eq!(p.pending_interrupt(0), Some(0x30));
}

#[test]
fn pin_0_passes_the_pic_on() {
    let mut p = Whole::new(&config(1));
    lapic_write(&mut p, 0, 0x350, 0x1_0700, at(0));
    init_pic(&mut p, 1);
    start_pit(&mut p, 1000, at(0));
    let tick = p.next_event().unwrap();
    p.advance(at(tick));
    assert_eq!(p.pending_interrupt(0), None, "LINT0 is masked");
    route(&mut p, 0, 0x700, 0);
    assert!(p.irq_dirty(0));
    assert_eq!(p.pending_interrupt(0), Some(0x20));
}

#[test]
fn uart_interrupts_through_pin_4_of_the_io_apic() {
    let mut p = Whole::new(&config(1));
    route(&mut p, 4, 0x34, 0);
    outb(&mut p, 0x3F9, 0x02, at(0));
    assert_eq!(p.pending_interrupt(0), Some(0x34), "THRE as soon as it is enabled");
    p.accept(0, 0x34);
    assert_eq!(p.io_read(0x3FA, 1, at(1)) & 0x0F, 2);
    outb(&mut p, 0x3F8, b'A', at(2));
    let mut out = [0; 8];
    assert_eq!((p.uart_output(&mut out), out[0]), (1, b'A'));
}

#[test]
fn a_level_interrupt_comes_again_after_eoi() {
    let mut p = Whole::new(&config(1));
    route(&mut p, 9, 0x8039, 0);
    p.io_write(0x602, 2, 0x100, at(0));
    p.press_power_button();
    for _ in 0..2 {
        assert_eq!(p.pending_interrupt(0), Some(0x39));
        p.accept(0, 0x39);
        assert_eq!(p.pending_interrupt(0), None);
        lapic_write(&mut p, 0, 0xB0, 0, at(1));
    }
    assert_eq!(p.pending_interrupt(0), Some(0x39));
    p.accept(0, 0x39);
    p.io_write(0x600, 2, 0x100, at(2));
    lapic_write(&mut p, 0, 0xB0, 0, at(3));
    assert_eq!(p.pending_interrupt(0), None, "the cause is gone");
}

#[test]
fn pit_counts_down_for_a_calibration_by_channel_2() {
    // As Linux does it: gate on, mode 0, 50 ms, poll OUT2 at 500 guest ticks an access.
    let mut p = Whole::new(&config(1));
    let mut tsc = 1_000_000;
    let mut step = || {
        tsc += 500;
        at(tsc)
    };
    outb(&mut p, 0x61, 1, step());
    outb(&mut p, 0x43, 0xB0, step());
    let latch = (crate::PIT_HZ / 20) as u16;
    outb(&mut p, 0x42, latch as u8, step());
    let begin = step();
    outb(&mut p, 0x42, (latch >> 8) as u8, begin);
    let mut polls = 0;
    let end = loop {
        let now = step();
        polls += 1;
        if p.io_read(0x61, 1, now) & 0x20 != 0 {
            break now;
        }
    };
    assert!(polls > 1900);
    let ticks = end.tsc - begin.tsc;
    assert!((HZ / 20 - 500..=HZ / 20 + 1000).contains(&ticks), "{ticks}");
    assert_eq!(p.next_event(), None, "channel 2 interrupts nobody");
}

#[test]
fn effects_of_the_reset_and_power_ports() {
    let mut p = Whole::new(&config(1));
    assert_eq!(outb(&mut p, 0xCF9, 0x02, at(0)), None);
    assert_eq!(outb(&mut p, 0xCF9, 0x06, at(0)), Some(Effect::Reset));
    assert_eq!(outb(&mut p, 0x64, 0xFE, at(0)), Some(Effect::Reset));
    assert_eq!(outb(&mut p, 0x92, 0x03, at(0)), Some(Effect::Reset));
    assert_eq!(p.io_write(0x604, 2, 0x3400, at(0)), Some(Effect::PowerOff));
    assert_eq!(p.io_write(0x604, 2, 0x2400, at(0)), None, "S1 is not there");
    assert_eq!(outb(&mut p, 0xF4, 3, at(0)), None, "not enabled");
    assert_eq!(outb(&mut p, 0x80, 3, at(0)), None);
    let mut p = Whole::new(&PlatformConfig { debug_exit: true, ..config(1) });
    assert_eq!(outb(&mut p, 0xF4, 3, at(0)), Some(Effect::DebugExit(3)));
}

#[test]
fn unclaimed_ports_and_addresses_read_ones() {
    let mut p = Whole::new(&config(1));
    for (size, ones) in [(1, 0xFF), (2, 0xFFFF), (4, 0xFFFF_FFFF)] {
        for port in [0x1F0, 0x2F8, 0xCFC, 0xFFFF, 0x402] {
            assert_eq!(p.io_read(port, size, at(0)), ones, "port {port:#x}");
        }
    }
    p.io_write(0xCF8, 4, 0x8000_0000, at(0));
    assert_eq!(p.io_read(0xCF8, 4, at(0)), 0x8000_0000);
    assert_eq!(p.mmio_read(0, Gpa(0xFED0_0000), 8, at(0)), u64::MAX);
    assert_eq!(p.mmio_read(0, Gpa(LAPIC_BASE + 0x30), 4, at(0)), 0x0005_0014);
    p.msr_write(0, 0x1B, LAPIC_BASE | 0x100, at(0)).unwrap();
    assert_eq!(p.mmio_read(0, Gpa(LAPIC_BASE + 0x30), 4, at(0)), 0xFFFF_FFFF, "disabled");
}

#[test]
fn keyboard_controller_has_nobody_behind_it() {
    let mut p = Whole::new(&config(1));
    assert_eq!(p.io_read(0x64, 1, at(0)) & 3, 0, "kb_wait() must not hang");
    outb(&mut p, 0x64, 0xAA, at(0));
    assert_eq!((p.io_read(0x64, 1, at(0)) & 1, p.io_read(0x60, 1, at(0))), (1, 0x55));
    outb(&mut p, 0x60, 0xF2, at(0));
    assert_eq!((p.io_read(0x64, 1, at(0)) & 0x41, p.io_read(0x60, 1, at(0))), (0x41, 0xFE));
    assert_eq!(p.io_read(0x64, 1, at(0)) & 0x41, 0);
}

#[test]
fn ipis_between_vcpus() {
    let mut p = Whole::new(&config(3));
    for vcpu in 0..3 {
        lapic_write(&mut p, vcpu, 0xF0, 0x1FF, at(0));
        p.pending_interrupt(vcpu);
    }
    lapic_write(&mut p, 0, 0x310, 2 << 24, at(0));
    assert_eq!(lapic_write(&mut p, 0, 0x300, 0x40FB, at(0)), None);
    assert!(p.irq_dirty_set().contains(2) && !p.irq_dirty_set().contains(1));
    assert_eq!(p.pending_interrupt(2), Some(0xFB));
    lapic_write(&mut p, 0, 0x300, 0xC_C500, at(0));
    assert_eq!(p.irq_dirty_set().0 & 0b110, 0b110);
    assert_eq!(p.pending_interrupt(2), None, "INIT reset it");
    lapic_write(&mut p, 0, 0x300, 0xC_8500, at(0)); // de-assert
    lapic_write(&mut p, 0, 0x300, 0xC_469A, at(0));
    for vcpu in 1..3 {
        assert_eq!(p.take_init_sipi(vcpu), InitSipi { init: true, sipi: Some(0x9A) });
    }
    assert_eq!(p.take_init_sipi(0), InitSipi::default());
    lapic_write(&mut p, 0, 0x300, 0x4_4400, at(0));
    assert!(p.take_nmi(0) && !p.take_nmi(1));
    assert!(!p.take_nmi(0));
    lapic_write(&mut p, 0, 0x300, 0x4_4005, at(0));
    lapic_write(&mut p, 0, 0x280, 0, at(0));
    assert_eq!(p.mmio_read(0, Gpa(LAPIC_BASE + 0x280), 4, at(0)), 0x20, "illegal vector");
}

#[test]
fn a_past_tsc_deadline_fires_at_once() {
    let mut p = Whole::new(&config(1));
    lapic_write(&mut p, 0, 0x320, 0x4_00EC, at(0));
    p.msr_write(0, 0x6E0, 50, at(100)).unwrap();
    assert_eq!(p.pending_interrupt(0), Some(0xEC));
    assert_eq!((p.msr_read(0, 0x6E0, at(100)), p.next_event()), (Ok(0), None));
    let mut p = Whole::new(&PlatformConfig { tsc_deadline: false, ..config(1) });
    assert_eq!(p.msr_write(0, 0x6E0, 50, at(100)), Err(crate::GpFault));
}

#[test]
fn cr8_is_the_task_priority() {
    let mut p = Whole::new(&config(1));
    lapic_write(&mut p, 0, 0x320, 0x4_0041, at(0));
    p.msr_write(0, 0x6E0, 50, at(100)).unwrap();
    let seen = p.with_apic(0, |apic| {
        apic.set_cr8(4);
        (apic.interrupt_status().0 >> 4, apic.cr8())
    });
    assert_eq!((p.pending_interrupt(0), seen), (None, Some((4, 4))));
    p.with_apic(0, |apic| apic.set_cr8(3));
    assert_eq!(p.pending_interrupt(0), Some(0x41));
}

#[test]
fn import_is_all_or_nothing() {
    let mut source = Whole::new(&config(2));
    start_pit(&mut source, 1000, at(0));
    source.io_write(0x3F8, 1, b'x'.into(), at(0));
    source.advance(at(5000));
    let good = source.export();
    assert!(good.iter().all(|record| Platform::knows(&record.kind)));
    let mut target = Whole::new(&config(2));
    let blank = target.export();
    for i in 0..good.len() {
        let mut missing = good.clone();
        let gone = missing.remove(i);
        assert_eq!(target.import(&missing).unwrap_err().kind, gone.kind);
        let mut twice = good.clone();
        twice.push(gone.clone());
        let error = target.import(&twice).unwrap_err();
        assert_eq!(
            (error.kind, error.why),
            (gone.kind, format!("instance {} is there twice", gone.instance))
        );
        let mut unknown = good.clone();
        unknown[i].kind = "hpet".to_string();
        assert_eq!(target.import(&unknown).unwrap_err().kind, "hpet");
        let mut newer = good.clone();
        newer[i].version = 2;
        assert!(target.import(&newer).unwrap_err().to_string().contains("version 2"));
        let mut longer = good.clone();
        longer[i].body.push(0);
        assert!(target.import(&longer).is_err());
        let mut replaced = good.clone();
        replaced[i].body = vec![];
        assert!(target.import(&replaced).is_err());
        assert_eq!(target.export(), blank, "unchanged after every refusal");
    }
    target.import(&good).unwrap();
    assert_eq!(target.export(), good);
    target.advance(at(5000));
    assert_eq!(target.next_event(), source.next_event());
    assert!(Whole::new(&config(1)).import(&good).is_err(), "another number of vCPUs");
}

#[test]
fn an_nmi_goes_to_one_vcpu() {
    let mut p = Whole::new(&config(3));
    // LINT1 masked: what pulses the board's line does not come through.
    p.mmio_write(1, Gpa(LAPIC_BASE + 0x360), 4, 0x1_0400, at(0));
    let mut send = |vcpu| {
        let taken = p.board.send_nmi(vcpu);
        let kicked = p.board.take_kicks();
        (taken, kicked, [0, 1, 2].map(|vcpu| p.take_nmi(vcpu)))
    };
    assert_eq!(send(1), (true, crate::VcpuSet(0b010), [false, true, false]));
    assert_eq!(send(0), (true, crate::VcpuSet(0b001), [true, false, false]));
    assert_eq!(send(3), (false, crate::VcpuSet(0), [false; 3]), "there is none");
    // Off by IA32_APIC_BASE: nobody hears it.
    p.msr_write(2, 0x1b, LAPIC_BASE, at(0)).unwrap();
    assert!(!p.board.send_nmi(2) && !p.take_nmi(2));
}

#[test]
fn an_apic_id_is_there_once() {
    let good = Whole::new(&config(2)).export();
    let second = good.iter().position(|record| record.kind == "lapic" && record.instance == 1).unwrap();
    let refused = |records: &[StateRecord]| Whole::new(&config(2)).import(records).unwrap_err().to_string();
    // The first one's record in place of the second one's: as many as there should be.
    let mut records = good.clone();
    records[second] = records[second - 1].clone();
    assert_eq!(refused(&records), "state record lapic: instance 0 is there twice");
    // Two records with a number each, and one APIC id in both.
    records[second].instance = 1;
    assert_eq!(refused(&records), "state record lapic: id = 0x0 is out of range");
    assert!(Whole::new(&config(2)).import(&good).is_ok());
}

#[test]
fn a_full_output_queue_tells_the_guest_and_the_host() {
    let mut p = Whole::new(&config(1));
    let mut sent = 0;
    while p.io_read(0x3FD, 1, at(0)) & 0x20 != 0 {
        assert_eq!(outb(&mut p, 0x3F8, sent as u8, at(0)), None);
        sent += 1;
    }
    assert_eq!(sent, crate::UART_OUT_CAPACITY - 15);
    outb(&mut p, 0x3F9, 2, at(0));
    assert_eq!(p.io_read(0x3FA, 1, at(0)), 1, "no THRE interrupt while full");
    for _ in 0..14 {
        assert_eq!(outb(&mut p, 0x3F8, sent as u8, at(0)), None);
        sent += 1;
    }
    assert_eq!(outb(&mut p, 0x3F8, sent as u8, at(0)), Some(Effect::UartFull));
    let mut out = vec![0; 5000];
    assert_eq!(p.uart_output(&mut out), crate::UART_OUT_CAPACITY);
    assert!(out[..=sent].iter().enumerate().all(|(i, &byte)| byte == i as u8), "nothing lost");
    assert_eq!(p.io_read(0x3FA, 1, at(0)), 2);
}
