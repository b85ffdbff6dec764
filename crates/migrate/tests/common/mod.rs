//! Two ends joined by a pipe in memory, and two VMs of a few pages.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::missing_panics_doc)]

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::task::Poll;

use migrate::body::Fate;
use migrate::handover::{
    Answer, Deal, Question, SourceAction, SourceInput, SourceOwner, TargetAction, TargetInput, TargetOwner,
};
use migrate::{
    Hello, Link, Offer, PAGE_BYTES, PageRange, Reason, Shape, Source, SourceEvent, SourceOutcome,
    SourceParams, SourceVm, Target, TargetEvent, TargetMemory, TargetOutcome, TargetParams, TargetVm, Tuning,
};
use vm_types::{Gpa, MemoryError, StateError, StateRecord};

pub const HZ: u64 = 1_000_000;
pub type Page = [u8; PAGE_BYTES];

pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub fn index(ranges: &[PageRange], gfn: u64) -> Option<usize> {
    let mut before = 0;
    for r in ranges {
        if (r.first..r.first + r.pages).contains(&gfn) {
            return Some((before + gfn - r.first) as usize);
        }
        before += r.pages;
    }
    None
}

pub fn no_ram(gfn: u64) -> MemoryError {
    MemoryError { gpa: Gpa(gfn.saturating_mul(4096)), len: PAGE_BYTES }
}

/// What happened to a VM, in order.
pub type Log = Vec<&'static str>;

pub struct Leaving {
    pub ranges: Vec<PageRange>,
    pub pages: Vec<Page>,
    pub written: BTreeSet<u64>,
    pub harvested: BTreeSet<u64>,
    pub tracking: bool,
    pub paused: bool,
    pub pause_delay: u32,
    pub given: bool,
    pub unknown: bool,
    pub freed: bool,
    pub states: Vec<StateRecord>,
    pub log: Log,
    /// Page frames written by the guest at each call of `run_a_little`.
    pub writes: VecDeque<u64>,
    pub counter: u64,
    /// Share of the CPU that it is left, in percent.
    pub share: u8,
    pub credit: u32,
}

impl Leaving {
    pub fn new(ranges: &[(u64, u64)]) -> Self {
        let ranges: Vec<_> = ranges.iter().map(|&(first, pages)| PageRange { first, pages }).collect();
        let count = ranges.iter().map(|r| r.pages).sum::<u64>() as usize;
        Self {
            ranges,
            pages: vec![[0; PAGE_BYTES]; count],
            written: BTreeSet::new(),
            harvested: BTreeSet::new(),
            tracking: false,
            paused: false,
            pause_delay: 2,
            given: false,
            unknown: false,
            freed: false,
            states: vec![
                StateRecord {
                    kind: "vcpu".into(),
                    instance: 0,
                    version: 1,
                    body: vec![0xa1, 0x00, 0x18, 0x2a],
                },
                StateRecord { kind: "uart".into(), instance: 0, version: 2, body: vec![0xa0] },
            ],
            log: Vec::new(),
            writes: VecDeque::new(),
            counter: 0,
            share: 100,
            credit: 0,
        }
    }

    pub fn runs(&self) -> bool {
        !self.paused && !self.given && !self.unknown && !self.freed
    }

    /// The guest writes a page, as a running vCPU would.
    pub fn write(&mut self, gfn: u64, at: usize, byte: u8) {
        assert!(self.runs(), "a guest that does not run has written");
        let i = index(&self.ranges, gfn).unwrap();
        self.pages[i][at] = byte;
        if self.tracking {
            self.written.insert(gfn);
        }
    }

    pub fn run_a_little(&mut self) {
        if !self.runs() {
            return;
        }
        self.credit += u32::from(self.share);
        if self.credit < 100 {
            return;
        }
        self.credit -= 100;
        if let Some(gfn) = self.writes.pop_front() {
            self.counter += 1;
            let byte = self.counter as u8;
            self.write(gfn, (self.counter * 8 % 4096) as usize, byte);
        }
    }
}

