//! `send`: the source of a migration whose VM is in a file.

use std::net::SocketAddr;
use std::path::Path;
use std::task::Poll;

use anyhow::{Context, Result};
use cpu_policy::GuestPolicy;
use migrate::handover::{Deal, SourceOwner};
use migrate::wire::RecordType;
use migrate::{Hello, PAGE_BYTES, Source, SourceEvent, SourceOutcome, SourceParams, SourceVm, Tuning};
use secure_link::{Security, Service};
use vm_file::{FileError, Image, State};
use vm_types::{Gpa, MemoryError, StateRecord};

use crate::disk::Disk;
use crate::peer::{Bar, Clock, HZ, Link, pause, random, resolve};
use crate::settle::{Side, settle};
use crate::{Answer, Keys, object};

/// What is sent of a file: its VM, or another one that begins as that VM was.
#[derive(Clone, Copy)]
pub(crate) enum What<'a> {
    Vm,
    /// With this name.
    Clone(Option<&'a str>),
}

pub(crate) fn run(
    path: &Path,
    host: &str,
    what: What<'_>,
    wait: u64,
    keys: &Keys,
    json: bool,
) -> Result<Answer> {
    let security = keys.security()?;
    let file = path.display().to_string();
    // Clones only read: they may begin side by side.
    let writes = matches!(what, What::Vm);
    let image = Image::open(Disk::open(path, writes)?).with_context(|| file.clone())?;
    let action = match (image.state(), what) {
        (State::Owner, What::Vm) | (State::Owner | State::Checkpoint, What::Clone(_)) => None,
        (State::Checkpoint, What::Vm) => {
            Some("its VM ran on elsewhere; it starts only as another one: say --clone")
        }
        (State::Used, _) => Some("a host runs its VM: it is not sent twice"),
        (State::Given, _) => Some("a host may run its VM: it is not sent twice"),
        (State::Held | State::Incomplete, _) => Some("its source may run the VM"),
    };
    if let Some(action) = action {
        return Err(FileError::State { is: image.state(), action }).context(file);
    }
    image.verify().with_context(|| file.clone())?;
    // A policy of another version is the host's to judge.
    if let Ok(policy) = GuestPolicy::decode(&image.meta().policy) {
        policy.check_vcpus(image.meta().shape.vcpus).with_context(|| file.clone())?;
    }
    let to = resolve(host)?;
    let hello = hello(&image, what)?;
    let name = hello.vm_name.clone();
    let mut link = Link::dial(Service::Migrate, to, &security, Bar::default())
        .map_err(anyhow::Error::msg)
        .context(to)?;
    let is_clone = matches!(what, What::Clone(_));
    let mut vm = Stored { image, is_clone, deal: None, fault: None };
    let clock = Clock::start();
    let mut source = Source::new(params(&vm.image, hello), clock.now());
    let outcome = loop {
        let event = source.poll(clock.now(), &mut link, &mut vm);
        vm.deal = source.deal();
        if let Some(warning) = source.take_warning() {
            eprintln!("{name}: {warning}");
        }
        while let Some(note) = source.take_note() {
            eprintln!("{name}: {note}");
        }
        match event {
            SourceEvent::Waiting => pause(),
            SourceEvent::Working | SourceEvent::Slowed(_) => {}
            SourceEvent::Round(round) => {
                eprintln!("{name}: round {}: {} pages, {} bytes", round.round, round.pages, round.bytes);
            }
            SourceEvent::Given if is_clone => eprintln!("{name}: COMMIT"),
            SourceEvent::Given => eprintln!("{name}: the file is marked, COMMIT"),
            SourceEvent::Finished(outcome) => break outcome,
        }
    };
    let fault = link.fault();
    link.close();
    let (yes, text) = match outcome {
        SourceOutcome::Done(summary) | SourceOutcome::Copied(summary) => (true, summary.to_string()),
        SourceOutcome::Checked => (true, "fits".into()),
        SourceOutcome::Failed(reason) if is_clone => {
            (false, format!("failed: {reason}{fault}; no clone began"))
        }
        SourceOutcome::Failed(reason) => (false, format!("failed: {reason}{fault}; the VM is the file's")),
        SourceOutcome::Unknown(reason) => {
            (false, format!("unknown: {reason}{fault}; the host may run the VM"))
        }
        SourceOutcome::Asking(reason) => {
            eprintln!("{name}: {reason}{fault}; asking {to}");
            let (yes, text) = vm.settle(to, &security, wait, &clock, source.exported_at());
            (yes, text.into())
        }
    };
    let text = vm.fault.as_ref().map_or(text.clone(), |why| format!("{text} ({why})"));
    let state = vm.image.state();
    let text = if json {
        object(|o| {
            o.field("file", file.as_str())?;
            o.field("vm", name.as_str())?;
            o.field("state", state.name())?;
            o.field("outcome", text.as_str())
        })
    } else {
        format!("{file}: {name}: {text}; the file is {state}\n")
    };
    Ok(Answer { text, yes: Some(yes) })
}

