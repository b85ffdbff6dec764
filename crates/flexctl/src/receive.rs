//! `receive`: the target of a migration that keeps the VM in a file.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::task::Poll;

use anyhow::{Context, Result, bail};
use cpu_policy::GuestPolicy;
use migrate::body::Fate;
use migrate::handover::{Deal, TargetAction, TargetInput, TargetOwner, stranger};
use migrate::{
    Id, Offer, Origin, PAGE_BYTES, Target, TargetEvent, TargetMemory, TargetOutcome, TargetParams, TargetVm,
    Tuning,
};
use secure_link::Security;
use vm_file::{Image, Meta, State, Writer};
use vm_types::{Gpa, MemoryError, StateError, StateRecord};

use crate::disk::{Disk, sync_folder};
use crate::peer::{Bar, Clock, HZ, Link, pause, random};
use crate::settle::{Pace, ask};
use crate::{Answer, Keys, object};

/// Seconds for which a source that has not confirmed the end may still ask.
const CONFIRM: u64 = 60;

pub(crate) fn run(path: &Path, listen: SocketAddr, keys: &Keys, json: bool) -> Result<Answer> {
    let security = keys.security()?;
    if path.exists() {
        bail!("{}: it exists; a VM goes to a new file", path.display());
    }
    let listener = TcpListener::bind(listen).with_context(|| listen.to_string())?;
    listener.set_nonblocking(true)?;
    eprintln!("listening on {}", listener.local_addr()?);
    let mut peer = Storing::new(path, random()?);
    loop {
        let Ok((stream, from)) = listener.accept() else {
            pause();
            continue;
        };
        if let Some(outcome) = peer.take(stream, from, &security) {
            let (name, text) = match outcome {
                Taken::Owns { confirmed } => {
                    if !confirmed {
                        peer.confirm(&listener, &security);
                    }
                    return Ok(peer.ended(State::Owner, "the VM is the file's", json));
                }
                Taken::Held(from) => peer.hold(&listener, &security, from),
                Taken::Copied => {
                    (State::Checkpoint, "a copy is the file's; the VM runs on at its source".into())
                }
                Taken::Failed(why) => (State::Incomplete, why),
            };
            return Ok(peer.ended(name, &text, json));
        }
    }
}

enum Taken {
    /// The file owns the VM. Whether the source knows.
    Owns {
        confirmed: bool,
    },
    /// The source is lost, and where to ask it.
    Held(Option<SocketAddr>),
    /// A copy is here; the VM is the source's.
    Copied,
    Failed(String),
}

/// The VM that arrives.
struct Storing {
    path: PathBuf,
    boot: Id,
    name: String,
    writer: Option<Writer<Disk>>,
    image: Option<Image<Disk>>,
    deal: Option<Deal>,
    /// The VM stays at its source.
    copy: bool,
    owner: TargetOwner,
    bar: Bar,
    /// What the file system said, where it failed.
    fault: Option<String>,
}

impl Storing {
    fn new(path: &Path, boot: Id) -> Self {
        Self {
            path: path.to_path_buf(),
            boot,
            name: String::new(),
            writer: None,
            image: None,
            deal: None,
            copy: false,
            owner: TargetOwner::Filling,
            bar: Bar::default(),
            fault: None,
        }
    }

