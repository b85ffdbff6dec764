//! The operator's console on the host's serial port, and the serial ports of guests.

mod audit;
mod commands;
mod cpu;
mod dirty;
mod flex;
mod ledger;
mod migrate;
mod mitigations;
mod pool;
mod port;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cmdline::{HostOptions, SerialUse};
use shell::{Attach, AttachEvent, Command, ESCAPE, Event, Failure, LineEditor, PROMPT};

use crate::arch::tsc;
use crate::log as host_log;
use crate::migration::{Ended, Migrations};
use crate::vm::Vm;
use port::GuestPort;

/// The console; CPU 0's management loop owns it.
pub(crate) struct Console {
    editor: LineEditor,
    attached: Option<(Arc<Vm>, Attach)>,
    /// What a command began and the prompt waits for.
    foreground: Option<Job>,
    /// Typed while it waits.
    ahead: VecDeque<u8>,
    /// When the live line was printed last, in host TSC ticks.
    shown: u64,
    ports: Vec<GuestPort>,
}

/// What goes on behind a command that has not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Job {
    /// One or more migrations from this host; `live`: with a line that is rewritten in place.
    Migration {
        /// Whether there is such a line.
        live: bool,
    },
    /// A question to the pool.
    Pool,
}

/// How often the live line is rewritten, in microseconds.
const LIVE_US: u64 = 500_000;
/// Bytes typed ahead that are kept.
const MAX_AHEAD: usize = 4 * shell::MAX_LINE;
/// Ctrl-C.
const INTERRUPT: u8 = 3;
const BELL: &str = "\x07";

/// Text to the console's serial port, as it is.
struct Out;

impl core::fmt::Write for Out {
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
            attached: None,
            foreground: None,
            ahead: VecDeque::new(),
            shown: 0,
            ports,
        }
    }

    /// The first prompt.
    pub(crate) fn start(&self) {
        self.editor.prompt(&mut Out);
    }

    /// Takes what was typed, shows what guests printed. True where something happened.
    pub(crate) fn poll(&mut self, migrations: &mut Migrations) -> bool {
        let mut busy = false;
        for port in &mut self.ports {
            busy |= port.poll();
        }
        busy |= self.show_guest();
        if let Some(job) = self.foreground {
            busy |= self.wait(job, migrations);
        }
        while self.foreground.is_none()
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

    /// Keeps what is typed until the job is over; Ctrl-C ends a migration.
    fn wait(&mut self, job: Job, migrations: &mut Migrations) -> bool {
        let mut any = false;
        while let Some(byte) = host_log::read_byte() {
            any = true;
            match (byte, job) {
                (INTERRUPT, Job::Migration { .. }) => {
                    self.ahead.clear();
                    if let Err(why) = migrations.cancel(None) {
                        host_log::raw(format_args!("{}\n", why.text));
                    }
                }
                _ if self.ahead.len() < MAX_AHEAD => self.ahead.push_back(byte),
                _ => host_log::raw(format_args!("{BELL}")),
            }
        }
        let now = tsc::read();
        if job == (Job::Migration { live: true })
            && now.saturating_sub(self.shown) >= tsc::ticks(LIVE_US)
            && let Some(report) = migrations.report()
        {
            self.shown = now;
            migrate::live(&report);
        }
        any
    }

    /// What a command may have begun is over.
    pub(crate) fn ended(&mut self, job: Job, ended: Ended) {
        // One that goes on behind the prompt says in the log how it ended.
        let waits = |own: &mut Job| core::mem::discriminant(own) == core::mem::discriminant(&job);
        if self.foreground.take_if(waits).is_some() {
            self.finish(match ended {
                Ended::Done => Ok(()),
                Ended::Refused(why) => Err(Failure::new(shell::Code::Refused, why)),
                Ended::Failed(why) => Err(Failure::new(shell::Code::Failed, why)),
            });
        }
    }

    fn edit(&mut self, byte: u8, migrations: &mut Migrations) {
        let line = match self.editor.input(byte, &mut Out) {
            None => return,
            Some(Event::Interrupt) => return self.editor.prompt(&mut Out),
            Some(Event::TooLong(by)) => {
                let text = alloc::format!("the line is {by} bytes too long");
                return self.finish(Err(Failure::new(shell::Code::Usage, text)));
            }
            Some(Event::Line(line)) => String::from(line),
        };
        match shell::parse(&line) {
            Ok(Command::Empty) => self.editor.prompt(&mut Out),
            Ok(command) => match self.execute(command, migrations) {
                Ok(commands::Done::Now) => self.finish(Ok(())),
                Ok(commands::Done::Later(job)) => self.foreground = Some(job),
                Ok(commands::Done::Attached) => {}
                Err(failure) => self.finish(Err(failure)),
            },
            Err(error) => self.finish(Err(error.into())),
        }
    }

    fn finish(&self, result: Result<(), Failure>) {
        match result {
            Ok(()) => host_log::raw(format_args!("ok\n")),
            Err(failure) => host_log::raw(format_args!("{failure}\n")),
        }
        self.editor.prompt(&mut Out);
    }

    fn attach(&mut self, vm: Arc<Vm>) {
        let attach = Attach::new(ESCAPE);
        let _ = attach.write_help(&vm.name, &mut Out);
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
                let _ = attach.write_help(&vm.name, &mut Out);
            }
            AttachEvent::Detach => self.detach(),
        }
    }

    fn detach(&mut self) {
        self.attached = None;
        host_log::raw(format_args!("\n"));
        self.finish(Ok(()));
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
        if crate::vm::registry::find(&vm.name).is_none() {
            host_log::raw(format_args!("\nvm {} is not on this host any more\n", vm.name));
            self.detach();
        }
        any
    }
}
