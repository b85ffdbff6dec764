//! The board: every device that vCPUs share, the wires between them, and the one face that the hypervisor binds.

mod board;
mod io;
mod irq;
mod mmio;
mod state;
#[cfg(test)]
mod tests;

pub use board::FUNCTIONS;

use crate::config::{MAX_VCPUS, PlatformConfig};
use crate::device::Touched;
use crate::effect::VcpuSet;
use crate::lapic::ApicBus;
use crate::pci::{Bus, Socket};
use board::Board;
use virtio::Host;
use vm_types::{GuestMemory, Now};

/// The devices of one machine.
///
/// Time enters as `now` and must not run backwards. Accesses bring every timer up to `now` themselves.
pub struct Platform {
    config: PlatformConfig,
    board: Board,
    pci: Option<Bus>,
    apics: ApicBus,
    /// Levels of the ISA interrupt lines as last told to the PIC and the IO-APIC.
    lines: u16,
    /// The PIC's INTR as last looked at.
    intr: bool,
    /// vCPUs for which something was left since the last call of [`Platform::take_kicks`].
    kicks: VcpuSet,
    /// The earliest deadline of all timers in guest TSC.
    next: u64,
}

impl Platform {
    /// The board as firmware would hand it to an operating system, at guest TSC 0.
    #[must_use]
    pub fn new(config: &PlatformConfig, apics: &ApicBus) -> Self {
        Self::with_functions(config, FUNCTIONS, apics)
    }

    /// The same with these functions on its PCI bus, if it has one.
    #[must_use]
    pub fn with_functions(config: &PlatformConfig, functions: &[Socket], apics: &ApicBus) -> Self {
        let config = PlatformConfig { vcpus: config.vcpus.clamp(1, MAX_VCPUS), ..*config };
        apics.set_intr(false);
        apics.set_deadline(u64::MAX);
        Self {
            config,
            board: Board::new(&config),
            pci: config.pci.then(|| Bus::new(functions, &config)),
            apics: apics.clone(),
            lines: 0,
            intr: false,
            kicks: VcpuSet(0),
            next: u64::MAX,
        }
    }

    /// What it was made of.
    #[must_use]
    pub const fn config(&self) -> &PlatformConfig {
        &self.config
    }

    /// Brings every timer up to `now`. Cheap when nothing is due.
    #[inline]
    pub fn advance(&mut self, now: Now) {
        if now.tsc >= self.next {
            self.run_timers(now);
        }
    }

    fn run_timers(&mut self, now: Now) {
        let pulsed = self.board.run(now);
        self.pulse(pulsed);
        self.settle(Touched::BOTH);
    }

    fn update_next(&mut self) {
        self.next = self.board.deadline();
        self.apics.set_deadline(self.next);
    }

    /// Lets the functions on the PCI bus work on the guest's memory: as [`crate::Effect::Service`] asks, and once after the
    /// machine came from another host, before its guest runs. True where there is work left, since each call does a bounded
    /// amount.
    pub fn service(&mut self, memory: &dyn GuestMemory, host: &mut dyn Host, now: Now) -> bool {
        self.advance(now);
        let Some(pci) = &mut self.pci else { return false };
        let (again, touched) = pci.service(memory, host, now);
        self.settle(touched);
        again
    }

    /// Moves guest output of COM1 into `buf`; the count is what was moved.
    pub fn uart_output(&mut self, buf: &mut [u8]) -> usize {
        if self.board.uart.output_len() == 0 {
            return 0;
        }
        let n = self.board.uart.pop_output(buf);
        self.update_lines();
        n
    }

    /// Bytes of guest output that wait for [`Platform::uart_output`].
    #[must_use]
    pub fn uart_output_len(&self) -> usize {
        self.board.uart.output_len()
    }

    /// Whether [`Platform::uart_output`] or [`Platform::uart_dropped`] has something to tell.
    #[must_use]
    pub fn uart_has_output(&self) -> bool {
        self.board.uart.has_output()
    }

    /// Whether the guest may write to COM1: THRE. Where that comes back with [`Platform::uart_output`], an interrupt may
    /// be due.
    #[must_use]
    pub fn uart_takes_output(&self) -> bool {
        self.board.uart.can_send()
    }

    /// Bytes that the guest has written to COM1 although it took none, since the last call.
    pub fn uart_dropped(&mut self) -> u64 {
        self.board.uart.take_dropped()
    }

    /// Types `bytes` at COM1; the count is what was accepted, the rest should be offered again later.
    pub fn uart_input(&mut self, bytes: &[u8], now: Now) -> usize {
        self.advance(now);
        let n = self.board.uart.push_input(bytes, now);
        self.settle(Touched::BOTH);
        n
    }

    /// Presses the power button: an ACPI guest shuts itself down.
    pub fn press_power_button(&mut self) {
        self.board.pm.press_power_button();
        self.update_lines();
    }
}
