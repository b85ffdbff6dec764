//! A simulated host: network, one place for a VM, migrations in both directions.

use std::cell::RefCell;
use std::rc::Rc;

use migrate::body::Fate;
use migrate::handover::{Book, Deal, Role, Word};
use migrate::ownership::{Change, Code, Command, Phase, Ruling, State, ruling};
use migrate::{
    Goal, Hello, Source, SourceEvent, SourceOutcome, SourceParams, Target, TargetEvent, TargetOutcome,
    TargetParams, Tuning,
};
use net::{AddressConfig, Connection, ConnectionState, Host, Listener, TcpTiming};

use super::doubt::Doubt;
use super::guest::Timeline;
use super::lan::{Card, Queues};
use super::link::{Counter, Tap, TcpLink};
use super::vm::{Arriving, Leaving, Store};

pub const HZ: u64 = 1_000_000;
pub const PORT: u16 = 4444;
/// The uuid of the one VM that moves.
const VM: [u8; 16] = [2; 16];
/// Polls of one migration in one step of the simulation.
const POLLS: usize = 8;

pub fn address(index: usize) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::new(10, 0, 0, index as u8 + 1)
}

pub struct Outgoing {
    connection: Connection,
    source: Option<(Source, Leaving)>,
    pub tap: Tap,
}

pub struct Incoming {
    connection: Connection,
    target: Target,
    vm: Arriving,
    pub tap: Tap,
}

/// A host from one boot to its end.
pub struct Machine {
    pub index: usize,
    pub boot: u64,
    host: Host<Card>,
    listener: Listener,
    pub store: Store,
    pub outgoing: Option<Outgoing>,
    pub incoming: Vec<Incoming>,
    /// VMs that are paused here until it is known where they run.
    pub doubts: Vec<Doubt>,
    /// What became of others.
    ended: Book,
    /// It offers what version 2 needs to ask later.
    pub asks: bool,
    /// Connections that are closed once their last bytes have been handed to TCP.
    closing: Vec<(Connection, Tap)>,
    /// How the last migration from here ended.
    pub outcome: Option<SourceOutcome>,
    /// How the last one to here ended.
    pub arrived: Option<TargetOutcome>,
    pub tuning: Tuning,
    /// Taps of the next connection from or to here.
    pub next_tap: Option<Tap>,
    /// What the last migration from or to here has sent.
    pub last_sent: Counter,
    /// READY was said here.
    pub was_ready: bool,
    pub rounds: u32,
    timeline: Timeline,
    writes: u64,
    ids: u64,
}

impl Machine {
    pub fn start(
        index: usize,
        boot: u64,
        now: u64,
        timeline: &Timeline,
        writes: u64,
    ) -> (Self, Rc<RefCell<Queues>>) {
        let (card, queues) = Card::new(index as u8 + 1);
        let config = AddressConfig::Static { ip: address(index), prefix: 24, gateway: None };
        let mut host = Host::new(card, config, boot, now).unwrap();
        host.stack().set_tcp_timing(TcpTiming::default());
        let listener = host.stack().listen(PORT, 4).unwrap();
        let goal = Goal { downtime_ms: 0, ..Goal::default() };
        let tuning =
            Tuning { goal, pages_per_poll: 1, dirty_threshold: 1, max_rounds: 4, ..Tuning::default() };
        let machine = Self {
            index,
            boot,
            host,
            listener,
            store: Store::default(),
            outgoing: None,
            incoming: Vec::new(),
            doubts: Vec::new(),
            ended: Book::default(),
            asks: true,
            closing: Vec::new(),
            outcome: None,
            arrived: None,
            tuning,
            next_tap: None,
            last_sent: Counter::default(),
            was_ready: false,
            rounds: 0,
            timeline: timeline.clone(),
            writes,
            ids: boot << 16,
        };
        (machine, queues)
    }

    pub fn name(&self) -> String {
        format!("host {} (boot {})", ["A", "B"][self.index], self.boot)
    }

