use super::*;
use vm_types::Now;

const HZ: u64 = 20_000_000;
const BOTH: Features = Features { x2apic: true, tsc_deadline: true };

fn at(tsc: u64) -> Now {
    Now { tsc, hz: HZ }
}

fn enabled() -> Lapic {
    let mut lapic = Lapic::new(0, BOTH);
    lapic.mmio_write(0xF0, 4, 0x1FF, at(0));
    lapic
}

fn message(dest: u32, logical: bool) -> Message {
    Message { vector: 0x40, delivery: Delivery::Fixed, logical, level: false, dest, from_io: true }
}

#[test]
fn interrupts_nest_by_class() {
    let mut lapic = enabled();
    assert!(lapic.request(0x45, false));
    assert!(!lapic.request(0x45, false), "a second request merges with the first");
    assert_eq!(lapic.pending(), Some(0x45));
    lapic.accept(0x45);
    lapic.request(0x4F, false);
    assert_eq!(lapic.pending(), None, "same class as the one in service");
    lapic.request(0x51, true);
    assert_eq!(lapic.pending(), Some(0x51));
    lapic.accept(0x51);
    assert_eq!(lapic.ppr(), 0x50);
    assert_eq!(lapic.mmio_write(0xB0, 4, 0, at(1)), Action::Eoi(0x51), "level-triggered: announced");
    assert_eq!(lapic.mmio_write(0xB0, 4, 0, at(1)), Action::None, "edge-triggered: not");
    assert_eq!(lapic.pending(), Some(0x4F));
    lapic.mmio_write(0x80, 4, 0x40, at(1));
    assert_eq!((lapic.pending(), lapic.highest_request()), (None, Some(0x4F)), "held back by TPR");
}

#[test]
fn software_disable_masks_the_lvt_and_takes_nothing() {
    let mut lapic = enabled();
    lapic.mmio_write(0x320, 4, 0x30, at(0));
    lapic.mmio_write(0xF0, 4, 0xFF, at(0));
    assert_eq!(lapic.mmio_read(0x320, 4, at(0)), 0x1_0030);
    lapic.mmio_write(0x320, 4, 0x30, at(0));
    assert_eq!(lapic.mmio_read(0x320, 4, at(0)), 0x1_0030, "the mask cannot be cleared while disabled");
    assert!(!lapic.request(0x40, false));
    assert!(!lapic.passes_ext_int());
}

#[test]
fn one_shot_counts_down_and_fires_once() {
    let mut lapic = enabled();
    lapic.mmio_write(0x3E0, 4, 0x3, at(0)); // divide by 16
    lapic.mmio_write(0x320, 4, 0xEC, at(0));
    lapic.mmio_write(0x380, 4, 62_500, at(1000)); // 10 ms of the 100 MHz bus clock
    assert_eq!(lapic.timer_deadline(), 1000 + HZ / 100);
    assert_eq!(lapic.mmio_read(0x390, 4, at(1000 + HZ / 200)), 31_250);
    assert!(!lapic.run_timer(at(1000 + HZ / 100 - 1)));
    assert!(lapic.run_timer(at(1000 + HZ / 100)));
    assert_eq!(lapic.pending(), Some(0xEC));
    assert_eq!(lapic.timer_deadline(), u64::MAX);
    assert_eq!(lapic.mmio_read(0x390, 4, at(HZ)), 0);
}

#[test]
fn periodic_keeps_its_phase_and_merges_what_was_missed() {
    let mut lapic = enabled();
    lapic.mmio_write(0x3E0, 4, 0xB, at(0)); // divide by 1
    lapic.mmio_write(0x320, 4, 0x2_0040, at(0));
    lapic.mmio_write(0x380, 4, 1_000_000, at(0)); // 10 ms
    let period = HZ / 100;
    assert!(lapic.run_timer(at(period + 5)));
    assert_eq!(lapic.timer_deadline(), 2 * period);
    lapic.accept(0x40);
    assert!(lapic.run_timer(at(7 * period + 9)), "five periods late: one request");
    assert_eq!(lapic.timer_deadline(), 8 * period);
    lapic.mmio_write(0x380, 4, 1, at(8 * period));
    assert!(lapic.run_timer(at(8 * period + 1)) || lapic.highest_request().is_some());
    assert!(lapic.timer_deadline() >= 8 * period + HZ / 20_000, "10 ns periods do not starve the guest");
}

#[test]
fn divider_change_keeps_the_count() {
    let mut lapic = enabled();
    lapic.mmio_write(0x3E0, 4, 0xB, at(0));
    lapic.mmio_write(0x380, 4, 1_000_000, at(0));
    lapic.mmio_write(0x3E0, 4, 0xA, at(HZ / 200)); // half way: divide by 128 from here
    assert_eq!(lapic.mmio_read(0x390, 4, at(HZ / 200)), 500_000);
    assert_eq!(lapic.mmio_read(0x390, 4, at(HZ / 200 + 128 * HZ / 1_000_000)), 500_000 - 100);
}

