//! A serial port of the host that is COM1 of a guest.

use alloc::string::String;

use crate::guest::console::GuestConsole;
use crate::vm::registry;
use cmdline::MAX_BAUD;
use hw::arch::tsc;
use hw::platform::serial::{Registers, Serial};

/// Bytes given to the port at once: what its FIFO takes.
const BURST: usize = 16;

/// The port, and the VM it belongs to, by name: the VM may come and go.
pub(super) struct GuestPort {
    serial: Serial,
    vm: String,
    line: shell::GuestPort<GuestConsole>,
}

impl GuestPort {
    pub(super) fn open(base: u16, vm: &str) -> Option<Self> {
        let serial = Serial::open(Registers::Io(base), Some(MAX_BAUD))?;
        Some(Self { serial, vm: vm.into(), line: shell::GuestPort::new() })
    }

    /// Moves bytes both ways, as many as the UARTs take at once.
    pub(super) fn poll(&mut self) -> bool {
        let now = tsc::micros();
        let vm = registry::find(&self.vm);
        self.line.belongs_to(vm.as_ref().map(|vm| &vm.console), now);
        if let Some(vm) = &vm {
            vm.drain_uart();
        }
        let mut busy = self.line.waits() && self.send(now);
        busy |= self.listen();
        if let Some(vm) = &vm {
            busy |= self.line.offer(|byte| vm.offer(byte));
        }
        busy
    }

    fn send(&mut self, now: u64) -> bool {
        let mut bytes = [0; BURST];
        let room = self.serial.room().min(BURST);
        let count = self.line.take(&mut bytes[..room], now);
        bytes[..count].iter().for_each(|byte| self.serial.put(*byte));
        count > 0
    }

    fn listen(&mut self) -> bool {
        let mut heard = false;
        while self.line.takes_keys() {
            let (byte, lost) = self.serial.receive();
            if lost {
                self.line.keys_lost();
            }
            let Some(byte) = byte else { break };
            self.line.key(byte);
            heard = true;
        }
        heard
    }
}
