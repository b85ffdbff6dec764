//! Interrupt routing: device lines to PIC and IO-APIC, messages to the local APICs, and what a vCPU takes.

use super::Platform;
use crate::effect::{Effect, VcpuSet};
use crate::lapic::{Action, Delivery, Message};
use crate::pci::Bus;

/// The PIT's IRQ 0 is wired to pin 2, as the MADT says.
const TIMER_PIN: u8 = 2;

impl Platform {
    /// Whether the pending interrupt of `vcpu` may have changed since [`Platform::pending_interrupt`] was asked.
    #[inline]
    #[must_use]
    pub fn irq_dirty(&self, vcpu: usize) -> bool {
        self.dirty.contains(vcpu)
    }

    /// All vCPUs for which [`Platform::irq_dirty`] holds: those to be kicked.
    #[must_use]
    pub fn irq_dirty_set(&self) -> VcpuSet {
        self.dirty
    }

    /// The vector that `vcpu` should take now, if it can; clears its dirty flag. ExtINT from the PIC comes first.
    pub fn pending_interrupt(&mut self, vcpu: usize) -> Option<u8> {
        self.dirty.0 &= !(1u64.checked_shl(vcpu as u32).unwrap_or(0));
        if self.intr && self.takes_ext_int(vcpu) {
            return self.board.pic.peek();
        }
        self.lapics.get(vcpu)?.pending()
    }

    /// `vcpu` takes the vector that [`Platform::pending_interrupt`] named (INTA cycle, or IRR to ISR).
    pub fn accept(&mut self, vcpu: usize, vector: u8) {
        if self.intr && self.takes_ext_int(vcpu) && self.board.pic.peek() == Some(vector) {
            self.board.pic.acknowledge();
            self.update_intr();
        } else if let Some(lapic) = self.lapics.get_mut(vcpu) {
            lapic.accept(vector);
        }
        self.mark(vcpu);
    }

    /// Whether an NMI waits for `vcpu`.
    #[must_use]
    pub fn nmi_pending(&self, vcpu: usize) -> bool {
        self.lapics.get(vcpu).is_some_and(|lapic| lapic.nmi())
    }

    /// `vcpu` takes its NMI.
    pub fn accept_nmi(&mut self, vcpu: usize) {
        if let Some(lapic) = self.lapics.get_mut(vcpu) {
            lapic.set_nmi(false);
        }
    }

    /// Pulses the board's NMI line: LINT1 of every local APIC.
    pub fn raise_nmi(&mut self) {
        self.lapics.iter_mut().for_each(|lapic| lapic.pulse_lint1());
        self.mark_all();
    }

    /// IA32_APIC_BASE of `vcpu`.
    #[must_use]
    #[inline]
    pub fn apic_base(&self, vcpu: usize) -> u64 {
        self.lapics.get(vcpu).map_or(0, |lapic| lapic.base())
    }

    /// The task-priority class of `vcpu`, as CR8 reads.
    #[must_use]
    pub fn cr8(&self, vcpu: usize) -> u8 {
        self.lapics.get(vcpu).map_or(0, |lapic| lapic.tpr() >> 4)
    }

    /// A write of the guest to CR8: 0 to 15.
    pub fn set_cr8(&mut self, vcpu: usize, class: u8) {
        if let Some(lapic) = self.lapics.get_mut(vcpu) {
            lapic.set_tpr((class & 0xF) << 4);
            self.mark(vcpu);
        }
    }

    /// The priority class of the highest request at `vcpu`'s local APIC, masked by TPR or not: for a TPR threshold.
    #[must_use]
    pub fn request_class(&self, vcpu: usize) -> Option<u8> {
        self.lapics.get(vcpu)?.highest_request().map(|vector| vector >> 4)
    }

    pub(super) fn mark(&mut self, vcpu: usize) {
        self.dirty.0 |= 1u64.checked_shl(vcpu as u32).unwrap_or(0);
    }

    fn mark_all(&mut self) {
        self.dirty.0 |= u64::MAX >> (64 - self.lapics.len().clamp(1, 64));
    }

    fn takes_ext_int(&self, vcpu: usize) -> bool {
        let Some(lapic) = self.lapics.get(vcpu) else { return false };
        lapic.passes_ext_int() || self.board.ioapic.ext_int().is_some_and(|message| lapic.matches(&message))
    }

