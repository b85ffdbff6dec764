//! Both ends of a migration against a peer that says anything.

use std::collections::{BTreeSet, VecDeque};
use std::task::Poll;

use migrate::wire::{RECORD_HEADER, RecordHeader, STREAM_HEADER};
use migrate::{
    Hello, Link, Offer, Origin, OriginFile, PAGE_BYTES, PageRange, Purpose, Shape, Source, SourceEvent,
    SourceOutcome, SourceParams, SourceVm, Target, TargetEvent, TargetMemory, TargetOutcome, TargetParams,
    TargetVm, Tuning,
};
use sha2::{Digest, Sha256};
use vm_types::{Gpa, MemoryError, StateError, StateRecord};

const HZ: u64 = 1_000_000;
const PAGES: u64 = 24;
/// Flag: the target stores, the source asks for a copy.
const COPY: u8 = 4;
/// Flag: the source says what the VM was made from.
const ORIGIN: u8 = 8;

/// What the source says, to a target: a byte of flags (bit 0: put number and seal of each record right first, as a
/// mutation never does; bit 2: the target stores), then the stream.
pub fn target(data: &[u8]) {
    run_target(data);
}

/// As [`target`]; gives the outcome.
pub fn run_target(data: &[u8]) -> TargetOutcome {
    let mut link = Script::all(data);
    let mut vm = Coming { stores: is_copy(data), ..Coming::default() };
    let mut target = Target::new(TargetParams { boot: [4; 16], tuning: Tuning::default(), hz: HZ }, 0);
    for now in 0.. {
        match target.poll(now * 1000, &mut link, &mut vm) {
            TargetEvent::Finished(outcome) => {
                // A VM that runs is not destroyed, and only COMMIT makes it run.
                assert_eq!(vm.runs, outcome == TargetOutcome::Runs, "{outcome:?}");
                // A source that is lost after READY may have given the VM up: its copy is kept.
                let held = matches!(outcome, TargetOutcome::Held(_));
                let copied = outcome == TargetOutcome::Copied;
                assert!(vm.runs || held || copied || !vm.made, "{outcome:?} leaves memory behind");
                assert!(!copied || vm.stores && vm.made, "{outcome:?} where none is kept");
                return outcome;
            }
            _ => assert!(now < 1_000_000, "the target never ends"),
        }
    }
    unreachable!("the loop has no end")
}

/// What the target says, to a source; framed as for [`target`]. It says a record when the source waits for one, or
/// all at once (bit 1 of the flags). With bit 2 the source asks for a copy.
pub fn source(data: &[u8]) {
    run_source(data);
}

/// As [`source`]; gives the outcome.
pub fn run_source(data: &[u8]) -> SourceOutcome {
    let mut link = Script::new(data);
    let mut vm = Leaving::new();
    let copy = is_copy(data);
    let mut source = Source::new(params(copy, has_origin(data)), 0);
    for now in 0.. {
        let event = source.poll(now * 1000, &mut link, &mut vm);
        if event == SourceEvent::Waiting {
            link.next_record();
        }
        match event {
            SourceEvent::Finished(outcome) => {
                // Given away only by COMMIT; freed only when the target runs it; else it runs here.
                match &outcome {
                    SourceOutcome::Done(_) => assert!(vm.given && vm.freed),
                    SourceOutcome::Asking(_) | SourceOutcome::Unknown(_) => {
                        assert!(vm.given && !vm.freed && vm.paused)
                    }
                    SourceOutcome::Checked | SourceOutcome::Copied(_) | SourceOutcome::Failed(_) => {
                        assert!(!vm.given && !vm.paused)
                    }
                }
                assert!(!copy || !vm.given, "{outcome:?}: a copy takes nothing away");
                assert!(copy || !matches!(outcome, SourceOutcome::Copied(_)), "nobody asked for {outcome:?}");
                return outcome;
            }
            _ => assert!(now < 1_000_000, "the source never ends"),
        }
    }
    unreachable!("the loop has no end")
}

