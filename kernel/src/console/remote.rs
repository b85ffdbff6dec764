//! The same commands over links: `flexctl --host`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use ::manage::{Asked, Server};
use cmdline::HostOptions;
use shell::{Code, Failure};

use super::out::Out;
use super::session::{Session, Step, Work};
use crate::ended::Ended;
use crate::link::{self, Link, Service};
use crate::migration::Migrations;
use crate::version::version;
use hw::arch::tsc;

/// Conversations at a time.
const MAX_SESSIONS: usize = 4;
/// A command that goes on waits while so many bytes of its output are not read.
const ENOUGH: usize = 64 << 10;

/// Everybody who manages this host from elsewhere.
pub(crate) struct Remote {
    on: bool,
    name: String,
    sessions: Vec<Conversation>,
}

/// One of them.
struct Conversation {
    link: Link,
    server: Server,
    session: Session,
    /// What runs.
    line: String,
    over: bool,
}

/// Output of a command on its way.
struct Outgoing<'a>(&'a mut Server);

impl fmt::Write for Outgoing<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.output(text);
        Ok(())
    }
}

impl Remote {
    /// Nobody yet; nobody ever unless the boot line says `manage=on`.
    pub(crate) fn new(options: &HostOptions) -> Self {
        let host = options.name.as_deref().unwrap_or("a host without name=");
        Self { on: options.manage, name: format!("{}, {host}", version()), sessions: Vec::new() }
    }

    /// Takes links, runs what they ask for. True while there are any.
    pub(crate) fn poll(&mut self, migrations: &mut Migrations) -> bool {
        if !self.on {
            return false;
        }
        while let Some(link) = link::take(Service::Manage) {
            match link.peer_key() {
                Some(key) => log::info!(target: "manage", "{}: begins, key {key}", link.peer()),
                None => log::info!(target: "manage", "{}: begins, INSECURE", link.peer()),
            }
            let server = Server::new(&self.name, tsc::micros());
            let session = Session::default();
            self.sessions.push(Conversation { link, server, session, line: String::new(), over: false });
        }
        link::offer(Service::Manage, Some(MAX_SESSIONS.saturating_sub(self.sessions.len())));
        for conversation in &mut self.sessions {
            if let Err(why) = conversation.poll(migrations) {
                conversation.give_up(&why, migrations);
            }
        }
        for Conversation { link, .. } in self.sessions.extract_if(.., |conversation| conversation.over) {
            link.close();
        }
        !self.sessions.is_empty()
    }

    /// What a command may have begun is over.
    pub(crate) fn ended(&mut self, work: Work, ended: &Ended) {
        for Conversation { link, server, session, .. } in &mut self.sessions {
            if let Some(result) = session.ended(work, ended, &mut Out::new(&mut Outgoing(server))) {
                link.doing(None);
                end(server, &result);
            }
        }
    }
}

fn end(server: &mut Server, result: &Result<(), Failure>) {
    server.end(result.as_ref().map_err(|failure| (failure.code.name(), failure.text.as_str())).copied());
}

impl Conversation {
    fn poll(&mut self, migrations: &mut Migrations) -> Result<(), String> {
        let now = tsc::micros();
        let server = &mut self.server;
        let open = self.link.poll(|bound| {
            let mut bytes = [0; 1024];
            // A bounded amount each time: what a peer sends is not to hold the host up.
            for _ in 0..4 {
                if !server.is_hungry() {
                    break;
                }
                let count = bound.recv(&mut bytes);
                server.feed(bytes.get(..count).unwrap_or_default(), now);
                if count == 0 {
                    break;
                }
            }
            let sent = bound.send(server.outgoing());
            server.sent(sent);
            bound.is_open()
        });
        while let Some(asked) = self.server.take().map_err(|error| format!("{error}"))? {
            match asked {
                // One a poll: whoever sends many lines ahead waits, not the host.
                Asked::Run(line) => {
                    self.run(&line, migrations);
                    break;
                }
                Asked::Interrupt => self.interrupt(migrations),
            }
        }
        let server = &mut self.server;
        if self.session.waits() && server.queued() < ENOUGH {
            let result = self.session.poll(migrations, &mut Out::new(&mut Outgoing(server)));
            if let Some(result) = result {
                self.link.doing(None);
                end(server, &result);
            }
        }
        server.poll(now).map_err(|error| format!("{error}"))?;
        if open { Ok(()) } else { Err(format!("ended{}", self.link.fault_text())) }
    }

    fn run(&mut self, line: &str, migrations: &mut Migrations) {
        let server = &mut self.server;
        // A secret is for nobody's log.
        let shown = line.get(..shell::secret_at(line).unwrap_or(line.len())).unwrap_or_default();
        log::info!(target: "manage", "{}: {}", self.link.peer(), shown.escape_debug());
        let step = self.session.run(line, migrations, &mut Out::new(&mut Outgoing(server)));
        let refused = |what: &str| {
            let text = format!("{what}: only at the host's own console");
            Some(Err(Failure::new(Code::Unsupported, text)))
        };
        let result = match step {
            Step::Nothing => Some(Ok(())),
            Step::Answered(result) => Some(result),
            Step::Waits => None,
            Step::Attach(_) => refused("console"),
            Step::Term(_) => refused("term"),
            // The other end closes the link; the answer lets it.
            Step::Exit => Some(Ok(())),
        };
        self.line = shown.into();
        self.link.doing(result.is_none().then(|| self.line.clone()));
        if let Some(result) = result {
            end(server, &result);
        }
    }

    fn interrupt(&mut self, migrations: &mut Migrations) {
        if self.session.can_interrupt() {
            self.session.interrupt(migrations, &mut Out::new(&mut Outgoing(&mut self.server)));
        }
    }

    /// Whoever asked is gone. What a task does is done for him alone and ends; a migration goes on.
    fn give_up(&mut self, why: &str, migrations: &mut Migrations) {
        let peer = self.link.peer();
        if self.session.waits() {
            let line = &self.line;
            log::warn!(target: "manage", "{peer}: {why}, while `{}` ran", line.escape_debug());
        } else {
            log::info!(target: "manage", "{peer}: {why}");
        }
        self.session.abandon(migrations);
        self.over = true;
    }
}
