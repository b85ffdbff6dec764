//! The APIC's set-up over a model that starts with the reset values of the SDM (11.4.7.1, 11.12.5.1), not with those of an
//! emulator or of some firmware.

use bring_up::apic::reg::*;
use bring_up::apic::{
    BASE_ENABLE, BASE_X2APIC, Ipi, MASKED, Mode, Registers, Vectors, base_values, send, set_up,
};
use std::cell::RefCell;
use std::collections::BTreeMap;

const VECTORS: Vectors = Vectors { error: 0xfe, spurious: 0xff };
const LVTS: [u32; 7] = [LVT_TIMER, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_PERFORMANCE, LVT_THERMAL, LVT_CMCI];
const NMI: u32 = 4 << 8;
const SMI: u32 = 2 << 8;

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Write(u32, u32),
    Icr(u64),
    Fence,
}

struct Apic {
    mode: Mode,
    registers: BTreeMap<u32, u32>,
    /// Interrupts in service, the last is the highest.
    in_service: Vec<u8>,
    /// Reads of the ICR that still show it busy.
    busy: RefCell<u32>,
    last_lvt: u32,
    events: Vec<Event>,
}

impl Apic {
    /// After a reset or INIT.
    fn reset(mode: Mode, last_lvt: u32) -> Self {
        let lvts = LVTS.iter().map(|&lvt| (lvt, MASKED));
        let registers = lvts.chain([(SVR, 0xff), (TIMER_DIVIDE, 0), (TPR, 0)]).collect();
        Self { mode, registers, in_service: vec![], busy: RefCell::new(2), last_lvt, events: vec![] }
    }

    fn holds(&self, register: u32) -> u32 {
        self.registers.get(&register).copied().unwrap_or(0)
    }

    fn enabled(&self) -> bool {
        self.holds(SVR) & 1 << 8 != 0
    }

    /// By how much the timer divides the bus clock (SDM figure 11-10).
    fn divisor(&self) -> u32 {
        let value = self.holds(TIMER_DIVIDE);
        match value & 3 | value >> 1 & 4 {
            7 => 1,
            n => 2 << n,
        }
    }
}

impl Registers for Apic {
    fn mode(&self) -> Mode {
        self.mode
    }

    fn read(&self, register: u32) -> u32 {
        match register {
            VERSION => self.last_lvt << 16 | 0x15,
            ISR..0x18 => {
                let bits = self.in_service.iter().filter(|&&v| u32::from(v) / 32 == register - ISR);
                bits.fold(0, |word, &v| word | 1 << (v % 32))
            }
            ICR => {
                let left = self.busy.replace_with(|left| left.saturating_sub(1));
                if left > 0 { 1 << 12 } else { 0 }
            }
            _ => self.holds(register),
        }
    }

    fn write(&mut self, register: u32, mut value: u32) {
        if let Some(number) = [0, 1, 2, 3, 4, 5, 6].into_iter().find(|&n| LVTS[n as usize] == register) {
            assert!(number <= self.last_lvt, "there is no entry at {register:#x}: x2APIC gives #GP");
            // SDM 11.4.7.2: while disabled by software, mask bits cannot be cleared.
            if !self.enabled() {
                value |= MASKED;
            }
        }
        match register {
            EOI => _ = self.in_service.pop(),
            ICR | ICR_HIGH if self.mode == Mode::X2Apic => panic!("an x2APIC has one 64-bit ICR"),
            TIMER_NOW | VERSION | ISR..0x18 => panic!("{register:#x} cannot be written"),
            _ => {}
        }
        self.registers.insert(register, value);
        self.events.push(Event::Write(register, value));
    }

    fn write_icr(&mut self, value: u64) {
        assert_eq!(self.mode, Mode::X2Apic);
        self.events.push(Event::Icr(value));
    }

    fn fence(&mut self) {
        self.events.push(Event::Fence);
    }
}

/// First CPU and others, each kind of APIC, each number of table entries.
fn all() -> impl Iterator<Item = Apic> {
    [Mode::XApic, Mode::X2Apic]
        .into_iter()
        .flat_map(|mode| (3..=6).map(move |last_lvt| Apic::reset(mode, last_lvt)))
}

/// Fault 2.2: the divide register was written on the first CPU only; on the others timers took twice as long.
#[test]
fn a_timer_counts_at_the_same_rate_on_every_cpu() {
    for mut apic in all() {
        assert_eq!(apic.divisor(), 2, "the model starts as the SDM says");
        set_up(&mut apic, VECTORS);
        assert_eq!(apic.divisor(), 1);
    }
}

#[test]
fn after_the_set_up_only_errors_and_nmis_come() {
    for mut apic in all() {
        set_up(&mut apic, VECTORS);
        assert_eq!(apic.holds(SVR), 1 << 8 | 0xff);
        // LVT before SVR, as it was on other CPUs, leaves these masked: the NMI button and errors are lost.
        assert_eq!(apic.holds(LVT_LINT1), NMI);
        assert_eq!(apic.holds(LVT_ERROR), 0xfe);
        for lvt in [LVT_TIMER, LVT_LINT0, LVT_PERFORMANCE, LVT_THERMAL, LVT_CMCI] {
            assert_ne!(apic.holds(lvt) & MASKED, 0, "{lvt:#x}");
        }
    }
}