    /// One connection; what came of it, unless it changed nothing.
    fn take(&mut self, stream: TcpStream, from: SocketAddr, security: &Security) -> Option<Taken> {
        let mut link = match Link::answer(stream, security, self.bar.clone()) {
            Ok(link) => link,
            Err(why) => {
                eprintln!("{from}: {why}");
                return None;
            }
        };
        let clock = Clock::start();
        let params = TargetParams { boot: self.boot, tuning: Tuning::default(), hz: HZ };
        let mut target = Target::new(params, clock.now());
        loop {
            let event = target.poll(clock.now(), &mut link, self);
            match event {
                TargetEvent::Waiting => pause(),
                TargetEvent::Working => {}
                TargetEvent::Greeted => {
                    self.deal = target.deal();
                    self.name = target.hello().map(|hello| hello.vm_name.clone()).unwrap_or_default();
                    eprintln!("{}: offered by {from}", self.name);
                }
                TargetEvent::Accepted => eprintln!("{}: accepted, memory comes", self.name),
                TargetEvent::Round { round, pages, dirty } => {
                    eprintln!("{}: round {round}: {pages} pages here, {dirty} dirty next", self.name);
                }
                TargetEvent::Ready => eprintln!("{}: all here and safe, READY", self.name),
                TargetEvent::Running { .. } => self.owner = TargetOwner::Runs,
                TargetEvent::Asked(fate) => target.answer(&self.answer(&fate)),
                TargetEvent::Finished(outcome) => {
                    let fault = link.fault();
                    let port = target.hello().and_then(|hello| hello.port);
                    let confirmed = link.close();
                    return match outcome {
                        TargetOutcome::Runs if self.bar.is_shut() => Some(Taken::Held(None)),
                        TargetOutcome::Runs => Some(Taken::Owns { confirmed }),
                        TargetOutcome::Copied => Some(Taken::Copied),
                        TargetOutcome::Checked => {
                            eprintln!("{}: checked, it fits", self.name);
                            None
                        }
                        TargetOutcome::Answered => None,
                        TargetOutcome::Refused(why) => Some(Taken::Failed(format!("refused: {why}"))),
                        TargetOutcome::Held(reason) => {
                            eprintln!("{}: {reason}{fault}", self.name);
                            self.owner = TargetOwner::Held;
                            Some(Taken::Held(port.map(|port| SocketAddr::new(from.ip(), port))))
                        }
                        TargetOutcome::Failed(reason) => {
                            let file = self.fault.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
                            Some(Taken::Failed(format!("failed: {reason}{fault}{file}")))
                        }
                    };
                }
            }
        }
    }

    /// What this end says to one that asks, after taking in what that says.
    fn answer(&mut self, asked: &Fate) -> Fate {
        let Some(deal) = self.deal.clone().filter(|deal| deal.migration == asked.migration) else {
            return stranger(self.boot, asked);
        };
        if let Ok(word) = deal.hear(asked)
            && let Some(input) = TargetInput::from_peer(word)
        {
            self.step(input);
        }
        deal.say(self.owner.word(), 0)
    }

    /// Carries out what the hand-over decides.
    fn step(&mut self, input: TargetInput) {
        let (owner, action) = self.owner.step(input);
        match action {
            TargetAction::Run => {
                self.run(0);
                if self.bar.is_shut() {
                    return;
                }
            }
            TargetAction::Destroy => self.destroy(),
            TargetAction::Nothing | TargetAction::SendReady | TargetAction::Hold => {}
        }
        self.owner = owner;
    }

    /// The source is lost: waits for its question, and asks it.
    fn hold(
        &mut self,
        listener: &TcpListener,
        security: &Security,
        from: Option<SocketAddr>,
    ) -> (State, String) {
        eprintln!("{}: held: the source may have given it up; asking", self.name);
        let mut pace = Pace::new(u64::MAX);
        let mut stranger = false;
        loop {
            if self.bar.is_shut() {
                let why = self.fault.clone().unwrap_or_default();
                return (State::Held, format!("unknown: the file could not be marked: {why}"));
            }
            match self.owner {
                TargetOwner::Runs => return (State::Owner, "the VM is the file's".into()),
                TargetOwner::Gone => {
                    return (
                        State::Incomplete,
                        "failed: the source keeps the VM; the copy is removed".into(),
                    );
                }
                _ if stranger => {
                    return (
                        State::Held,
                        "unknown: the source has started anew and knows nothing of it".into(),
                    );
                }
                _ => {}
            }
            if let Ok((stream, from)) = listener.accept() {
                self.take_question(stream, from, security);
            } else if let (Some(to), Some(deal), true) = (from, self.deal.clone(), pace.due()) {
                let first = deal.say(self.owner.word(), 0);
                let bar = self.bar.clone();
                let asked = ask(to, security, &bar, &deal, &first, &mut |word, _| {
                    let input = TargetInput::from_peer(word)?;
                    stranger |= input == TargetInput::Stranger;
                    self.step(input);
                    matches!(self.owner, TargetOwner::Runs | TargetOwner::Gone)
                        .then(|| deal.say(self.owner.word(), 0))
                });
                if let Err(why) = asked {
                    eprintln!("{}: {to}: {why}", self.name);
                }
            } else {
                pause();
            }
        }
    }