fn has_origin(data: &[u8]) -> bool {
    data.first().is_some_and(|flags| flags & ORIGIN != 0)
}

fn is_copy(data: &[u8]) -> bool {
    data.first().is_some_and(|flags| flags & COPY != 0)
}

/// A whole migration between the two: what the source said and what the target said, framed as inputs.
pub fn record(copy: bool, origin: bool) -> [Vec<u8>; 2] {
    let (mut to_target, mut to_source) = (Pipe::default(), Pipe::default());
    let (mut leaving, mut coming) = (Leaving::new(), Coming { stores: copy, ..Coming::default() });
    let mut source = Source::new(params(copy, origin), 0);
    let mut target = Target::new(TargetParams { boot: [4; 16], tuning: Tuning::default(), hz: HZ }, 0);
    let (mut left, mut came) = (None, None);
    for now in 0..10_000 {
        let mut end = End { out: &mut to_target, into: &mut to_source };
        if left.is_none()
            && let SourceEvent::Finished(outcome) = source.poll(now, &mut end, &mut leaving)
        {
            left = Some(outcome);
        }
        let mut end = End { out: &mut to_source, into: &mut to_target };
        if came.is_none()
            && let TargetEvent::Finished(outcome) = target.poll(now, &mut end, &mut coming)
        {
            came = Some(outcome);
        }
        if let (Some(left), Some(came)) = (&left, &came) {
            let fits = match left {
                SourceOutcome::Done(_) => !copy && *came == TargetOutcome::Runs,
                SourceOutcome::Copied(_) => copy && *came == TargetOutcome::Copied,
                _ => false,
            };
            assert!(fits, "the migration to record ended otherwise: source {left:?}, target {came:?}");
            let flags = if copy { COPY } else { 0 } | if origin { ORIGIN } else { 0 };
            return [to_target, to_source].map(|pipe| [vec![flags], pipe.all].concat());
        }
    }
    panic!("the migration to record did not end: source {left:?}, target {came:?}")
}

/// A kernel of two pieces, and a module that is too large to go along.
fn origin() -> Origin {
    let file = |sha256, len| OriginFile { sha256, len, text: "x".into(), url: None, stays: None };
    let kernel: [u8; 32] = Sha256::digest(KERNEL).into();
    Origin {
        options: "mem=1".into(),
        args: "quiet".into(),
        files: vec![file(Some(kernel), KERNEL.len() as u64), file(None, 1 << 30)],
    }
}

const KERNEL: &[u8] = &[0x5a; 8200];

fn params(copy: bool, with_origin: bool) -> SourceParams {
    let hello = Hello {
        migration: [1; 16],
        vm_uuid: [2; 16],
        boot: [3; 16],
        vm_name: "demo".into(),
        check_only: false,
        secret: Some([5; 32]),
        purpose: copy.then_some(Purpose::Copy),
        port: Some(4444),
    };
    let ranges = vec![PageRange { first: 0, pages: PAGES }];
    let shape = Shape { vcpus: 1, ranges, tsc_hz: 20_000_000, devices: vec!["uart/1".into()] };
    let tuning = Tuning { dirty_threshold: 2, ..Tuning::default() };
    SourceParams {
        hello,
        policy: vec![0xA0],
        companion: vec![0xA0],
        shape,
        origin: with_origin.then(origin),
        tuning,
        hz: HZ,
    }
}

/// A peer that says its piece whatever it hears, and hangs up.
struct Script {
    stream: VecDeque<u8>,
    /// Bytes that may be read now.
    ready: usize,
}

impl Script {
    fn new(data: &[u8]) -> Self {
        let (flags, stream) = data.split_first().map_or((0, data), |(f, s)| (*f, s));
        let mut stream = stream.to_vec();
        if flags & 1 != 0 {
            seal(&mut stream);
        }
        let ready = if flags & 2 != 0 { stream.len() } else { 0 };
        Self { stream: stream.into(), ready }
    }