impl SourceVm for Leaving {
    fn start_tracking(&mut self) -> Result<(), String> {
        assert!(!self.tracking);
        self.tracking = true;
        self.log.push("track");
        Ok(())
    }

    fn harvest(&mut self) -> Poll<u64> {
        assert!(self.tracking);
        self.harvested.append(&mut self.written);
        Poll::Ready(self.harvested.len() as u64)
    }

    fn take_dirty(&mut self, from: u64) -> Option<u64> {
        let gfn = *self.harvested.range(from..).next()?;
        self.harvested.remove(&gfn);
        Some(gfn)
    }

    fn read_page(&mut self, gfn: u64, page: &mut Page) -> Result<(), MemoryError> {
        *page = self.pages[index(&self.ranges, gfn).ok_or(no_ram(gfn))?];
        Ok(())
    }

    fn throttle(&mut self, share: u8) {
        self.share = share;
    }

    fn pause(&mut self) -> Poll<()> {
        if self.pause_delay > 0 {
            self.pause_delay -= 1;
            return Poll::Pending;
        }
        self.paused = true;
        self.log.push("pause");
        Poll::Ready(())
    }

    fn resume(&mut self) {
        // After COMMIT only where the target has destroyed its copy: `never_two` watches.
        self.given = false;
        self.unknown = false;
        self.paused = false;
        self.log.push("resume");
    }

    fn give_back(&mut self) {
        self.log.push("give_back");
    }

    fn stop_tracking(&mut self) {
        assert!(self.tracking);
        self.tracking = false;
        self.written.clear();
        self.harvested.clear();
        self.log.push("untrack");
    }

    fn export_state(&mut self) -> Result<Vec<StateRecord>, String> {
        assert!(self.paused);
        Ok(self.states.clone())
    }

    fn give_up(&mut self) {
        assert!(self.paused && !self.given);
        self.given = true;
        self.log.push("give_up");
    }

    fn free(&mut self) {
        assert!(self.given);
        self.freed = true;
        self.log.push("free");
    }

    fn mark_unknown(&mut self) {
        assert!(self.given && !self.freed);
        self.unknown = true;
        self.log.push("unknown");
    }
}

#[derive(Default)]
pub struct Coming {
    pub ranges: Vec<PageRange>,
    pub pages: Vec<Page>,
    pub states: Vec<StateRecord>,
    pub runs: bool,
    pub elapsed_ns: u64,
    pub made: bool,
    pub create_delay: u32,
    pub refuse: Option<String>,
    pub stores: bool,
    pub no_memory: bool,
    pub bad_state: Option<String>,
    pub policy: Vec<u8>,
    pub companion: Vec<u8>,
    /// What it has to say of a VM that it takes.
    pub warning: Option<String>,
    pub page_writes: u64,
    pub log: Log,
}

impl TargetMemory for Coming {
    fn write_page(&mut self, gfn: u64, page: &Page) -> Result<(), MemoryError> {
        assert!(self.made && !self.runs);
        self.page_writes += 1;
        self.pages[index(&self.ranges, gfn).ok_or(no_ram(gfn))?] = *page;
        Ok(())
    }

    fn fill_page(&mut self, gfn: u64, word: u64) -> Result<(), MemoryError> {
        let mut page = [0; PAGE_BYTES];
        for chunk in page.chunks_exact_mut(8) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        self.write_page(gfn, &page)
    }

    fn read_page(&self, gfn: u64, page: &mut Page) -> Result<(), MemoryError> {
        assert!(self.made && !self.runs);
        *page = self.pages[index(&self.ranges, gfn).ok_or(no_ram(gfn))?];
        Ok(())
    }
}

impl TargetVm for Coming {
    fn stores(&self) -> bool {
        self.stores
    }

    fn check(&mut self, offer: &Offer<'_>) -> Result<(), String> {
        self.policy = offer.policy.to_vec();
        self.companion = offer.companion.to_vec();
        self.log.push("check");
        self.refuse.clone().map_or(Ok(()), Err)
    }

    fn warning(&mut self, offer: &Offer<'_>) -> Option<String> {
        assert_eq!(offer.companion, self.companion);
        self.warning.clone()
    }

