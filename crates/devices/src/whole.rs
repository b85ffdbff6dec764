//! A whole machine in one piece, for those who have it on one thread: tests and fuzzing. The hypervisor has the board behind a
//! lock, and each local APIC in its vCPU.

use crate::config::{MAX_VCPUS, PlatformConfig};
use crate::effect::{Effect, VcpuSet};
use crate::lapic::{ApicBus, GpFault, InitSipi, LocalApic, Sent};
use crate::pci::Socket;
use crate::platform::{FUNCTIONS, Platform};
use alloc::vec::Vec;
use virtio::Host;
use vm_types::{Gpa, GuestMemory, Now, StateError, StateRecord};

/// Board and local APICs.
pub struct Whole {
    /// The board.
    pub board: Platform,
    /// The local APICs, by vCPU.
    pub apics: Vec<LocalApic>,
    bus: ApicBus,
    /// vCPUs whose pending interrupt may have changed since it was asked for.
    dirty: VcpuSet,
}

impl Whole {
    /// The machine as firmware would hand it to an operating system, at guest TSC 0.
    #[must_use]
    pub fn new(config: &PlatformConfig) -> Self {
        Self::with_functions(config, FUNCTIONS)
    }

    /// The same with these functions on its PCI bus, if it has one.
    #[must_use]
    pub fn with_functions(config: &PlatformConfig, functions: &[Socket]) -> Self {
        let bus = ApicBus::new(config.vcpus);
        let board = Platform::with_functions(config, functions, &bus);
        let apics = (0..config.vcpus.clamp(1, MAX_VCPUS)).map(|id| LocalApic::new(id, config, &bus));
        Self { board, apics: apics.collect(), bus, dirty: VcpuSet(0) }
    }

    /// What it was made of.
    #[must_use]
    pub const fn config(&self) -> &PlatformConfig {
        self.board.config()
    }

    /// After an access: who is to look again.
    fn settle<R>(&mut self, result: R) -> R {
        self.dirty.0 |= self.board.take_kicks().0;
        result
    }

    /// What a write to a local APIC asked for.
    fn sent(&mut self, vcpu: usize, sent: Sent) {
        if let Some(vector) = sent.eoi {
            self.board.eoi(vector);
        }
        self.dirty.0 |= sent.kicks.0 | 1u64.checked_shl(vcpu as u32).unwrap_or(0);
        self.settle(());
    }

    /// Brings every timer up to `now`.
    pub fn advance(&mut self, now: Now) {
        self.board.advance(now);
        for (vcpu, apic) in self.apics.iter_mut().enumerate() {
            let before = apic.pending();
            apic.catch_up(now);
            self.dirty.0 |= u64::from(apic.pending() != before) << vcpu;
        }
        self.settle(());
    }

    /// The guest TSC at which some interrupt line may change next by time alone.
    #[must_use]
    pub fn next_event(&self) -> Option<u64> {
        let next = self.apics.iter().fold(self.bus.deadline(), |next, apic| next.min(apic.deadline()));
        (next != u64::MAX).then_some(next)
    }

    /// IN of `size` bytes.
    pub fn io_read(&mut self, port: u16, size: u8, now: Now) -> u32 {
        self.advance(now);
        let value = self.board.io_read(port, size, now);
        self.settle(value)
    }

    /// OUT of the low `size` bytes of `value`.
    pub fn io_write(&mut self, port: u16, size: u8, value: u32, now: Now) -> Option<Effect> {
        self.advance(now);
        let effect = self.board.io_write(port, size, value, now);
        self.settle(effect)
    }

    /// A load of `size` bytes by `vcpu`.
    pub fn mmio_read(&mut self, vcpu: usize, gpa: Gpa, size: u8, now: Now) -> u64 {
        self.advance(now);
        let value = match self.apics.get_mut(vcpu) {
            Some(apic) if LocalApic::is_at(gpa) => apic.mmio_read(gpa, size, now),
            _ => self.board.mmio_read(gpa, size, now),
        };
        self.settle(value)
    }

    /// A store of the low `size` bytes of `value` by `vcpu`.
    pub fn mmio_write(&mut self, vcpu: usize, gpa: Gpa, size: u8, value: u64, now: Now) -> Option<Effect> {
        self.advance(now);
        match self.apics.get_mut(vcpu) {
            Some(apic) if LocalApic::is_at(gpa) => {
                let sent = apic.mmio_write(gpa, size, value, now);
                self.sent(vcpu, sent);
                None
            }
            _ => {
                let effect = self.board.mmio_write(gpa, size, value, now);
                self.settle(effect)
            }
        }
    }

