//! The console of a guest on the terminal.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt::Write;
use shell::{Attach, AttachEvent, ESCAPE};

use super::Port;
use super::session::Attachment;
use crate::log as host_log;
use crate::vm::{Vm, registry};

/// Bytes that may wait for the port: more would still come long after the operator has left.
const AHEAD: usize = 2 << 10;
/// Bytes that the guest has not taken yet and that are kept.
const TYPED: usize = 4 << 10;

/// Shows what a guest prints, and types at it.
pub(super) struct Viewer {
    port: Port,
    vm: Arc<Vm>,
    attach: Attach,
    /// How much of what the guest has printed was shown.
    seen: u64,
    /// For the guest, once it takes it.
    typed: VecDeque<u8>,
}

impl Viewer {
    /// Begins with the history.
    pub(super) fn new(Attachment { vm, read_only }: Attachment, mut port: Port) -> Self {
        let attach = if read_only { Attach::read_only(ESCAPE) } else { Attach::new(ESCAPE) };
        let _ = attach.write_help(&vm.name.get(), &mut port);
        vm.drain_uart();
        let console = vm.console.lock();
        let (older, newer) = console.ring.replay();
        let seen = console.ring.total().saturating_sub((older.len() + newer.len()) as u64);
        drop(console);
        Self { port, vm, attach, seen, typed: VecDeque::new() }
    }

    pub(super) fn name(&self) -> String {
        self.vm.name.get().to_string()
    }

    /// Whether the VM is not on this host any more.
    pub(super) fn is_gone(&self) -> bool {
        registry::find(&self.name()).is_none()
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
                let _ = self.attach.write_help(&self.vm.name.get(), &mut self.port);
            }
            AttachEvent::Ignored => self.bell(),
            AttachEvent::Detach => return true,
        }
        self.offer();
        false
    }

    fn bell(&self) {
        host_log::raw(self.port.0, "\x07");
    }

    fn keep(&mut self, byte: u8) {
        if self.typed.len() < TYPED { self.typed.push_back(byte) } else { self.bell() }
    }

    /// Gives the guest what it takes. True where it took something.
    fn offer(&mut self) -> bool {
        let mut any = false;
        while let Some(&byte) = self.typed.front()
            && self.vm.offer(byte)
        {
            self.typed.pop_front();
            any = true;
        }
        any
    }

    /// Shows what has been printed, as far as the port keeps up. True where something happened.
    pub(super) fn poll(&mut self) -> bool {
        let typed = self.offer();
        self.vm.drain_uart();
        let mut room = AHEAD.saturating_sub(host_log::waiting(self.port.0));
        let console = self.vm.console.lock();
        let (lost, (older, newer)) = console.ring.since(self.seen);
        if lost > 0 && room > 0 {
            let _ = writeln!(self.port, "\n[{lost} bytes came faster than this line takes them]");
            self.seen += lost;
        }
        let mut any = false;
        for part in [older, newer] {
            let part = part.get(..room).unwrap_or(part);
            host_log::bytes(self.port.0, part);
            self.seen += part.len() as u64;
            room -= part.len();
            any |= !part.is_empty();
        }
        typed || any || self.seen < console.ring.total()
    }
}
