//! The operator's console on the host's serial ports, and the serial ports of guests.

mod answer;
mod audit;
mod commands;
mod cpu;
mod create;
mod dirty;
mod events;
mod exits;
mod flex;
mod host;
mod inspect;
mod ledger;
mod lines;
mod list;
mod migrate;
mod mitigations;
mod msr;
mod names;
mod net;
mod out;
mod pool;
mod port;
mod remote;
mod selftest;
mod session;
mod top;
mod viewer;
mod vm;
mod waits;
mod watch;
mod who;

use alloc::string::ToString;
use alloc::vec::Vec;
use cmdline::{SerialUse, Uart};
use core::fmt::Write;
use shell::{
    Code, Event, Failure, LineEditor, MAX_LINE, PROMPT, Paged, Pager, TermSettings, TypeAhead, Typed,
};

use crate::boot::Boot;
use crate::ended::Ended;
use crate::log as host_log;
use crate::migration::Migrations;
use crate::sessions::Entry;
use crate::vm::usage;
use names::Known;
use out::Out;
use port::GuestPort;
pub(crate) use remote::Remote;
pub(crate) use session::Work;
use session::{Session, Step, finish};
use viewer::Viewer;

/// Bytes typed that one turn of the management loop looks at.
const BURST: usize = 64;

/// The console; CPU 0's management loop owns it.
pub(crate) struct Console {
    terminals: Vec<Terminal>,
    ports: Vec<GuestPort>,
    usage: usage::Meter,
}

/// One of the console's serial ports, with a prompt of its own.
struct Terminal {
    port: Port,
    editor: LineEditor,
    session: Session,
    viewer: Option<Viewer>,
    pager: Pager,
    /// How a command has ended whose answer is not all shown.
    result: Option<Result<(), Failure>>,
    /// For `sessions`.
    entry: Entry,
}

/// Text to a serial port, a screen at a time.
struct Screen<'a> {
    pager: &'a mut Pager,
    port: Port,
}

impl Write for Screen<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.pager.print(text, &mut self.port)
    }
}

/// Text to a serial port of the console, as it is.
#[derive(Clone, Copy)]
struct Port(usize);

impl Write for Port {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        host_log::raw(self.0, text);
        Ok(())
    }
}

impl Console {
    /// The console, with the serial ports that the boot line gives to guests.
    pub(crate) fn new(boot: &Boot) -> Self {
        let options = &boot.options;
        let mut ports = Vec::new();
        for (number, base, used_by) in
            [(1, cmdline::COM1_PORT, &options.com1), (2, cmdline::COM2_PORT, &options.com2)]
        {
            let SerialUse::Vm(name) = used_by else { continue };
            if boot.consoles.contains(&Uart::Io(base)) {
                log::warn!(target: "console", "COM{number} is the host's console: not given to vm {name}");
            } else if let Some(port) = GuestPort::open(base, name) {
                log::info!(target: "console", "COM{number} is COM1 of vm {name}");
                ports.push(port);
            } else {
                log::warn!(target: "console", "COM{number} does not answer: vm {name} has no port");
            }
        }
        Self {
            terminals: (0..host_log::ports()).map(|number| Terminal::new(number, boot)).collect(),
            ports,
            usage: usage::Meter::default(),
        }
    }

    /// The first prompts.
    pub(crate) fn start(&mut self) {
        self.terminals.iter_mut().for_each(Terminal::prompt);
    }

    /// Takes what was typed, shows what guests printed. True where something happened.
    pub(crate) fn poll(&mut self, migrations: &mut Migrations) -> bool {
        let mut busy = false;
        self.usage.poll();
        for port in &mut self.ports {
            busy |= port.poll();
        }
        for terminal in &mut self.terminals {
            busy |= terminal.poll(migrations);
        }
        busy | host_log::pump()
    }

    /// What a command may have begun is over.
    pub(crate) fn ended(&mut self, work: Work, ended: &Ended) {
        for terminal in &mut self.terminals {
            terminal.ended(work, ended);
        }
    }
}

impl Terminal {
    fn new(number: usize, boot: &Boot) -> Self {
        let name = boot.consoles.get(number).map_or_else(|| "none".into(), ToString::to_string);
        Self {
            pager: Pager::default(),
            result: None,
            entry: Entry::new("console", name, None),
            port: Port(number),
            editor: LineEditor::new(PROMPT),
            session: Session::default(),
            viewer: None,
        }
    }

    /// The same as [`Console::poll`] for this port.
    fn poll(&mut self, migrations: &mut Migrations) -> bool {
        let Port(number) = self.port;
        let mut busy = self.show_guest();
        // What follows an answer waits until the port has room for that.
        if host_log::is_behind(number) {
            return true;
        }
        if self.pager.holds() {
            self.turn_page(migrations);
        } else if self.session.waits() {
            self.wait(migrations);
        }
        self.say_what_was_lost();
        for _ in 0..BURST {
            if self.session.waits() || self.pager.holds() || host_log::is_behind(number) {
                break;
            }
            let Some(byte) = host_log::typed(number, TypeAhead::pop) else { break };
            busy = true;
            if self.viewer.is_some() {
                self.type_to_guest(byte);
            } else if self.edit(byte, migrations) {
                break; // one command a turn, however many are pasted
            }
        }
        if host_log::prompt_is_gone(number) {
            self.prompt();
        }
        busy
    }