/// A clone is another VM: its uuid is new, so that no host takes it for the first one.
fn hello(image: &Image<Disk>, what: What<'_>) -> Result<Hello> {
    let meta = image.meta();
    let (vm_uuid, vm_name) = match what {
        What::Vm => (meta.uuid, meta.name.clone()),
        What::Clone(Some(name)) => (random()?, name.to_string()),
        What::Clone(None) => (random()?, format!("{}-clone", meta.name)),
    };
    migrate::body::check_name(RecordType::Hello, "name of the clone", &vm_name)?;
    Ok(Hello {
        migration: random()?,
        vm_uuid,
        boot: random()?,
        vm_name,
        check_only: false,
        secret: Some(random()?),
        purpose: None,
        port: None,
    })
}

fn params(image: &Image<Disk>, hello: Hello) -> SourceParams {
    let meta = image.meta();
    SourceParams {
        hello,
        policy: meta.policy.clone(),
        companion: meta.companion.clone(),
        shape: meta.shape.clone(),
        origin: meta.origin.clone(),
        tuning: Tuning { pages_per_poll: 256, ..Tuning::default() },
        hz: HZ,
    }
}

/// The VM that leaves its file: it runs nowhere, so nothing of it becomes dirty.
struct Stored {
    image: Image<Disk>,
    /// Of a clone the file is not told: it can start another one.
    is_clone: bool,
    deal: Option<Deal>,
    /// What the file said, where it failed.
    fault: Option<String>,
}

impl Stored {
    fn mark(&mut self, state: State) -> bool {
        if self.is_clone {
            return true;
        }
        let done = self.image.set_state(state, self.deal.clone());
        if let Err(why) = &done {
            self.fault.get_or_insert(why.to_string());
        }
        done.is_ok()
    }

    /// Asks the host until it is known who owns the VM, or for `wait` seconds.
    fn settle(
        &mut self,
        to: SocketAddr,
        security: &Security,
        wait: u64,
        clock: &Clock,
        exported_at: u64,
    ) -> (bool, &'static str) {
        let Some(deal) = self.deal.clone() else {
            return (false, "unknown: the host cannot be asked; the host may run the VM");
        };
        let exported_ns = || clock.now().saturating_sub(exported_at);
        let side = Side::Source(SourceOwner::Given);
        settle(side, &deal, (to, security), wait, &exported_ns, &mut |state| self.mark(state))
    }
}

impl SourceVm for Stored {
    fn start_tracking(&mut self) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn harvest(&mut self) -> Poll<u64> {
        Poll::Ready(0)
    }

    fn take_dirty(&mut self, _: u64) -> Option<u64> {
        None
    }

    fn read_page(&mut self, gfn: u64, page: &mut [u8; PAGE_BYTES]) -> Result<(), MemoryError> {
        self.image.page(gfn, page).map_err(|why| {
            self.fault.get_or_insert(why.to_string());
            MemoryError { gpa: Gpa(gfn.saturating_mul(4096)), len: PAGE_BYTES }
        })
    }

    fn read_file(&mut self, number: u32, offset: u64, into: &mut [u8]) -> Result<(), String> {
        self.image.file(number, offset, into).map_err(|why| why.to_string())
    }

    fn throttle(&mut self, _: &migrate::Shares) {}

    fn pause(&mut self) -> Poll<u64> {
        Poll::Ready(0)
    }

    /// Also after COMMIT, where the host has destroyed its copy.
    fn resume(&mut self) {
        if self.image.state() == State::Given {
            self.mark(State::Owner);
        }
    }

    fn give_back(&mut self) {}

    fn stop_tracking(&mut self) {}

    fn export_state(&mut self) -> Result<Vec<StateRecord>, String> {
        Ok(self.image.records().to_vec())
    }

    /// Where the mark is not safe, the VM stays the file's.
    fn give_up(&mut self) -> Result<(), String> {
        let marked = self.mark(State::Given);
        marked.then_some(()).ok_or_else(|| "the file could not be marked, so nothing was handed over".into())
    }

    fn free(&mut self) {
        self.mark(State::Used);
    }

    fn mark_unknown(&mut self) {}
}
