//! The operator's console on the host's serial port, and the serial ports of guests.

mod audit;
mod commands;
mod cpu;
mod dirty;
mod exits;
mod flex;
mod host;
mod inspect;
mod ledger;
mod migrate;
mod mitigations;
mod msr;
mod net;
mod pool;
mod port;
mod session;
mod top;
mod vm;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cmdline::{HostOptions, SerialUse};
use shell::{Attach, AttachEvent, Code, ESCAPE, Event, Failure, LineEditor, PROMPT};

use crate::log as host_log;
use crate::migration::{Ended, Migrations};
use crate::vm::Vm;
use port::GuestPort;
pub(crate) use session::Work;
use session::{Attachment, Out, Session, Step, finish};

/// The console; CPU 0's management loop owns it.
pub(crate) struct Console {
    editor: LineEditor,
    session: Session,
    attached: Option<(Arc<Vm>, Attach)>,
    /// Typed while a command has not ended.
    ahead: VecDeque<u8>,
    ports: Vec<GuestPort>,
}

/// Bytes typed ahead that are kept.
const MAX_AHEAD: usize = 4 * shell::MAX_LINE;
/// Ctrl-C.
const INTERRUPT: u8 = 3;
const BELL: &str = "\x07";

/// Text to the console's serial port, as it is.
struct Port;

impl core::fmt::Write for Port {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        host_log::raw(format_args!("{text}"));
        Ok(())
    }
}

/// Prints what a guest printed. The log ends lines with CR LF itself.
fn print_guest(bytes: &[u8]) {
    for part in String::from_utf8_lossy(bytes).split('\r') {
        host_log::raw(format_args!("{part}"));
    }
}

impl Console {
    /// The console with the ports that the boot line gives to guests.
    pub(crate) fn new(options: &HostOptions) -> Self {
        let mut ports = Vec::new();
        for (number, base, used_by) in
            [(1, cmdline::COM1_PORT, &options.com1), (2, cmdline::COM2_PORT, &options.com2)]
        {
            let SerialUse::Vm(name) = used_by else { continue };
            if base == options.console.port {
                log::warn!(target: "console", "COM{number} is the host's console: not given to vm {name}");
            } else if let Some(port) = GuestPort::open(base, name) {
                log::info!(target: "console", "COM{number} is COM1 of vm {name}");
                ports.push(port);
            } else {
                log::warn!(target: "console", "COM{number} does not answer: vm {name} has no port");
            }
        }
        Self {
            editor: LineEditor::new(PROMPT),
            session: Session::default(),
            attached: None,
            ahead: VecDeque::new(),
            ports,
        }
    }

    /// The first prompt.
    pub(crate) fn start(&self) {
        self.prompt();
    }

    /// Takes what was typed, shows what guests printed. True where something happened.
    pub(crate) fn poll(&mut self, migrations: &mut Migrations) -> bool {
        let mut busy = false;
        for port in &mut self.ports {
            busy |= port.poll();
        }
        busy |= self.show_guest();
        busy |= self.wait(migrations);
        while !self.session.waits()
            && let Some(byte) = self.ahead.pop_front().or_else(host_log::read_byte)
        {
            busy = true;
            match &mut self.attached {
                Some(_) => self.type_to_guest(byte),
                None => self.edit(byte, migrations),
            }
        }
        busy | host_log::pump()
    }

    /// Goes on with what a command began, and keeps what is typed until that is over; Ctrl-C ends it.
    fn wait(&mut self, migrations: &mut Migrations) -> bool {
        let mut any = false;
        while self.session.waits()
            && let Some(byte) = host_log::read_byte()
        {
            any = true;
            if byte == INTERRUPT && self.session.can_interrupt() {
                self.ahead.clear();
                self.session.interrupt(migrations, &mut Out::new(&mut Port));
            } else if self.session.key(byte) {
            } else if self.ahead.len() < MAX_AHEAD {
                self.ahead.push_back(byte);
            } else {
                host_log::raw(format_args!("{BELL}"));
            }
        }
        if self.session.poll(migrations, &mut Out::new(&mut Port)) {
            self.prompt();
        }
        any
    }

    /// What a command may have begun is over.
    pub(crate) fn ended(&mut self, work: Work, ended: &Ended) {
        if self.session.ended(work, ended, &mut Out::new(&mut Port)) {
            self.prompt();
        }
    }

    fn prompt(&self) {
        self.editor.prompt(&mut Port);
    }

    fn edit(&mut self, byte: u8, migrations: &mut Migrations) {
        let mut port = Port;
        let out = &mut Out::new(&mut port);
        let step = match self.editor.input(byte, &mut Port) {
            None => return,
            Some(Event::Interrupt) => Step::Nothing,
            Some(Event::TooLong(by)) => {
                let text = alloc::format!("the line is {by} bytes too long");
                finish(Err(Failure::new(Code::Usage, text)), out);
                Step::Answered
            }
            Some(Event::Line(line)) => self.session.run(line, migrations, out),
        };
        match step {
            Step::Nothing | Step::Answered => self.prompt(),
            Step::Waits => {}
            Step::Attach(attachment) => self.attach(attachment),
        }
    }

    fn attach(&mut self, Attachment { vm }: Attachment) {
        let attach = Attach::new(ESCAPE);
        let _ = attach.write_help(&vm.name.get(), &mut Port);
        let console = vm.console.lock();
        let (old, new) = console.ring.replay();
        print_guest(old);
        print_guest(new);
        drop(console);
        vm.console.lock().waiting.clear();
        self.attached = Some((vm, attach));
    }

    fn type_to_guest(&mut self, byte: u8) {
        let Some((vm, attach)) = &mut self.attached else { return };
        match attach.input(byte) {
            AttachEvent::Wait => {}
            AttachEvent::Byte(byte) => vm.type_in(&[byte]),
            AttachEvent::Pair(first, second) => vm.type_in(&[first, second]),
            AttachEvent::Help => {
                let _ = attach.write_help(&vm.name.get(), &mut Port);
            }
            AttachEvent::Detach => self.detach(),
        }
    }

    fn detach(&mut self) {
        self.attached = None;
        host_log::raw(format_args!("\n"));
        self.session.detached(&mut Out::new(&mut Port));
        self.prompt();
    }

    /// Prints what the attached guest printed; a guest that is gone detaches by itself.
    fn show_guest(&mut self) -> bool {
        let Some((vm, _)) = &self.attached else { return false };
        vm.drain_uart();
        let mut console = vm.console.lock();
        let (one, two) = console.waiting.as_slices();
        let any = !one.is_empty();
        print_guest(one);
        print_guest(two);
        console.waiting.clear();
        drop(console);
        if crate::vm::registry::find(&vm.name.get()).is_none() {
            host_log::raw(format_args!("\nvm {} is not on this host any more\n", vm.name));
            self.detach();
        }
        any
    }
}