    /// Looks at the PIC's INTR again.
    pub(super) fn update_intr(&mut self) {
        let intr = self.board.pic.output();
        if intr || self.intr {
            self.intr = intr;
            self.mark_all();
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

    /// Carries out what a local APIC's register write asks for.
    pub(super) fn act(&mut self, vcpu: usize, action: Action) -> Option<Effect> {
        self.mark(vcpu);
        match action {
            Action::None => None,
            Action::Eoi(vector) => {
                self.board.ioapic.eoi(vector);
                self.deliver_sent();
                None
            }
            Action::SelfIpi(vector) => {
                self.request(vcpu, vector, false);
                None
            }
            Action::Ipi(icr) => self.send_ipi(vcpu, icr),
        }
    }

    /// Sends the interrupt command register (SDM vol. 3, 11.6.1).
    fn send_ipi(&mut self, from: usize, icr: u64) -> Option<Effect> {
        let x2apic = self.lapics.get(from)?.x2apic();
        let message = Message {
            vector: icr as u8,
            delivery: Delivery::from_bits((icr >> 8) as u8),
            logical: icr & 1 << 11 != 0,
            level: false,
            dest: if x2apic { (icr >> 32) as u32 } else { (icr >> 56) as u32 },
            from_io: !x2apic,
        };
        let everyone = u64::MAX >> (64 - self.lapics.len().clamp(1, 64));
        let own = 1u64 << (from & 63);
        let targets = match icr >> 18 & 3 {
            0 => self.targets(&message),
            1 => VcpuSet(own),
            2 => VcpuSet(everyone),
            _ => VcpuSet(everyone & !own),
        };
        // INIT level de-assert resets nothing on current processors.
        if message.delivery == Delivery::Init && icr & 1 << 14 == 0 && icr & 1 << 15 != 0 {
            return None;
        }
        if matches!(message.delivery, Delivery::Fixed | Delivery::LowestPriority) && message.vector < 16 {
            if let Some(lapic) = self.lapics.get_mut(from) {
                lapic.send_illegal();
            }
            return None;
        }
        self.deliver_to(&message, targets)
    }

    fn deliver(&mut self, message: &Message) {
        let targets = self.targets(message);
        // Devices do not start or reset processors here.
        if !matches!(message.delivery, Delivery::Init | Delivery::StartUp) {
            self.deliver_to(message, targets);
        }
    }

    fn targets(&self, message: &Message) -> VcpuSet {
        let mut set = 0;
        for (vcpu, lapic) in self.lapics.iter().enumerate() {
            set |= u64::from(lapic.matches(message)) << vcpu;
        }
        VcpuSet(set)
    }

    fn deliver_to(&mut self, message: &Message, targets: VcpuSet) -> Option<Effect> {
        let targets = match message.delivery {
            Delivery::LowestPriority => self.lowest_priority(targets),
            _ => targets,
        };
        if message.delivery == Delivery::StartUp {
            return (targets.0 != 0).then_some(Effect::StartUp { targets, vector: message.vector });
        }
        for vcpu in 0..self.lapics.len() {
            if !targets.contains(vcpu) {
                continue;
            }
            match message.delivery {
                Delivery::Fixed | Delivery::LowestPriority => {
                    self.request(vcpu, message.vector, message.level);
                }
                Delivery::Nmi => {
                    self.lapics[vcpu].set_nmi(true);
                    self.mark(vcpu);
                }
                Delivery::Init => {
                    self.lapics[vcpu].init();
                    self.mark(vcpu);
                }
                // SMI: there is no SMM. ExtINT: the PIC's INTR is looked at by level.
                _ => {}
            }
        }
        (message.delivery == Delivery::Init && targets.0 != 0).then_some(Effect::Init(targets))
    }

    fn request(&mut self, vcpu: usize, vector: u8, level: bool) {
        if self.lapics[vcpu].request(vector, level) {
            self.mark(vcpu);
        }
    }

    /// Of those that take interrupts, the first with the lowest processor priority.
    fn lowest_priority(&self, targets: VcpuSet) -> VcpuSet {
        let able = self.lapics.iter().enumerate().filter(|(vcpu, l)| targets.contains(*vcpu) && l.enabled());
        VcpuSet(able.min_by_key(|(_, lapic)| lapic.ppr()).map_or(0, |(vcpu, _)| 1 << vcpu))
    }
}