    fn create(&mut self, offer: &Offer<'_>) -> Poll<Result<(), String>> {
        if self.create_delay > 0 {
            self.create_delay -= 1;
            return Poll::Pending;
        }
        // A fuzzed shape may ask for a terabyte.
        if self.no_memory || offer.shape.pages() > 4096 {
            return Poll::Ready(Err(format!("needs {} pages, 0 are free", offer.shape.pages())));
        }
        self.ranges = offer.shape.ranges.clone();
        self.pages = vec![[0; PAGE_BYTES]; offer.shape.pages() as usize];
        self.made = true;
        self.log.push("create");
        Poll::Ready(Ok(()))
    }

    fn import_state(&mut self, records: &[StateRecord]) -> Result<(), StateError> {
        assert!(self.made);
        if let Some(why) = &self.bad_state {
            return Err(StateError { kind: "vcpu".into(), why: why.clone() });
        }
        self.states = records.to_vec();
        self.log.push("import");
        Ok(())
    }

    fn run(&mut self, elapsed_ns: u64) {
        assert!(self.made && !self.runs);
        self.runs = true;
        self.elapsed_ns = elapsed_ns;
        self.log.push("run");
    }

    fn destroy(&mut self) {
        assert!(!self.runs, "destroyed while it runs");
        self.made = false;
        self.pages.clear();
        self.log.push("destroy");
    }
}

/// One direction of a connection.
#[derive(Default)]
pub struct Wire {
    pub bytes: VecDeque<u8>,
    /// Bytes that have entered it.
    pub entered: u64,
    /// Bytes that have left it at the far end.
    pub left: u64,
    /// All that was ever sent.
    pub record: Vec<u8>,
}

pub struct Cable {
    pub wires: [Wire; 2],
    /// Room for bytes under way.
    pub window: usize,
    /// Most bytes that one `recv` or `send` moves.
    pub chunk: usize,
    /// The connection is cut when so many bytes have been delivered in direction 0 or 1.
    pub cut: [u64; 2],
    pub open: [bool; 2],
    /// A cut that is felt by nobody: no more bytes, but no end either.
    pub silent: bool,
    /// Of a silent cut: the other direction goes on.
    pub half: bool,
    /// Directions that deliver nothing any more.
    pub deaf: [bool; 2],
    pub dead: bool,
    pub rng: Rng,
}

impl Cable {
    pub fn new() -> Self {
        Self {
            wires: [Wire::default(), Wire::default()],
            window: 64 * 1024,
            chunk: usize::MAX,
            cut: [u64::MAX; 2],
            open: [true; 2],
            silent: false,
            half: false,
            deaf: [false; 2],
            dead: false,
            rng: Rng(0x1234_5678_9abc_def1),
        }
    }

    fn some(&mut self, n: usize) -> usize {
        if self.chunk == usize::MAX || n == 0 {
            n
        } else {
            n.min(1 + self.rng.below(self.chunk as u64) as usize)
        }
    }

    fn kill(&mut self, way: usize) {
        if self.half {
            self.deaf[way] = true;
            return;
        }
        self.dead = true;
        if !self.silent {
            self.open = [false; 2];
        }
        self.wires[0].bytes.clear();
        self.wires[1].bytes.clear();
    }

    fn recv(&mut self, side: usize, buf: &mut [u8]) -> usize {
        let way = 1 - side;
        if self.dead || self.deaf[way] {
            return 0;
        }
        let n = buf.len().min(self.wires[way].bytes.len());
        let n = self.some(n).min((self.cut[way] - self.wires[way].left) as usize);
        for (slot, byte) in buf.iter_mut().zip(self.wires[way].bytes.drain(..n)) {
            *slot = byte;
        }
        self.wires[way].left += n as u64;
        if self.wires[way].left == self.cut[way] {
            self.kill(way);
        }
        n
    }

    fn send(&mut self, side: usize, data: &[u8]) -> usize {
        if self.dead {
            return if self.silent { 0 } else { data.len() };
        }
        let room = self.window - self.wires[side].bytes.len().min(self.window);
        let n = self.some(data.len().min(room));
        self.wires[side].bytes.extend(&data[..n]);
        self.wires[side].record.extend(&data[..n]);
        self.wires[side].entered += n as u64;
        n
    }
}