    /// RDMSR by `vcpu`.
    ///
    /// # Errors
    /// [`GpFault`] where the processor would raise #GP(0).
    pub fn msr_read(&mut self, vcpu: usize, msr: u32, now: Now) -> Result<u64, GpFault> {
        self.advance(now);
        self.apics.get_mut(vcpu).ok_or(GpFault)?.msr_read(msr, now)
    }

    /// WRMSR by `vcpu`.
    ///
    /// # Errors
    /// [`GpFault`] where the processor would raise #GP(0); nothing is changed then.
    pub fn msr_write(&mut self, vcpu: usize, msr: u32, value: u64, now: Now) -> Result<(), GpFault> {
        self.advance(now);
        let sent = self.apics.get_mut(vcpu).ok_or(GpFault)?.msr_write(msr, value, now)?;
        self.sent(vcpu, sent);
        Ok(())
    }

    /// Whether the pending interrupt of `vcpu` may have changed since [`Whole::pending_interrupt`] was asked.
    #[must_use]
    pub fn irq_dirty(&self, vcpu: usize) -> bool {
        self.dirty.contains(vcpu)
    }

    /// All vCPUs for which [`Whole::irq_dirty`] holds.
    #[must_use]
    pub fn irq_dirty_set(&self) -> VcpuSet {
        self.dirty
    }

    /// The vector that `vcpu` should take now, if it can.
    pub fn pending_interrupt(&mut self, vcpu: usize) -> Option<u8> {
        self.dirty.0 &= !(1u64.checked_shl(vcpu as u32).unwrap_or(0));
        let apic = self.apics.get_mut(vcpu)?;
        apic.collect();
        self.board.ext_int(apic).or_else(|| apic.pending())
    }

    /// `vcpu` takes the vector that [`Whole::pending_interrupt`] named.
    pub fn accept(&mut self, vcpu: usize, vector: u8) {
        if let Some(apic) = self.apics.get_mut(vcpu) {
            if self.board.ext_int(apic) == Some(vector) {
                self.board.accept_ext_int();
            } else {
                apic.accept(vector);
            }
        }
        self.dirty.0 |= 1u64.checked_shl(vcpu as u32).unwrap_or(0);
        self.settle(());
    }

    /// Has the local APIC of `vcpu` do something that marks it.
    pub fn with_apic<R>(&mut self, vcpu: usize, f: impl FnOnce(&mut LocalApic) -> R) -> Option<R> {
        let apic = self.apics.get_mut(vcpu)?;
        apic.collect();
        let result = f(apic);
        self.dirty.0 |= 1u64.checked_shl(vcpu as u32).unwrap_or(0);
        Some(result)
    }

    /// Whether an NMI waits for `vcpu`, which has taken it then.
    pub fn take_nmi(&mut self, vcpu: usize) -> bool {
        self.apics.get_mut(vcpu).is_some_and(|apic| {
            apic.collect();
            apic.take_nmi()
        })
    }

    /// INIT and start-up IPI that have come for `vcpu`, which has taken them then.
    pub fn take_init_sipi(&mut self, vcpu: usize) -> InitSipi {
        self.apics.get_mut(vcpu).map_or_else(InitSipi::default, |apic| {
            apic.collect();
            apic.take_init_sipi()
        })
    }

    /// Types `bytes` at COM1.
    pub fn uart_input(&mut self, bytes: &[u8], now: Now) -> usize {
        self.advance(now);
        let taken = self.board.uart_input(bytes, now);
        self.settle(taken)
    }

    /// Moves guest output of COM1 into `buf`.
    pub fn uart_output(&mut self, buf: &mut [u8]) -> usize {
        let moved = self.board.uart_output(buf);
        self.settle(moved)
    }

    /// Presses the power button.
    pub fn press_power_button(&mut self) {
        self.board.press_power_button();
        self.settle(());
    }

    /// Pulses the board's NMI line.
    pub fn raise_nmi(&mut self) {
        self.board.raise_nmi();
        self.settle(());
    }

    /// Lets the functions on the PCI bus work on the guest's memory. True where there is work left.
    pub fn service(&mut self, memory: &dyn GuestMemory, host: &mut dyn Host, now: Now) -> bool {
        self.advance(now);
        let again = self.board.service(memory, host, now);
        self.settle(again)
    }

    /// The state of every device. Call [`Whole::advance`] first.
    #[must_use]
    pub fn export(&self) -> Vec<StateRecord> {
        self.board.export(self.apics.iter().map(LocalApic::export))
    }

    /// Takes over the state of a machine with the same configuration, all of it or nothing.
    ///
    /// # Errors
    /// As [`Platform::import`].
    pub fn import(&mut self, records: &[StateRecord]) -> Result<(), StateError> {
        let imported = self.board.import(records)?;
        self.apics.iter_mut().zip(&imported).for_each(|(apic, came)| apic.become_like(came));
        self.settle(());
        Ok(())
    }
}