    /// Lets a source that may not have read RUNNING ask.
    fn confirm(&mut self, listener: &TcpListener, security: &Security) {
        let pace = Pace::new(if self.deal.is_some() { CONFIRM } else { 0 });
        while !pace.is_over() {
            match listener.accept() {
                Ok((stream, from)) => {
                    if self.take_question(stream, from, security) {
                        return;
                    }
                }
                Err(_) => pause(),
            }
        }
    }

    /// Answers a question about the migration; whether there was one. A further VM is refused.
    fn take_question(&mut self, stream: TcpStream, from: SocketAddr, security: &Security) -> bool {
        let name = self.name.clone();
        let deal = self.deal.clone();
        let mut link = match Link::answer(stream, security, self.bar.clone()) {
            Ok(link) => link,
            Err(why) => {
                eprintln!("{from}: {why}");
                return false;
            }
        };
        let clock = Clock::start();
        let params = TargetParams { boot: self.boot, tuning: Tuning::default(), hz: HZ };
        let mut target = Target::new(params, clock.now());
        let mut asked = false;
        loop {
            match target.poll(clock.now(), &mut link, &mut Busy) {
                TargetEvent::Asked(fate) => {
                    asked = true;
                    target.answer(&self.answer(&fate));
                }
                TargetEvent::Finished(_) => break,
                TargetEvent::Waiting => pause(),
                _ => {}
            }
        }
        link.close();
        self.name = name;
        self.deal = deal;
        asked
    }

    fn ended(&self, state: State, text: &str, json: bool) -> Answer {
        let yes = matches!(state, State::Owner | State::Checkpoint);
        let file = self.path.display().to_string();
        let text = if json {
            object(|o| {
                o.field("file", file.as_str())?;
                o.field("vm", self.name.as_str())?;
                o.field("state", state.name())?;
                o.field("outcome", text)
            })
        } else {
            format!("{file}: {}: {text}\n", self.name)
        };
        Answer { text, yes: Some(yes) }
    }

    fn failed(&mut self, why: &vm_file::FileError) {
        self.fault.get_or_insert(why.to_string());
    }
}

impl TargetMemory for Storing {
    fn write_page(&mut self, gfn: u64, page: &[u8; PAGE_BYTES]) -> Result<(), MemoryError> {
        let written = self.writer.as_mut().map(|writer| writer.page(gfn, page));
        self.put(gfn, written)
    }

    fn read_page(&self, gfn: u64, page: &mut [u8; PAGE_BYTES]) -> Result<(), MemoryError> {
        let read = match (&self.writer, &self.image) {
            (Some(writer), _) => writer.read(gfn, page).ok(),
            (None, Some(image)) => image.page(gfn, page).ok(),
            (None, None) => None,
        };
        read.ok_or(MemoryError { gpa: Gpa(gfn.saturating_mul(4096)), len: PAGE_BYTES })
    }

    fn fill_page(&mut self, gfn: u64, word: u64) -> Result<(), MemoryError> {
        let written = self.writer.as_mut().map(|writer| writer.fill(gfn, word));
        self.put(gfn, written)
    }
}

impl Storing {
    fn put(&mut self, gfn: u64, done: Option<Result<(), vm_file::FileError>>) -> Result<(), MemoryError> {
        let error = MemoryError { gpa: Gpa(gfn.saturating_mul(4096)), len: PAGE_BYTES };
        match done {
            Some(Ok(())) => Ok(()),
            Some(Err(why)) => {
                self.failed(&why);
                Err(error)
            }
            None => Err(error),
        }
    }
}

impl Storing {
    fn keep(
        &mut self,
        write: impl FnOnce(&mut Writer<Disk>) -> Result<(), vm_file::FileError>,
    ) -> Result<(), String> {
        let writer = self.writer.as_mut().ok_or("it is not made")?;
        write(writer).map_err(|why| why.to_string())
    }
}