/// One end of a cable: side 0 is the source's.
#[derive(Clone)]
pub struct End(pub Rc<RefCell<Cable>>, pub usize);

impl Link for End {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        self.0.borrow_mut().recv(self.1, buf)
    }

    fn send(&mut self, data: &[u8]) -> usize {
        self.0.borrow_mut().send(self.1, data)
    }

    fn is_open(&self) -> bool {
        self.0.borrow().open[self.1]
    }
}

pub fn tuning() -> Tuning {
    Tuning { pages_per_poll: 8, dirty_threshold: 2, ..Tuning::default() }
}

pub fn shape(ranges: &[PageRange]) -> Shape {
    Shape {
        vcpus: 1,
        ranges: ranges.to_vec(),
        tsc_hz: 20_000_000,
        devices: vec!["uart/2".into(), "lapic/1".into()],
    }
}

pub fn source_params(vm: &Leaving) -> SourceParams {
    SourceParams {
        hello: Hello {
            migration: [1; 16],
            vm_uuid: [2; 16],
            boot: [3; 16],
            vm_name: "demo".into(),
            check_only: false,
            secret: Some([5; 32]),
            purpose: None,
            port: Some(4444),
        },
        policy: b"policy of demo".to_vec(),
        companion: Vec::new(),
        shape: shape(&vm.ranges),
        tuning: tuning(),
        hz: HZ,
    }
}

pub fn target_params() -> TargetParams {
    TargetParams { boot: [4; 16], tuning: tuning(), hz: HZ }
}

/// Both ends, both VMs, one cable.
pub struct World {
    pub source: Source,
    pub target: Target,
    pub leaving: Leaving,
    pub coming: Coming,
    pub cable: Rc<RefCell<Cable>>,
    pub now: u64,
    pub tick: u64,
    pub source_events: Vec<SourceEvent>,
    pub target_events: Vec<TargetEvent>,
    pub source_outcome: Option<SourceOutcome>,
    pub target_outcome: Option<TargetOutcome>,
    /// COMMIT was queued at this poll.
    pub given_at: Option<u64>,
}

impl World {
    pub fn new(leaving: Leaving) -> Self {
        let params = source_params(&leaving);
        Self::with(leaving, params)
    }

    pub fn with(leaving: Leaving, params: SourceParams) -> Self {
        Self {
            source: Source::new(params, 0),
            target: Target::new(target_params(), 0),
            leaving,
            coming: Coming::default(),
            cable: Rc::new(RefCell::new(Cable::new())),
            now: 0,
            tick: 100,
            source_events: Vec::new(),
            target_events: Vec::new(),
            source_outcome: None,
            target_outcome: None,
            given_at: None,
        }
    }

    pub fn end(&self, side: usize) -> End {
        End(self.cable.clone(), side)
    }

    pub fn poll_source(&mut self) {
        let mut link = self.end(0);
        let event = self.source.poll(self.now, &mut link, &mut self.leaving);
        match &event {
            SourceEvent::Waiting | SourceEvent::Working => {}
            SourceEvent::Finished(outcome) => {
                assert!(self.source_outcome.is_none());
                self.source_outcome = Some(outcome.clone());
                self.cable.borrow_mut().open[1] = false;
            }
            _ => self.source_events.push(event),
        }
    }

    pub fn poll_target(&mut self) {
        let mut link = self.end(1);
        let event = self.target.poll(self.now, &mut link, &mut self.coming);
        match &event {
            TargetEvent::Waiting | TargetEvent::Working => {}
            TargetEvent::Finished(outcome) => {
                assert!(self.target_outcome.is_none());
                self.target_outcome = Some(outcome.clone());
                self.cable.borrow_mut().open[0] = false;
            }
            _ => self.target_events.push(event),
        }
    }

    /// The rule above all rules.
    pub fn never_two(&self) {
        assert!(!(self.leaving.runs() && self.coming.runs), "the guest runs on both hosts");
    }

