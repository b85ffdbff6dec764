//! A mailbox does what its model does: a bit for each vector, with the trigger mode that came last.

extern crate std;

use super::*;
use crate::lapic::Features;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
enum Op {
    Message(u8, bool),
    Init,
    Looks,
    Takes,
    Ends,
    Switch(bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    // Few vectors, in all words of the registers, so that they meet again.
    let vector = prop::sample::select(&[3_u8, 16, 31, 32, 63, 64, 90, 127, 128, 200, 255][..]);
    let op = prop_oneof![
        8 => (vector, any::<bool>()).prop_map(|(vector, level)| Op::Message(vector, level)),
        1 => Just(Op::Init),
        4 => Just(Op::Looks),
        4 => Just(Op::Takes),
        4 => Just(Op::Ends),
        1 => any::<bool>().prop_map(Op::Switch),
    ];
    prop::collection::vec(op, 0..80)
}

/// A local APIC, and what waits for it.
struct Model {
    regs: Lapic,
    /// Whether messages find it enabled.
    enabled: bool,
    waits: BTreeMap<u8, bool>,
    illegal: bool,
    init: bool,
}

impl Model {
    fn message(&mut self, vector: u8, level: bool) {
        match vector {
            _ if !self.enabled => {}
            0..16 => self.illegal = true,
            _ => _ = self.waits.insert(vector, level),
        }
    }

    fn looks(&mut self) {
        if core::mem::take(&mut self.init) {
            self.regs.init();
            self.enabled = false;
        }
        if core::mem::take(&mut self.illegal) {
            self.regs.receive_illegal();
        }
        for (vector, level) in core::mem::take(&mut self.waits) {
            self.regs.request(vector, level);
        }
    }
}

proptest! {
    #[test]
    fn any_sequence_of_messages_and_looks_ends_alike(ops in ops()) {
        let (bus, mut apics) = machine(1);
        let apic = &mut apics[0];
        let mut regs = Lapic::new(0, Features { x2apic: true, tsc_deadline: true });
        regs.mmio_write(0xF0, 4, 0x1FF, at(0));
        let mut model =
            Model { regs, enabled: true, waits: BTreeMap::new(), illegal: false, init: false };
        for op in ops {
            match op {
                Op::Message(vector, level) => {
                    bus.deliver(&fixed(0, vector, level));
                    model.message(vector, level);
                }
                Op::Init => {
                    bus.leave(&Message { delivery: Delivery::Init, ..fixed(0, 0, false) }, VcpuSet(1));
                    (model.init, model.illegal) = (true, false);
                }
                Op::Looks => {
                    apic.catch_up(at(1));
                    model.looks();
                }
                Op::Takes => {
                    let vector = apic.pending();
                    prop_assert_eq!(vector, model.regs.pending());
                    if let Some(vector) = vector {
                        apic.accept(vector);
                        model.regs.accept(vector);
                    }
                }
                Op::Ends => prop_assert_eq!(apic.eoi(), model.regs.end_of_interrupt()),
                Op::Switch(on) => {
                    let svr = u64::from(on) << 8 | 0xFF;
                    apic.mmio_write(vm_types::Gpa(crate::LAPIC_BASE + 0xF0), 4, svr, at(1));
                    model.looks();
                    model.regs.mmio_write(0xF0, 4, svr, at(1));
                    model.enabled = on;
                }
            }
            prop_assert_eq!(apic.export().body, model.regs.export().body);
        }
        apic.catch_up(at(1));
        model.looks();
        prop_assert_eq!(apic.export().body, model.regs.export().body);
        prop_assert!(!has_mail(&bus, 0));
    }
}