#[test]
fn tsc_deadline_fires_at_its_tick_and_reads_zero_then() {
    let mut lapic = enabled();
    lapic.write_tsc_deadline(500, at(0));
    assert_eq!(lapic.tsc_deadline(), 0, "ignored in another mode");
    lapic.mmio_write(0x320, 4, 0x4_0030, at(0));
    lapic.write_tsc_deadline(500, at(0));
    assert_eq!((lapic.timer_deadline(), lapic.tsc_deadline()), (500, 500));
    assert!(!lapic.run_timer(at(499)));
    assert!(lapic.run_timer(at(500)));
    assert_eq!(lapic.tsc_deadline(), 0);
    lapic.write_tsc_deadline(900, at(600));
    lapic.mmio_write(0x320, 4, 0x30, at(600));
    assert_eq!(lapic.tsc_deadline(), 0, "leaving the mode disarms");
}

#[test]
fn a_masked_timer_runs_out_in_silence() {
    let mut lapic = enabled();
    lapic.mmio_write(0x380, 4, 10, at(0));
    lapic.mmio_write(0x320, 4, 0x1_0040, at(0));
    assert_eq!(lapic.timer_deadline(), u64::MAX);
    lapic.mmio_write(0x320, 4, 0x40, at(HZ));
    assert!(!lapic.run_timer(at(HZ + 1)));
    assert_eq!(lapic.pending(), None, "it expired before it was unmasked");
}

#[test]
fn without_the_features_the_modes_are_refused() {
    let mut lapic = Lapic::new(0, Features { x2apic: false, tsc_deadline: false });
    assert_eq!(lapic.write_base(LAPIC_BASE | 0xD00), Err(GpFault));
    lapic.mmio_write(0x320, 4, 0x4_0030, at(0));
    assert_eq!(lapic.mmio_read(0x320, 4, at(0)), 0x30);
}

#[test]
fn apic_base_takes_only_the_legal_steps() {
    const OFF: u64 = LAPIC_BASE | 0x100;
    const X1: u64 = OFF | 0x800;
    const X2: u64 = OFF | 0xC00;
    const BAD: u64 = OFF | 0x400;
    for (from, to, legal) in [
        (X1, X2, true),
        (X1, OFF, true),
        (X2, OFF, true),
        (X2, X1, false),
        (OFF, X1, true),
        (OFF, X2, false),
        (X1, BAD, false),
        (X1, X1 + 0x1000, false),
        (X1, X1 | 1, false),
    ] {
        let mut lapic = Lapic::new(0, BOTH);
        match from {
            X2 => lapic.write_base(X2).unwrap(),
            OFF => lapic.write_base(OFF).unwrap(),
            _ => {}
        }
        assert_eq!(lapic.write_base(to).is_ok(), legal, "{from:#x} to {to:#x}");
        assert_eq!(lapic.base(), if legal { to } else { from });
    }
}

/// Fault 2.15: the deadline is what the guest wrote, its TSC is what moves.
#[test]
fn a_deadline_stays_where_the_guest_moves_its_tsc() {
    let mut lapic = enabled();
    lapic.mmio_write(0x320, 4, 2 << 17 | 0x40, at(0));
    lapic.write_tsc_deadline(5000, at(100));
    lapic.set_tsc_adjust(1000, at(100));
    assert_eq!((lapic.tsc_deadline(), lapic.timer_deadline()), (5000, 4000));
    lapic.set_tsc_adjust(100_u64.wrapping_neg(), at(100));
    assert_eq!((lapic.tsc_deadline(), lapic.timer_deadline()), (5000, 5100), "the TSC went back");
    assert!(!lapic.run_timer(at(5099)));
    // It travels on the time line, for readers of before.
    let mut moved = Lapic::import(&lapic.export(), BOTH).unwrap();
    assert_eq!(moved.tsc_deadline(), 5100);
    moved.load_tsc_adjust(100_u64.wrapping_neg());
    assert_eq!(moved.tsc_deadline(), 5000);
    assert!(moved.run_timer(at(5100)));
    lapic.set_tsc_adjust(1 << 41, at(200));
    assert!(lapic.run_timer(at(200)), "the TSC jumped past it");
    assert_eq!(lapic.tsc_deadline(), 0);
    lapic.write_tsc_deadline(u64::MAX, at(300));
    assert!(!lapic.run_timer(at(1 << 60)));
    lapic.set_tsc_adjust(7_u64.wrapping_neg(), at(300));
    let mut moved = Lapic::import(&lapic.export(), BOTH).unwrap();
    moved.load_tsc_adjust(7_u64.wrapping_neg());
    assert_eq!((moved.tsc_deadline(), lapic.tsc_deadline()), (u64::MAX, u64::MAX), "never is never");
    lapic.init();
    lapic.mmio_write(0xF0, 4, 0x1FF, at(0));
    lapic.mmio_write(0x320, 4, 2 << 17 | 0x40, at(300));
    lapic.write_tsc_deadline(1000, at(300));
    assert_eq!(lapic.timer_deadline(), 1007, "INIT is not the TSC's business");
}