    pub fn turn(&mut self) {
        self.now += self.tick;
        self.leaving.run_a_little();
        self.poll_source();
        self.never_two();
        self.poll_target();
        self.never_two();
    }

    /// Until both ends are finished.
    pub fn finish(&mut self) -> (SourceOutcome, TargetOutcome) {
        for _ in 0..2_000_000 {
            self.turn();
            if let (Some(s), Some(t)) = (&self.source_outcome, &self.target_outcome) {
                return (s.clone(), t.clone());
            }
        }
        panic!("it hangs: source {:?}, target {:?}", self.source_outcome, self.target_outcome);
    }

    pub fn assert_moved(&self) {
        assert!(self.coming.runs && self.leaving.freed && !self.leaving.runs());
        assert!(self.leaving.pages == self.coming.pages, "memory differs");
        assert_eq!(self.leaving.states, self.coming.states);
        assert_eq!(self.coming.policy, b"policy of demo");
    }

    pub fn assert_stayed(&self) {
        assert!(self.leaving.runs() && !self.leaving.tracking && !self.coming.runs && !self.coming.made);
    }
}

pub fn failed(outcome: &SourceOutcome) -> &Reason {
    match outcome {
        SourceOutcome::Failed(reason) => reason,
        other => panic!("{other:?}"),
    }
}

/// A guest of 24 pages with a hole, of all kinds, that writes while it moves.
pub fn small_guest() -> Leaving {
    let mut vm = Leaving::new(&[(0, 10), (16, 14)]);
    for i in [1usize, 2, 3, 12, 23] {
        for (at, byte) in vm.pages[i].iter_mut().enumerate() {
            *byte = (at * 7 + i) as u8;
        }
    }
    for i in [5, 6, 20] {
        vm.pages[i] = [0xcc; PAGE_BYTES];
    }
    vm.writes = [3, 17, 4, 29, 5, 16, 16, 0].into();
    vm
}

/// A record with a fitting seal.
pub fn record(seq: u32, kind: u16, body: &[u8]) -> Vec<u8> {
    let mut header = migrate::wire::RecordHeader { kind, len: body.len() as u32, seq, check: 0 };
    header.check = header.check_of(header.seal(body));
    let mut out = header.to_bytes().to_vec();
    out.extend(body);
    out
}

/// The records of a stream, its header taken off.
pub fn records(stream: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut out = Vec::new();
    let mut rest = &stream[migrate::wire::STREAM_HEADER..];
    while let Some((header, behind)) = rest.split_first_chunk() {
        let (header, _) = migrate::wire::RecordHeader::from_bytes(header).unwrap();
        let (body, next) = behind.split_at(header.len as usize);
        assert_eq!(header.check, header.check_of(header.seal(body)));
        out.push((header.kind, body.to_vec()));
        rest = next;
    }
    assert!(rest.is_empty());
    out
}

/// Stream header and records, each a piece.
pub fn pieces(records: &[(u16, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut out = vec![migrate::wire::StreamHeader::OURS.to_bytes().to_vec()];
    out.extend(records.iter().enumerate().map(|(i, (kind, body))| record(i as u32, *kind, body)));
    out
}

/// A link that is fed by hand and takes everything.
#[derive(Default)]
pub struct Hand {
    pub input: VecDeque<u8>,
    pub output: Vec<u8>,
    pub closed: bool,
}

impl Link for Hand {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.input.len());
        for (slot, byte) in buf.iter_mut().zip(self.input.drain(..n)) {
            *slot = byte;
        }
        n
    }

    fn send(&mut self, data: &[u8]) -> usize {
        self.output.extend(data);
        data.len()
    }

    fn is_open(&self) -> bool {
        !self.closed
    }
}

/// A target that is fed by hand.
pub struct FedTarget {
    pub target: Target,
    pub vm: Coming,
    pub link: Hand,
    pub now: u64,
    pub events: Vec<TargetEvent>,
    pub outcome: Option<TargetOutcome>,
}