    fn id(number: u64) -> [u8; 16] {
        let mut id = [0x5a; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        id
    }

    /// `migrate demo HOST`.
    pub fn migrate(&mut self) {
        assert!(self.outgoing.is_none() && self.store.state() == Some(State::Running), "nothing to move");
        self.outcome = None;
        self.rounds = 0;
        let connection = self.host.stack().connect(address(1 - self.index), PORT).unwrap();
        let tap = self.next_tap.take().unwrap_or_default();
        self.outgoing = Some(Outgoing { connection, source: None, tap });
    }

    /// `migrate cancel demo`: whether that was still possible.
    pub fn cancel(&mut self, now: u64) -> bool {
        let Some(Outgoing { source: Some((source, vm)), .. }) = &mut self.outgoing else { return false };
        source.cancel("operator", now, vm)
    }

    fn source(&mut self, now: u64) -> (Source, Leaving) {
        let leaving = Leaving::new(&self.store).expect("a VM");
        self.ids += 1;
        let hello = Hello {
            migration: Self::id(self.ids),
            vm_uuid: VM,
            boot: Self::id(self.boot),
            vm_name: "demo".into(),
            check_only: false,
            secret: self.asks.then_some([self.ids as u8; 32]),
            purpose: None,
            port: Some(PORT),
        };
        let shape = migrate::Shape {
            vcpus: 1,
            ranges: leaving.vm.borrow().guest.ranges.clone(),
            tsc_hz: 20_000_000,
            devices: vec!["uart/2".into()],
        };
        let params = SourceParams {
            hello,
            policy: b"policy of demo".to_vec(),
            companion: b"ledger".to_vec(),
            shape,
            origin: None,
            tuning: self.tuning.clone(),
            hz: HZ,
        };
        (Source::new(params, now), leaving)
    }

    /// How far the migration of its VM is, as the kernel's `Migrations::phase` says it.
    pub fn phase(&self) -> Phase {
        let setup = |out: &Outgoing| out.source.as_ref().map_or(Phase::Setup, |(source, _)| source.stage());
        let phases = self.outgoing.iter().map(setup);
        let arriving = self.incoming.iter().filter(|i| i.vm.vm.is_some()).map(|i| i.target.stage());
        let mut phases = phases.chain(arriving).chain(self.doubts.iter().map(Doubt::stage));
        phases.find(|phase| *phase != Phase::None).unwrap_or(Phase::None)
    }

    /// An operator's command on its VM, judged and carried out as by the kernel; none where it has no VM.
    pub fn operate(&mut self, command: Command, now: u64) -> Option<Ruling> {
        let vm = self.store.vm.borrow().clone()?;
        let state = vm.borrow().state();
        let ruling = ruling(command, state, self.phase());
        if ruling != Ruling::Allowed {
            return Some(ruling);
        }
        // One that has ended is in the way until it is looked at, as in the kernel's `Migrations::idle`.
        if command == Command::Move && self.outgoing.is_some() {
            return Some(Ruling::Refused(Code::Busy));
        }
        match command {
            Command::Pause => vm.borrow_mut().must(Change::Pause),
            Command::Resume => vm.borrow_mut().must(Change::Run),
            Command::Start if state == State::Paused => vm.borrow_mut().must(Change::Run),
            Command::Start | Command::Reset => vm.borrow_mut().must(Change::Reset),
            Command::Stop => vm.borrow_mut().power_button = true,
            Command::Inspect => vm.borrow_mut().held(),
            Command::Destroy => vm.borrow_mut().must(Change::Destroy),
            Command::Move => self.migrate(),
            Command::Cancel => {
                let dialling = self.outgoing.as_ref().is_some_and(|out| out.source.is_none());
                assert!(self.cancel(now) || dialling, "what is allowed is done");
            }
            Command::Resolve => {
                let doubt = self.doubts.iter_mut().find(|doubt| doubt.stage() != Phase::None);
                assert!(!doubt.expect("it is in doubt").tries_to_run(), "neither receipt nor force");
            }
            Command::Rename
            | Command::Dirty
            | Command::Audit
            | Command::Check
            | Command::Type
            | Command::Look => {}
        }
        Some(ruling)
    }

    /// Network, guest and migrations get their turn.
    pub fn step(&mut self, now: u64) {
        self.host.poll(now);
        let vm = self.store.vm.borrow().clone();
        if let Some(vm) = vm {
            (0..3).for_each(|_| vm.borrow_mut().run(&self.name()));
            if !vm.borrow_mut().goes_on() {
                self.store.free();
            }
        }
        self.accept(now);
        self.poll_outgoing(now);
        self.poll_incoming(now);
        self.poll_doubts(now);
        self.closing.retain_mut(|(connection, tap)| {
            TcpLink { stack: self.host.stack(), connection: *connection, tap, now }.flush();
            if tap.queue.is_empty() {
                let _ = self.host.stack().close(*connection);
            }
            !tap.queue.is_empty()
        });
        self.host.poll(now);
    }

    /// The tap of whatever migration is under way here.
    pub fn tap(&self) -> Option<&Tap> {
        let out = self.outgoing.as_ref().map(|o| &o.tap);
        out.or_else(|| self.incoming.first().map(|i| &i.tap))
    }

    pub fn untap(&mut self) {
        for tap in
            self.outgoing.iter_mut().map(|o| &mut o.tap).chain(self.incoming.iter_mut().map(|i| &mut i.tap))
        {
            (tap.stop_sent, tap.stop_read) = (None, None);
        }
        self.next_tap = None;
    }

    /// Its migrations lose their connections.
    pub fn break_connections(&mut self) {
        let out = self.outgoing.iter().map(|o| o.connection);
        for connection in out.chain(self.incoming.iter().map(|i| i.connection)) {
            let _ = self.host.stack().abort(connection);
        }
    }

    /// Connections of its TCP.
    pub fn connections(&mut self) -> usize {
        self.host.stack().connections()
    }

    pub fn busy(&self) -> bool {
        let goes_on = matches!(self.store.state(), Some(State::Resetting | State::Ending));
        goes_on || self.outgoing.is_some() || !self.incoming.is_empty() || !self.closing.is_empty()
    }

    fn accept(&mut self, now: u64) {
        if self.incoming.len() >= 4 {
            return;
        }
        let Some(connection) = self.host.stack().accept(self.listener).unwrap() else { return };
        let params = TargetParams { boot: Self::id(self.boot), tuning: self.tuning.clone(), hz: HZ };
        let target = Target::new(params, now);
        let vm = Arriving::new(&self.store, &self.timeline, self.writes);
        let tap = self.next_tap.take().unwrap_or_default();
        self.incoming.push(Incoming { connection, target, vm, tap });
    }

    fn poll_outgoing(&mut self, now: u64) {
        let Some(mut out) = self.outgoing.take() else { return };
        if out.source.is_none() {
            match self.host.stack().connection_state(out.connection) {
                Ok(ConnectionState::Connecting) => {}
                Ok(_) => out.source = Some(self.source(now)),
                Err(_) => {
                    let _ = self.host.stack().abort(out.connection);
                    self.outcome = Some(SourceOutcome::Failed(migrate::Reason::LinkLost));
                    return;
                }
            }
        }
        if let Some((source, vm)) = &mut out.source {
            for _ in 0..POLLS {
                let mut link =
                    TcpLink { stack: self.host.stack(), connection: out.connection, tap: &mut out.tap, now };
                let event = source.poll(now, &mut link, vm);
                link.flush();
                match event {
                    SourceEvent::Waiting => break,
                    SourceEvent::Round(_) => self.rounds += 1,
                    SourceEvent::Finished(outcome) => {
                        match (&outcome, source.deal(), source.last_word()) {
                            (SourceOutcome::Asking(_), Some(deal), _) => {
                                self.doubts.push(Doubt::left(deal, &self.store, now));
                            }
                            (_, _, Some((deal, word))) => self.remember(deal, word),
                            _ => {}
                        }
                        self.outcome = Some(outcome);
                        self.last_sent = out.tap.sent.clone();
                        self.closing.push((out.connection, out.tap));
                        return;
                    }
                    _ => {}
                }
                if out.tap.stopped() {
                    break;
                }
            }
        }
        self.outgoing = Some(out);
    }

    fn poll_incoming(&mut self, now: u64) {
        for mut incoming in std::mem::take(&mut self.incoming) {
            let live = self.live();
            if let Some(outcome) = self.poll_one(&mut incoming, &live, now) {
                self.arrived(incoming, outcome, now);
            } else {
                self.incoming.push(incoming);
            }
        }
    }

    /// Migrations to here that have not ended.
    fn live(&self) -> Vec<(Deal, Word)> {
        self.incoming.iter().filter_map(|i| Some((i.target.deal()?, i.target.owner().word()))).collect()
    }

    fn poll_one(
        &mut self,
        incoming: &mut Incoming,
        live: &[(Deal, Word)],
        now: u64,
    ) -> Option<TargetOutcome> {
        let Incoming { connection, target, vm, tap } = incoming;
        for _ in 0..POLLS {
            let mut link = TcpLink { stack: self.host.stack(), connection: *connection, tap, now };
            let event = target.poll(now, &mut link, vm);
            link.flush();
            match event {
                TargetEvent::Waiting => break,
                TargetEvent::Greeted => (self.arrived, self.was_ready) = (None, false),
                TargetEvent::Ready => self.was_ready = true,
                TargetEvent::Asked(fate) => target.answer(&self.answer(&fate, live)),
                TargetEvent::Finished(outcome) => return Some(outcome),
                _ => {}
            }
            if tap.stopped() {
                break;
            }
        }
        None
    }

    fn arrived(&mut self, incoming: Incoming, outcome: TargetOutcome, now: u64) {
        let Incoming { connection, target, vm, tap } = incoming;
        match (&outcome, target.deal(), target.last_word()) {
            (TargetOutcome::Held(_), Some(deal), _) => {
                self.doubts.push(Doubt::held(deal, &self.store, vm, now));
            }
            (_, _, Some((deal, word))) => self.remember(deal, word),
            _ => {}
        }
        if outcome != TargetOutcome::Answered {
            self.last_sent = tap.sent.clone();
            self.arrived = Some(outcome);
        }
        self.closing.push((connection, tap));
    }

    /// So many migrations of other VMs have ended here.
    pub fn has_seen(&mut self, many: u64) {
        for number in 0..many {
            let (vm_uuid, there) = (Self::id(1 << 40 | number), Self::id(1 << 41 | number));
            let deal = Deal {
                role: Role::Target,
                migration: vm_uuid,
                vm_uuid,
                here: Self::id(self.boot),
                there,
                secret: [9; 32],
            };
            self.remember(deal, Word::Destroyed);
        }
    }

    /// What this host says when it is asked about a migration.
    fn answer(&mut self, asked: &Fate, live: &[(Deal, Word)]) -> Fate {
        if let Some(doubt) = self.doubts.iter_mut().find(|d| d.deal.migration == asked.migration) {
            doubt.hear(asked);
            return doubt.say();
        }
        // A connection that the other end has lost, and this end not yet.
        if let Some(Outgoing { source: Some((source, _)), .. }) = &self.outgoing
            && let Some(deal) = source.deal().filter(|deal| deal.hear(asked).is_ok())
        {
            return deal.say(source.owner().word(), 1000);
        }
        if let Some((deal, word)) = live.iter().find(|(deal, _)| deal.hear(asked).is_ok()) {
            return deal.say(*word, 0);
        }
        self.ended.answer(asked, Self::id(self.boot))
    }

    fn remember(&mut self, deal: Deal, word: Word) {
        let has = self.store.state().is_some();
        self.ended.remember(deal, word, |uuid| has && *uuid == VM);
    }

    fn poll_doubts(&mut self, now: u64) {
        for mut doubt in std::mem::take(&mut self.doubts) {
            doubt.poll(self.host.stack(), 1 - self.index, now);
            if doubt.settled() {
                self.remember(doubt.deal.clone(), doubt.word());
            } else {
                self.doubts.push(doubt);
            }
        }
    }
}
