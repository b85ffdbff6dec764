//! The console of a guest on the terminal.

use alloc::string::{String, ToString};
use alloc::sync::{Arc, Weak};
use core::fmt::Write;
use shell::{Attach, AttachEvent, ESCAPE, GuestPort, Pace};

use super::Port;
use super::answer::Attachment;
use crate::guest::console::GuestConsole;
use crate::log as host_log;
use crate::vm::{State, Vm, registry};
use hw::arch::tsc;

/// Bytes that may wait for the port: more would still come long after the operator has left.
const AHEAD: usize = 2 << 10;
/// Bytes given to it at once.
const BURST: usize = 256;

/// Shows what a guest prints, and types at it.
pub(super) struct Viewer {
    port: Port,
    /// It does not keep the VM here.
    vm: Weak<Vm>,
    name: String,
    attach: Attach,
    line: GuestPort<GuestConsole>,
}

impl Viewer {
    /// Begins with the history.
    pub(super) fn new(Attachment { vm, read_only }: Attachment, mut port: Port) -> Self {
        let attach = if read_only { Attach::read_only(ESCAPE) } else { Attach::new(ESCAPE) };
        let name = vm.name.get().to_string();
        let _ = attach.write_help(&name, &mut port);
        let state = vm.state();
        if state != State::Running {
            let _ = writeln!(port, "vm {name} is {}: it prints and takes nothing now", state.name());
        }
        vm.drain_uart();
        // Who only looks on holds nobody up.
        let pace = if read_only { Pace::GoesOn } else { Pace::Waits };
        let line = GuestPort::replay(vm.console.clone(), pace, tsc::micros());
        Self { port, vm: Arc::downgrade(&vm), name, attach, line }
    }

    /// The VM's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A byte from the terminal. True where it detaches.
    pub(super) fn key(&mut self, byte: u8) -> bool {
        match self.attach.input(byte) {
            AttachEvent::Wait => {}
            AttachEvent::Byte(byte) => self.keep(byte),
            AttachEvent::Pair(first, second) => {
                self.keep(first);
                self.keep(second);
            }
            AttachEvent::Help => {
                let _ = self.attach.write_help(&self.name, &mut self.port);
            }
            AttachEvent::Ignored => self.bell(),
            AttachEvent::Detach => return true,
        }
        false
    }

    fn bell(&self) {
        host_log::raw(self.port.0, "\x07");
    }

    fn keep(&mut self, byte: u8) {
        if !self.line.key(byte) {
            self.bell();
        }
    }

    /// Shows what has been printed, as far as the port keeps up, and hands on what was typed. True where something
    /// happened, or is still to be shown.
    pub(super) fn poll(&mut self) -> bool {
        let now = tsc::micros();
        let vm = self.vm.upgrade().filter(registry::holds);
        let typed = match &vm {
            Some(vm) => {
                if !vm.name.is(&self.name) {
                    self.name = vm.name.get().to_string();
                }
                vm.drain_uart();
                self.line.offer(|byte| vm.offer(byte))
            }
            None => {
                self.line.belongs_to(None, now);
                false
            }
        };
        let mut bytes = [0; BURST];
        let mut any = false;
        loop {
            let room = AHEAD.saturating_sub(host_log::waiting(self.port.0)).min(BURST);
            let count = self.line.take(&mut bytes[..room], now);
            if count == 0 {
                break;
            }
            host_log::bytes(self.port.0, &bytes[..count]);
            any = true;
        }
        typed || any || self.line.waits()
    }

    /// Whether the VM is not on this host any more.
    pub(super) fn is_gone(&self) -> bool {
        self.vm.upgrade().is_none_or(|vm| !registry::holds(&vm))
    }

    /// Nobody waits for this terminal any more.
    pub(super) fn close(mut self) {
        self.line.close();
    }
}