#[test]
fn x2apic_registers_and_their_faults() {
    let mut lapic = Lapic::new(37, BOTH);
    assert_eq!(lapic.msr_read(0x02, at(0)), Err(GpFault), "only in x2APIC mode");
    lapic.write_base(LAPIC_BASE | 0xC00).unwrap();
    assert_eq!(lapic.msr_read(0x02, at(0)), Ok(37));
    assert_eq!(lapic.msr_read(0x0D, at(0)), Ok(2 << 16 | 1 << 5), "LDR follows from the ID");
    for reg in [0x0B, 0x0E, 0x31, 0x3F, 0x01, 0x2F] {
        assert_eq!(lapic.msr_read(reg, at(0)), Err(GpFault), "read of {reg:#x}");
    }
    for (reg, value) in [(0x0B, 1), (0x28, 1), (0x08, 0x100), (0x0D, 1), (0x02, 1), (0x39, 0), (0x3E, 0x10)] {
        assert_eq!(lapic.msr_write(reg, value, at(0)), Err(GpFault), "write of {value:#x} to {reg:#x}");
    }
    assert_eq!(lapic.msr_write(0x30, 5 << 32 | 0x4030, at(0)), Ok(Action::Ipi(5 << 32 | 0x4030)));
    assert_eq!(lapic.msr_write(0x3F, 0x55, at(0)), Ok(Action::SelfIpi(0x55)));
}

#[test]
fn destinations() {
    let mut lapic = Lapic::new(3, BOTH);
    assert!(lapic.matches(&message(3, false)));
    assert!(lapic.matches(&message(0xFF, false)));
    assert!(!lapic.matches(&message(2, false)));
    lapic.mmio_write(0xD0, 4, 0x0800_0000, at(0));
    assert!(lapic.matches(&message(0x0C, true)), "flat model: any common bit");
    assert!(!lapic.matches(&message(0x04, true)));
    lapic.mmio_write(0xE0, 4, 0x0FFF_FFFF, at(0));
    lapic.mmio_write(0xD0, 4, 0x2400_0000, at(0));
    assert!(lapic.matches(&message(0x2C, true)), "cluster model: cluster 2, members 4 and 8");
    assert!(!lapic.matches(&message(0x1C, true)));
    lapic.write_base(LAPIC_BASE | 0xC00).unwrap();
    assert!(lapic.matches(&message(0x08, true)));
    assert!(!lapic.matches(&Message { from_io: false, ..message(0xFF, false) }), "32-bit IDs");
    assert!(lapic.matches(&Message { from_io: false, ..message(u32::MAX, false) }));
}

#[test]
fn errors_are_latched_by_a_write_and_raise_the_error_vector() {
    let mut lapic = enabled();
    lapic.mmio_write(0x370, 4, 0xFE, at(0));
    lapic.request(5, false);
    assert_eq!(lapic.pending(), Some(0xFE));
    assert_eq!(lapic.mmio_read(0x280, 4, at(0)), 0);
    lapic.mmio_write(0x280, 4, 0, at(0));
    assert_eq!(lapic.mmio_read(0x280, 4, at(0)), 0x40);
    lapic.mmio_read(0x2F0, 4, at(0));
    lapic.mmio_write(0x280, 4, 0, at(0));
    assert_eq!(lapic.mmio_read(0x280, 4, at(0)), 0x80, "no CMCI entry");
}

#[test]
fn init_keeps_the_identity() {
    let mut lapic = enabled();
    lapic.request(0x40, false);
    lapic.mmio_write(0x80, 4, 0x20, at(0));
    lapic.init();
    assert_eq!((lapic.base(), lapic.pending(), lapic.tpr()), (LAPIC_BASE | 0x900, None, 0));
    assert_eq!(lapic.mmio_read(0xF0, 4, at(0)), 0xFF);
    assert_eq!(lapic.mmio_read(0x350, 4, at(0)), 0x1_0000);
}