#[test]
fn what_firmware_left_is_put_away() {
    for mut apic in all() {
        let last = apic.last_lvt as usize;
        for &lvt in &LVTS[..=last] {
            apic.registers.insert(lvt, NMI);
        }
        if last >= 5 {
            apic.registers.insert(LVT_THERMAL, SMI | 0x20);
        }
        apic.registers.extend([(SVR, 1 << 8 | 0x0f), (TPR, 0x20), (TIMER_COUNT, 7), (TIMER_DIVIDE, 0)]);
        apic.in_service = vec![0x31, 0x80, 0xe0];
        set_up(&mut apic, VECTORS);
        assert!(apic.in_service.is_empty());
        assert_eq!([TPR, TIMER_COUNT].map(|register| apic.holds(register)), [0, 0]);
        assert_ne!(apic.holds(LVT_TIMER) & MASKED, 0);
        assert_ne!(apic.holds(LVT_LINT0) & MASKED, 0);
        if last >= 4 {
            assert_ne!(apic.holds(LVT_PERFORMANCE) & MASKED, 0);
        }
        if last >= 5 {
            assert_eq!(apic.holds(LVT_THERMAL), SMI | 0x20, "the firmware's own");
        }
    }
}

/// No entry that can interrupt is open while another one is still as firmware left it.
#[test]
fn stray_entries_are_masked_before_any_is_opened() {
    let mut apic = Apic::reset(Mode::X2Apic, 6);
    apic.registers.insert(LVT_PERFORMANCE, NMI);
    set_up(&mut apic, VECTORS);
    let at = |wanted: &dyn Fn(&Event) -> bool| apic.events.iter().position(wanted).unwrap();
    let masked = at(&|event| matches!(event, Event::Write(LVT_PERFORMANCE, value) if value & MASKED != 0));
    let enabled = at(&|event| matches!(event, Event::Write(SVR, _)));
    let opened =
        at(&|event| matches!(event, Event::Write(LVT_LINT1 | LVT_ERROR, value) if value & MASKED == 0));
    assert!(masked < enabled && enabled < opened);
}

/// A bit that never clears does not hold the CPU.
#[test]
fn an_interrupt_in_service_for_ever_ends_the_loop() {
    let mut apic = Apic::reset(Mode::XApic, 6);
    apic.in_service = vec![0x40; 1000];
    set_up(&mut apic, VECTORS);
    assert_eq!(apic.in_service.len(), 1000 - 256);
}

#[test]
fn modes_change_by_the_steps_that_are_allowed() {
    const BASE: u64 = 0xfee0_0900 & !BASE_ENABLE;
    let states = [0, BASE_ENABLE, BASE_ENABLE | BASE_X2APIC];
    for from in states {
        for (mode, to) in [(Mode::XApic, BASE_ENABLE), (Mode::X2Apic, BASE_ENABLE | BASE_X2APIC)] {
            let mut now = BASE | from;
            for value in base_values(now, mode) {
                let step = [now, value].map(|v| v & (BASE_ENABLE | BASE_X2APIC));
                // SDM table 11-5 and figure 11-27: all others are #GP.
                let allowed = [
                    [0, BASE_ENABLE],
                    [BASE_ENABLE, BASE_ENABLE | BASE_X2APIC],
                    [BASE_ENABLE | BASE_X2APIC, 0],
                ];
                assert!(allowed.contains(&step), "{from:#x} to {mode:?}: {step:x?}");
                now = value;
            }
            assert_eq!(now, BASE | to);
        }
    }
}

#[test]
fn an_x2apic_sends_after_mfence_and_lfence() {
    let mut apic = Apic::reset(Mode::X2Apic, 6);
    send(&mut apic, 0x1_0003, Ipi::Fixed(0xf1));
    send(&mut apic, 3, Ipi::Startup(8));
    assert_eq!(
        apic.events,
        [Event::Fence, Event::Icr(0x1_0003 << 32 | 0x40f1), Event::Fence, Event::Icr(3 << 32 | 0x4608)]
    );
}

#[test]
fn an_xapic_sends_by_two_writes_and_waits() {
    let mut apic = Apic::reset(Mode::XApic, 3);
    send(&mut apic, 3, Ipi::Nmi);
    send(&mut apic, 4, Ipi::Init);
    assert_eq!(
        apic.events,
        [
            Event::Write(ICR_HIGH, 3 << 24),
            Event::Write(ICR, 0x4400),
            Event::Write(ICR_HIGH, 4 << 24),
            Event::Write(ICR, 0x4500)
        ]
    );
    assert_eq!(*apic.busy.borrow(), 0);
}
