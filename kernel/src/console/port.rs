//! A serial port of the host that is COM1 of a guest.

use alloc::string::String;

use crate::arch::serial::{Registers, Serial};
use crate::vm::registry;
use cmdline::MAX_BAUD;

/// The port, and the VM it belongs to, by name: the VM may come and go.
pub(super) struct GuestPort {
    serial: Serial,
    vm: String,
    /// Typed, and not yet taken by the guest's UART.
    typed: Option<u8>,
}

impl GuestPort {
    pub(super) fn open(base: u16, vm: &str) -> Option<Self> {
        Some(Self { serial: Serial::open(Registers::Io(base), Some(MAX_BAUD))?, vm: vm.into(), typed: None })
    }

    /// Moves bytes both ways, as many as the UARTs take at once.
    pub(super) fn poll(&mut self) -> bool {
        let Some(vm) = registry::find(&self.vm) else { return false };
        let mut busy = false;
        vm.drain_uart();
        let mut console_lock = vm.console.lock();
        let console = &mut *console_lock;
        let waiting = console.waiting.get_or_insert_with(|| {
            // What it printed before it came here is for `console VM`.
            let (older, newer) = console.ring.since(console.came_with).1;
            older.iter().chain(newer).copied().collect()
        });
        if !waiting.is_empty() {
            let count = self.serial.room().min(waiting.len());
            for byte in waiting.drain(..count) {
                self.serial.put(byte);
                busy = true;
            }
        }
        drop(console_lock);
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