/// What a CPU that virtualises the APIC would read is what the model reads, whatever was done to it.
fn page_shows(lapic: &mut Lapic) {
    let x2apic = lapic.x2apic();
    for reg in [ID, VERSION, TPR, LDR, DFR, SVR, ESR, TIMER_INITIAL, TIMER_DIVIDE]
        .into_iter()
        .chain(ISR..=IRR_LAST)
        .chain(LVT..LVT + LVTS as u8)
    {
        let model = if !x2apic {
            lapic.mmio_read(u64::from(reg) << 4, 4, at(0))
        } else if reg == DFR {
            continue; // no MSR
        } else {
            lapic.msr_read(reg, at(0)).unwrap()
        };
        assert_eq!(u64::from(lapic.page.get(reg)), model, "register {reg:#x}");
    }
}

#[test]
fn the_page_shows_what_is_read() {
    let mut lapic = enabled();
    page_shows(&mut lapic);
    for (offset, value) in [
        (0xD0, 0x0812_3456),
        (0xE0, 0x1234_5678),
        (0x20, 0x0900_0000),
        (0x320, 0x4_0040),
        (0x320, 0x40),
        (0x3E0, 0xFFFF),
        (0x380, 77),
        (0x350, 0xFFFF_FFFF),
        (0x80, 0xFFFF_FF35),
        (0x280, 9),
        (0xF0, 0xFF),
        (0xF0, 0x1FF),
    ] {
        lapic.mmio_write(offset, 4, value, at(0));
        page_shows(&mut lapic);
    }
    lapic.request(0x51, true);
    lapic.accept(0x51);
    page_shows(&mut lapic);
    lapic.write_base(LAPIC_BASE | 0xD00).unwrap();
    page_shows(&mut lapic);
    let mut moved = Lapic::import(&lapic.export(), BOTH).unwrap();
    page_shows(&mut moved);
    let address = Arc::as_ptr(&lapic.page);
    lapic.init();
    page_shows(&mut lapic);
    lapic.become_like(&moved);
    page_shows(&mut lapic);
    assert_eq!(Arc::as_ptr(&lapic.page), address, "a CPU knows the page by its address");
    assert_eq!(lapic.export(), moved.export());
}

/// APIC-register virtualization: the CPU has overwritten the register when the exit tells of it.
#[test]
fn a_write_that_the_cpu_carried_out_does_what_one_here_does() {
    for (offset, value) in [
        (0x20, 0xFFFF_FFFF),
        (0xD0, 0xFFFF_FFFF),
        (0xE0, 0),
        (0xF0, 0xFFFF_FFFF),
        (0x280, 0xFFFF_FFFF),
        (0x320, 0x2_0040),
        (0x320, 0x4_0040),
        (0x350, 0xFFFF_FFFF),
        (0x380, 1000),
        (0x3E0, 0xFFFF_FFFF),
    ] {
        let (mut here, mut there) = (enabled(), enabled());
        for lapic in [&mut here, &mut there] {
            lapic.mmio_write(0x320, 4, 0x40, at(0));
            lapic.mmio_write(0x380, 4, 5000, at(0));
            lapic.mmio_read(0x2F0, 4, at(0)); // an error waits to be latched
        }
        let said = here.mmio_write(offset, 4, value, at(9));
        there.page.set((offset >> 4) as u8, value as u32);
        assert_eq!(there.written(offset, at(9)), said, "{offset:#x}");
        assert_eq!(there.export(), here.export(), "{offset:#x}");
        page_shows(&mut there);
    }
    let mut lapic = enabled();
    // The CPU has done the first of the two by itself (SDM 29.4.3.2).
    lapic.page.set(ICR_HIGH, 0x0300_0000);
    lapic.page.set(ICR_LOW, 0xFFF3_1041);
    assert_eq!(lapic.written(0x300, at(0)), Action::Ipi(0x0300_0000_0000_0041));
    lapic.write_base(LAPIC_BASE | 0xD00).unwrap();
    lapic.page.set(SELF_IPI, 5);
    assert_eq!(lapic.written(0x3F0, at(0)), Action::SelfIpi(5));
}

#[test]
fn what_virtual_interrupt_delivery_is_told() {
    let mut lapic = enabled();
    assert_eq!(lapic.changed_levels(), Some([0; 8]), "once, to begin with");
    lapic.request(0x31, false);
    assert_eq!(
        (lapic.changed_levels(), lapic.highest_request(), lapic.in_service()),
        (None, Some(0x31), None)
    );
    lapic.accept(0x31);
    lapic.request(0x52, true);
    assert_eq!((lapic.highest_request(), lapic.in_service()), (Some(0x52), Some(0x31)));
    assert_eq!(lapic.changed_levels(), Some([0, 0, 1 << 18, 0, 0, 0, 0, 0]));
    lapic.request(0x52, true);
    assert_eq!(lapic.changed_levels(), None);
    lapic.request(0x52, false);
    assert_eq!(lapic.changed_levels(), Some([0; 8]));
}
