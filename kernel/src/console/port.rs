//! A serial port of the host that is COM1 of a guest.

use alloc::string::String;

use crate::arch::serial::Serial;
use crate::vm::registry;

/// The port, and the VM it belongs to, by name: the VM may come and go.
pub(super) struct GuestPort {
    serial: Serial,
    vm: String,
    /// Typed, and not yet taken by the guest's UART.
    typed: Option<u8>,
}

impl GuestPort {
    pub(super) fn open(base: u16, vm: &str) -> Option<Self> {
        Some(Self { serial: Serial::open_guest(base)?, vm: vm.into(), typed: None })
    }

    /// Moves bytes both ways, as many as the UARTs take at once.
    pub(super) fn poll(&mut self) -> bool {
        let Some(vm) = registry::find(&self.vm) else { return false };
        let mut busy = false;
        vm.drain_uart();
        let mut console = vm.console.lock();
        if !console.waiting.is_empty() {
            let room = self.serial.room();
            let count = room.min(console.waiting.len());
            for byte in console.waiting.drain(..count) {
                self.serial.put(byte);
                busy = true;
            }
        }
        drop(console);
        loop {
            let Some(byte) = self.typed.take().or_else(|| self.serial.read_byte()) else { return busy };
            if !vm.offer(byte) {
                self.typed = Some(byte);
                return busy;
            }
            busy = true;
        }
    }
}