    fn all(data: &[u8]) -> Self {
        let script = Self::new(data);
        Self { ready: script.stream.len(), ..script }
    }

    /// Lets the next record be read: the stream's header is the first.
    fn next_record(&mut self) {
        if self.ready > 0 {
            return;
        }
        let header = |at| self.stream.get(at).copied().unwrap_or(0);
        let magic = migrate::wire::MAGIC;
        let is_start = (0..magic.len()).all(|i| header(i) == magic[i]);
        let body = u32::from_le_bytes([header(4), header(5), header(6), header(7)]) as usize;
        let len = if is_start { STREAM_HEADER } else { RECORD_HEADER.saturating_add(body) };
        self.ready = len.min(self.stream.len());
    }
}

impl Link for Script {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.ready).min(1000);
        buf.iter_mut().zip(self.stream.drain(..n)).for_each(|(slot, byte)| *slot = byte);
        self.ready -= n;
        n
    }

    fn send(&mut self, data: &[u8]) -> usize {
        data.len()
    }

    fn is_open(&self) -> bool {
        !self.stream.is_empty()
    }
}

/// Gives each record its number and its seal, as far as the lengths lead.
fn seal(stream: &mut [u8]) {
    let mut rest = stream.get_mut(STREAM_HEADER..).unwrap_or_default();
    for seq in 0.. {
        let Some((head, tail)) = rest.split_first_chunk_mut::<RECORD_HEADER>() else { return };
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mut header = RecordHeader { kind: word(0) as u16, len: word(4), seq, check: 0 };
        let Some((body, tail)) = tail.split_at_mut_checked(header.len as usize) else { return };
        header.check = header.check_of(header.seal(body));
        head[8..].copy_from_slice(&header.to_bytes()[8..]);
        rest = tail;
    }
}

#[derive(Default)]
struct Pipe {
    waiting: VecDeque<u8>,
    all: Vec<u8>,
}

struct End<'a> {
    out: &'a mut Pipe,
    into: &'a mut Pipe,
}

