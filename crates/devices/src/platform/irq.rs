//! Interrupt routing: device lines to PIC and IO-APIC, messages to the local APICs, and what the PIC has for a vCPU.

use super::Platform;
use crate::effect::VcpuSet;
use crate::lapic::{Delivery, LocalApic, Message};
use crate::pci::Bus;

/// The PIT's IRQ 0 is wired to pin 2, as the MADT says.
const TIMER_PIN: u8 = 2;

impl Platform {
    /// vCPUs for which something was left since the last call: they are to look at their interrupts again.
    #[inline]
    pub fn take_kicks(&mut self) -> VcpuSet {
        core::mem::take(&mut self.kicks)
    }

    /// The PIC's vector, where the vCPU with that local APIC should take it now (ExtINT).
    #[must_use]
    pub fn ext_int(&self, apic: &LocalApic) -> Option<u8> {
        let message = self.board.ioapic.ext_int();
        if self.intr && apic.takes_ext_int(message.as_ref()) { self.board.pic.peek() } else { None }
    }

    /// A vCPU takes the vector that [`Platform::ext_int`] named: the INTA cycle.
    pub fn accept_ext_int(&mut self) {
        self.board.pic.acknowledge();
        self.update_intr();
    }

    /// The end of a level-triggered interrupt at a local APIC.
    pub fn eoi(&mut self, vector: u8) {
        self.board.ioapic.eoi(vector);
        self.deliver_sent();
    }

    /// Pulses the board's NMI line: LINT1 of every local APIC.
    pub fn raise_nmi(&mut self) {
        let kicks = self.apics.pulse_lint1();
        self.kick(kicks);
    }

    /// Sends an NMI to the local APIC of one vCPU, whatever its LINT1 is set to. False where it takes no messages: the guest has
    /// switched it off by IA32_APIC_BASE.
    pub fn send_nmi(&mut self, vcpu: u8) -> bool {
        let (delivery, dest) = (Delivery::Nmi, u32::from(vcpu));
        let message = Message { vector: 0, delivery, logical: false, level: false, dest, from_io: true };
        let kicks = self.apics.deliver(&message);
        self.kick(kicks);
        kicks.contains(usize::from(vcpu))
    }

    fn kick(&mut self, vcpus: VcpuSet) {
        self.kicks.0 |= vcpus.0;
    }

    /// Looks at the PIC's INTR again.
    pub(super) fn update_intr(&mut self) {
        let intr = self.board.pic.output();
        if intr || self.intr {
            self.intr = intr;
            self.apics.set_intr(intr);
            self.kick(self.apics.all());
        }
    }

    /// Carries changed device lines to the PIC and the IO-APIC.
    pub(super) fn update_lines(&mut self) {
        let lines = self.all_lines();
        let mut changed = lines ^ self.lines;
        self.lines = lines;
        while changed != 0 {
            let irq = changed.trailing_zeros() as u8;
            changed &= changed - 1;
            self.set_irq(irq, lines >> irq & 1 != 0);
        }
    }

    /// The levels of all lines, of the board and of the bus.
    pub(super) fn all_lines(&self) -> u16 {
        self.board.lines() | self.pci.as_ref().map_or(0, Bus::lines)
    }

    fn set_irq(&mut self, irq: u8, level: bool) {
        self.board.pic.set_irq(irq, level);
        self.update_intr();
        let pin = if irq == 0 { TIMER_PIN } else { irq };
        if let Some(message) = self.board.ioapic.set_line(pin, level) {
            self.deliver(&message);
        }
    }

    /// Lines that were raised and lowered at once.
    pub(super) fn pulse(&mut self, lines: u16) {
        for irq in (0..16).filter(|irq| lines >> irq & 1 != 0) {
            self.set_irq(irq, true);
            self.set_irq(irq, false);
        }
    }

    /// Delivers the messages that the IO-APIC and functions on the PCI bus have sent.
    pub(super) fn deliver_sent(&mut self) {
        while let Some(message) = self.board.ioapic.take_sent() {
            self.deliver(&message);
        }
        while let Some(message) = self.pci.as_mut().and_then(Bus::take_sent) {
            self.deliver(&message);
        }
    }

    fn deliver(&mut self, message: &Message) {
        let kicks = self.apics.deliver(message);
        self.kick(kicks);
    }
}