impl TargetVm for Storing {
    fn stores(&self) -> bool {
        true
    }

    fn check(&mut self, offer: &Offer<'_>) -> Result<(), String> {
        let guest = GuestPolicy::decode(offer.policy).map_err(|error| format!("CPU policy: {error}"))?;
        guest.check_vcpus(offer.shape.vcpus).map_err(|error| error.to_string())?;
        if self.path.exists() {
            return Err(format!("file {} exists", self.path.display()));
        }
        Ok(())
    }

    fn create(&mut self, offer: &Offer<'_>) -> Poll<Result<(), String>> {
        self.copy = offer.hello.is_copy();
        let meta = Meta {
            name: offer.hello.vm_name.clone(),
            uuid: offer.hello.vm_uuid,
            shape: offer.shape.clone(),
            policy: offer.policy.to_vec(),
            companion: offer.companion.to_vec(),
            migration: offer.hello.migration,
            origin: offer.origin.cloned(),
        };
        let made = Disk::create(&self.path).and_then(|disk| Ok(Writer::new(disk, &meta)?));
        Poll::Ready(made.map(|writer| self.writer = Some(writer)).map_err(|error| format!("{error:#}")))
    }

    fn wants(&mut self, origin: &Origin) -> Vec<u32> {
        origin.lacking(|_, _| true)
    }

    fn take_file(&mut self, number: u32, bytes: &[u8]) -> Result<(), String> {
        self.keep(|writer| writer.file(number, bytes))
    }

    fn end_file(&mut self, number: u32) -> Result<(), String> {
        self.keep(|writer| writer.end_file(number))
    }

    fn import_state(&mut self, records: &[StateRecord]) -> Result<(), StateError> {
        let error = |why: String| StateError { kind: "file".into(), why };
        let Some(writer) = self.writer.take() else { return Err(error("it is not made".into())) };
        let (state, deal) =
            if self.copy { (State::Checkpoint, None) } else { (State::Held, self.deal.clone()) };
        let image = writer.finish(records.to_vec(), state, deal);
        self.image = Some(image.map_err(|why| error(why.to_string()))?);
        sync_folder(&self.path).map_err(error)
    }

    fn run(&mut self, _elapsed_ns: u64) {
        let done = self.image.as_mut().map(|image| image.set_state(State::Owner, self.deal.clone()));
        match done {
            Some(Ok(())) => {}
            Some(Err(why)) => {
                self.failed(&why);
                self.bar.shut();
            }
            None => self.bar.shut(),
        }
    }

    fn destroy(&mut self) {
        self.writer = None;
        self.image = None;
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("{}: {error}", self.path.display());
        }
    }
}

/// Takes no VM.
struct Busy;

impl TargetMemory for Busy {
    fn write_page(&mut self, gfn: u64, _: &[u8; PAGE_BYTES]) -> Result<(), MemoryError> {
        Err(MemoryError { gpa: Gpa(gfn.saturating_mul(4096)), len: PAGE_BYTES })
    }

    fn read_page(&self, gfn: u64, _: &mut [u8; PAGE_BYTES]) -> Result<(), MemoryError> {
        Err(MemoryError { gpa: Gpa(gfn.saturating_mul(4096)), len: PAGE_BYTES })
    }

    fn fill_page(&mut self, gfn: u64, _: u64) -> Result<(), MemoryError> {
        Err(MemoryError { gpa: Gpa(gfn.saturating_mul(4096)), len: PAGE_BYTES })
    }
}

impl TargetVm for Busy {
    fn check(&mut self, _: &Offer<'_>) -> Result<(), String> {
        Err("this peer stores one VM and has it".into())
    }

    fn create(&mut self, _: &Offer<'_>) -> Poll<Result<(), String>> {
        Poll::Ready(Err("this peer stores one VM and has it".into()))
    }

    fn import_state(&mut self, _: &[StateRecord]) -> Result<(), StateError> {
        Err(StateError { kind: "file".into(), why: "it is not made".into() })
    }

    fn run(&mut self, _: u64) {}

    fn destroy(&mut self) {}
}