impl FedTarget {
    pub fn new() -> Self {
        Self {
            target: Target::new(target_params(), 0),
            vm: Coming::default(),
            link: Hand::default(),
            now: 0,
            events: Vec::new(),
            outcome: None,
        }
    }

    /// Polls until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            self.now += 1;
            match self.target.poll(self.now, &mut self.link, &mut self.vm) {
                TargetEvent::Waiting => return,
                TargetEvent::Working => {}
                TargetEvent::Finished(outcome) => self.outcome = Some(outcome),
                event => self.events.push(event),
            }
        }
        panic!("it does not settle");
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.link.input.extend(bytes);
        self.settle();
    }

    pub fn close(&mut self) {
        self.link.closed = true;
        self.settle();
    }

    /// Why it failed, as text.
    pub fn failure(&self) -> String {
        match &self.outcome {
            Some(TargetOutcome::Failed(reason) | TargetOutcome::Held(reason)) => reason.to_string(),
            other => panic!("{other:?}, events {:?}", self.events),
        }
    }
}

/// The ends of a migration whose connection is lost, as a host keeps them.
pub struct Settling<'a> {
    pub world: &'a mut World,
    pub source: SourceOwner,
    pub target: TargetOwner,
    deals: [Option<Deal>; 2],
}

impl<'a> Settling<'a> {
    pub fn new(world: &'a mut World) -> Self {
        let (source, target) = (world.source.owner(), world.target.owner());
        let deals = [world.source.deal(), world.target.deal()];
        Self { world, source, target, deals }
    }

    fn say(&self, end: usize) -> Fate {
        let word = if end == 0 { self.source.word() } else { self.target.word() };
        self.deals[end].as_ref().expect("version 2").say(word, 1000)
    }

    /// What `end` does when the other end says this.
    fn hear(&mut self, end: usize, fate: &Fate) {
        let word = self.deals[end].as_ref().expect("version 2").hear(fate).expect("of this migration");
        if end == 0 {
            let Some(input) = SourceInput::from_peer(word) else { return };
            let (owner, action) = self.source.step(input);
            self.source = owner;
            match action {
                SourceAction::Free => self.world.leaving.free(),
                SourceAction::Resume => self.world.leaving.resume(),
                SourceAction::MarkUnknown => self.world.leaving.mark_unknown(),
                SourceAction::Nothing | SourceAction::Commit | SourceAction::Ask | SourceAction::Keep => {}
            }
        } else {
            let Some(input) = TargetInput::from_peer(word) else { return };
            let (owner, action) = self.target.step(input);
            self.target = owner;
            match action {
                TargetAction::Run => self.world.coming.run(fate.exported_ns),
                TargetAction::Destroy => self.world.coming.destroy(),
                TargetAction::Nothing | TargetAction::SendReady | TargetAction::Hold => {}
            }
        }
        self.world.never_two();
    }

    /// `end` connects to the other and asks.
    pub fn ask(&mut self, end: usize) {
        let cable = Rc::new(RefCell::new(Cable::new()));
        let mut question = Question::new(&self.say(end), tuning(), HZ, 0);
        let mut host = Target::new(target_params(), 0);
        let mut nothing = Coming::default();
        for turn in 1..1000 {
            let now = turn * 1000;
            match question.poll(now, &mut End(cable.clone(), 0)) {
                Answer::Waiting => {}
                Answer::Heard(fate) => {
                    let before = self.target;
                    self.hear(end, &fate);
                    if end == 1 && self.target != before {
                        question.add(&self.say(1));
                    } else {
                        question.end();
                    }
                }
                Answer::Over => cable.borrow_mut().open = [false; 2],
                Answer::Failed(reason) => panic!("{reason}"),
            }
            match host.poll(now, &mut End(cable.clone(), 1), &mut nothing) {
                TargetEvent::Asked(fate) => {
                    self.hear(1 - end, &fate);
                    host.answer(&self.say(1 - end));
                }
                TargetEvent::Finished(outcome) => {
                    assert_eq!(outcome, TargetOutcome::Answered);
                    return;
                }
                TargetEvent::Waiting | TargetEvent::Working => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("the question does not end");
    }
}