    /// Goes on with what a command began; what is typed is kept until that is over. Ctrl-C ends it.
    fn wait(&mut self, migrations: &mut Migrations) {
        let mut port = self.port;
        let mut screen = Screen { pager: &mut self.pager, port };
        let paged = self.session.is_paged();
        let ansi = self.editor.term().1;
        let out = &mut if paged { Out::terminal(&mut screen, ansi) } else { Out::terminal(&mut port, ansi) };
        if self.session.can_interrupt() && host_log::typed(self.port.0, TypeAhead::interrupt) {
            self.session.interrupt(migrations, out);
        }
        // A task that reads keys has them before the prompt; the first one that is not for it stays, and all behind it.
        while host_log::typed(self.port.0, |typed| {
            typed.first().is_some_and(|byte| self.session.key(byte) && typed.pop().is_some())
        }) {}
        if let Some(result) = self.session.poll(migrations, out) {
            self.end(result);
        }
    }

    /// A key at the end of a screen; what follows an answer waits until it has been shown.
    fn turn_page(&mut self, migrations: &mut Migrations) {
        while self.pager.holds()
            && let Some(byte) = host_log::typed(self.port.0, TypeAhead::pop)
        {
            let mut port = self.port;
            if self.pager.key(byte, &mut port) == Ok(Paged::Left) && self.session.waits() {
                self.session.interrupt(migrations, &mut Out::new(&mut port));
            }
        }
        if let Some(result) = self.result.take_if(|_| !self.pager.holds()) {
            self.end(result);
        }
    }

    /// A command is over.
    fn end(&mut self, result: Result<(), Failure>) {
        if self.pager.holds() {
            self.result = Some(result);
            return;
        }
        self.pager.begin();
        finish(result, &mut Out::new(&mut self.port));
        self.prompt();
    }

    /// A line of which a part is lost must not be run.
    fn say_what_was_lost(&mut self) {
        let Some(Typed { lines, bytes, begun }) = host_log::typed(self.port.0, TypeAhead::take_lost) else {
            return;
        };
        if begun && self.viewer.is_none() {
            self.editor.give_up();
        }
        let plural = if lines == 1 { "line" } else { "lines" };
        log::warn!(target: "console", "{lines} {plural} ({bytes} bytes) came faster than they were read: dropped");
    }

    fn ended(&mut self, work: Work, ended: &Ended) {
        let out = &mut Out::new(&mut self.port);
        if let Some(result) = self.session.ended(work, ended, out) {
            self.end(result);
        }
    }

    fn prompt(&mut self) {
        self.entry.doing(None);
        host_log::set_prompt(self.port.0, false);
        self.editor.prompt(&mut self.port);
        host_log::set_prompt(self.port.0, true);
    }

    /// True where that ran a command.
    fn edit(&mut self, byte: u8, migrations: &mut Migrations) -> bool {
        if host_log::prompt_is_gone(self.port.0) {
            self.prompt();
        }
        let port = self.port;
        self.pager.begin();
        let step = match self.editor.input(byte, &Known, &mut self.port) {
            None => return false,
            Some(Event::Interrupt) => Step::Nothing,
            Some(Event::TooLong(by)) => {
                host_log::set_prompt(self.port.0, false);
                let text =
                    alloc::format!("the line is {by} bytes too long: at most {MAX_LINE}, nothing was done");
                Step::Answered(Err(Failure::new(Code::Usage, text)))
            }
            Some(Event::Line(line)) => {
                host_log::set_prompt(port.0, false);
                // A secret is for nobody's eyes.
                let shown = line.get(..shell::secret_at(line).unwrap_or(line.len())).unwrap_or_default();
                self.entry.doing(Some(shown.trim().into()));
                let mut screen = Screen { pager: &mut self.pager, port };
                self.session.run(line, migrations, &mut Out::new(&mut screen))
            }
        };
        match step {
            Step::Nothing => self.prompt(),
            Step::Answered(result) => self.end(result),
            Step::Waits => {}
            Step::Attach(attachment) => self.viewer = Some(Viewer::new(attachment, self.port)),
            Step::Term(settings) => self.term(settings),
            Step::Exit => {
                let _ = self.port.write_str("this console has no login to end: see `help exit`\n");
                self.end(Ok(()));
            }
        }
        true
    }

    fn term(&mut self, settings: TermSettings) {
        if let Some(term) = settings.term {
            self.editor.set_term(term);
        }
        if let Some(columns) = settings.columns {
            self.editor.set_columns(columns.into());
        }
        let rows = settings.rows.map_or(self.pager.rows(), |rows| Some(rows.into()));
        self.pager.set_size(rows, self.editor.columns());
        if settings == TermSettings::NONE {
            let (term, ansi) = self.editor.term();
            let sequences = if ansi { "gets ESC sequences" } else { "gets no ESC sequences" };
            let columns = self.editor.columns();
            let rows = self.pager.rows().map_or_else(|| "not known".into(), |rows| rows.to_string());
            let _ =
                writeln!(self.port, "terminal {}, {sequences}, {columns} columns, rows {rows}", term.name());
        }
        finish(Ok(()), &mut Out::new(&mut self.port));
        self.prompt();
    }

    fn type_to_guest(&mut self, byte: u8) {
        if self.viewer.as_mut().is_some_and(|viewer| viewer.key(byte)) {
            host_log::raw(self.port.0, "\n");
            self.detach();
        }
    }

    fn detach(&mut self) {
        if let Some(viewer) = self.viewer.take() {
            viewer.close();
        }
        finish(Ok(()), &mut Out::new(&mut self.port));
        self.prompt();
    }

    /// Shows what the attached guest has printed; one that is gone detaches by itself.
    fn show_guest(&mut self) -> bool {
        let Some(viewer) = &mut self.viewer else { return false };
        let busy = viewer.poll();
        if !busy && viewer.is_gone() {
            let _ = writeln!(self.port, "\nvm {} is not on this host any more", viewer.name());
            self.detach();
        }
        busy
    }
}