impl Link for End<'_> {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.into.waiting.len());
        buf.iter_mut().zip(self.into.waiting.drain(..n)).for_each(|(slot, byte)| *slot = byte);
        n
    }

    fn send(&mut self, data: &[u8]) -> usize {
        self.out.waiting.extend(data);
        self.out.all.extend(data);
        data.len()
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// A VM of a few pages on the host it leaves; it writes one page in each round.
struct Leaving {
    dirty: BTreeSet<u64>,
    rounds: u64,
    paused: bool,
    given: bool,
    freed: bool,
}

impl Leaving {
    fn new() -> Self {
        Self { dirty: BTreeSet::new(), rounds: 0, paused: false, given: false, freed: false }
    }
}

impl SourceVm for Leaving {
    fn start_tracking(&mut self) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn harvest(&mut self) -> Poll<u64> {
        if !self.paused && self.rounds < 3 {
            self.rounds += 1;
            self.dirty.extend([self.rounds, self.rounds + 5, self.rounds + 9]);
        }
        Poll::Ready(self.dirty.len() as u64)
    }

    fn take_dirty(&mut self, from: u64) -> Option<u64> {
        let gfn = *self.dirty.range(from..).next()?;
        self.dirty.remove(&gfn);
        Some(gfn)
    }

    fn read_page(&mut self, gfn: u64, page: &mut [u8; PAGE_BYTES]) -> Result<(), MemoryError> {
        page.fill(0);
        match gfn % 8 {
            // Mostly zero or filled pages: a seed is to be small.
            0 if gfn > 0 => page.fill(gfn as u8),
            1 => page.iter_mut().enumerate().for_each(|(i, b)| *b = (i as u64 * gfn) as u8),
            _ => {}
        }
        Ok(())
    }

    fn read_file(&mut self, _number: u32, offset: u64, into: &mut [u8]) -> Result<(), String> {
        let from = usize::try_from(offset).ok().and_then(|at| KERNEL.get(at..)?.get(..into.len()));
        into.copy_from_slice(from.expect("within its length"));
        Ok(())
    }

    fn throttle(&mut self, _shares: &migrate::Shares) {}

    fn pause(&mut self) -> Poll<u64> {
        self.paused = true;
        Poll::Ready(0)
    }

    fn resume(&mut self) {
        assert!(!self.given, "resumed after COMMIT");
        self.paused = false;
    }

    fn give_back(&mut self) {}

    fn stop_tracking(&mut self) {}

    fn export_state(&mut self) -> Result<Vec<StateRecord>, String> {
        assert!(self.paused);
        Ok(crate::devices::platform().export())
    }

    fn give_up(&mut self) -> Result<(), String> {
        assert!(self.paused && !self.given);
        self.given = true;
        Ok(())
    }

    fn free(&mut self) {
        assert!(self.given);
        self.freed = true;
    }

    fn mark_unknown(&mut self) {
        assert!(self.given && !self.freed);
    }
}

/// The VM on the host it comes to; its state goes into real devices.
#[derive(Default)]
struct Coming {
    stores: bool,
    shape: Option<Shape>,
    made: bool,
    runs: bool,
    /// Bytes of the file that comes, and how long it is to be.
    file: u64,
    origin: Origin,
}

impl TargetMemory for Coming {
    fn write_page(&mut self, gfn: u64, _: &[u8; PAGE_BYTES]) -> Result<(), MemoryError> {
        self.fill_page(gfn, 0)
    }

    fn fill_page(&mut self, gfn: u64, _: u64) -> Result<(), MemoryError> {
        assert!(self.made && !self.runs, "memory written out of turn");
        let inside = self.shape.as_ref().is_some_and(|s| s.covers(gfn, 1));
        if inside { Ok(()) } else { Err(MemoryError { gpa: Gpa(gfn.wrapping_mul(4096)), len: PAGE_BYTES }) }
    }

    fn read_page(&self, gfn: u64, page: &mut [u8; PAGE_BYTES]) -> Result<(), MemoryError> {
        assert!(self.made && !self.runs, "memory read out of turn");
        page.fill(gfn as u8);
        Ok(())
    }
}

impl TargetVm for Coming {
    fn stores(&self) -> bool {
        self.stores
    }

    fn check(&mut self, offer: &Offer<'_>) -> Result<(), String> {
        if offer.policy == [0xA0] { Ok(()) } else { Err("another policy".into()) }
    }

    fn create(&mut self, offer: &Offer<'_>) -> Poll<Result<(), String>> {
        if offer.shape.pages() > 1 << 20 {
            return Poll::Ready(Err("no memory".into()));
        }
        self.shape = Some(offer.shape.clone());
        self.made = true;
        Poll::Ready(Ok(()))
    }

    fn wants(&mut self, origin: &Origin) -> Vec<u32> {
        assert!(self.made && origin.validate().is_ok());
        self.origin = origin.clone();
        // More than may be asked for.
        (0..=origin.files.len() as u32).rev().collect()
    }

    fn take_file(&mut self, number: u32, bytes: &[u8]) -> Result<(), String> {
        assert!(self.made && !self.runs && !bytes.is_empty());
        self.file += bytes.len() as u64;
        assert!(self.file <= self.origin.files[number as usize].len, "more than it has");
        Ok(())
    }

    fn end_file(&mut self, number: u32) -> Result<(), String> {
        assert_eq!(std::mem::take(&mut self.file), self.origin.files[number as usize].len);
        Ok(())
    }

    fn import_state(&mut self, records: &[StateRecord]) -> Result<(), StateError> {
        assert!(self.made && !self.runs);
        assert_eq!(self.file, 0, "state before the file is here");
        crate::devices::platform().import(records)
    }

    fn run(&mut self, _: u64) {
        assert!(self.made && !self.runs);
        self.runs = true;
    }

    fn destroy(&mut self) {
        assert!(!self.runs, "destroyed while it runs");
        self.made = false;
    }
}
