//! A VM in this process, and the two ends of a migration over TCP.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cpu_policy::{Dump, GuestPolicy, Level};
use entropy::Generator;
use migrate::handover::{Answer, Deal, Question, Word, stranger};
use migrate::{
    Hello, Link, Offer, Origin, OriginFile, PAGE_BYTES, PageRange, Purpose, Shape, Source, SourceEvent,
    SourceOutcome, SourceParams, SourceVm, Target, TargetEvent, TargetMemory, TargetOutcome, TargetParams,
    TargetVm, Tuning,
};
use secure_link::{
    Alert, ByteStream, Gate, HostKey, Initiator, Limit, PoolKey, PublicKey, Responder, Security, Service,
    Session,
};
use sha2::{Digest, Sha256};
use vm_types::{Gpa, MemoryError, StateError, StateRecord, Topology};

pub(crate) type Page = [u8; PAGE_BYTES];
/// Of two pages and a bit.
const KERNEL: &[u8] = &[0x5a; 9000];
pub(crate) const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const HZ: u64 = 1_000_000_000;
const LIMIT: Limit = Limit { hz: HZ, ms: 20_000 };

pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("flexctl-store-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    folder
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flexctl"));
    let config = std::env::temp_dir().join(format!("flexctl-config-{}", std::process::id()));
    command.args(args).env("XDG_CONFIG_HOME", config).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit status, standard output, standard error.
pub(crate) fn flexctl(args: &[&str]) -> (i32, String, String) {
    let output = command(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// `flexctl receive` under way.
pub(crate) struct Receiver {
    child: Child,
    errors: BufReader<std::process::ChildStderr>,
    pub(crate) port: u16,
}

impl Receiver {
    pub(crate) fn start(file: &Path, keys: &[&str]) -> Self {
        let args = [&["receive", file.to_str().unwrap(), "--listen", "127.0.0.1:0"], keys].concat();
        let mut child = command(&args).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        let port = line.trim_end().rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("{line}"));
        Self { child, errors, port }
    }

    /// Ends the process as a loss of power would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for a line on standard error.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(self.errors.read_line(&mut line).unwrap(), 0, "no {text}");
        }
    }

    pub(crate) fn end(mut self) -> (i32, String, String) {
        let (mut out, mut errors) = (String::new(), String::new());
        self.errors.read_to_string(&mut errors).unwrap();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (self.child.wait().unwrap().code().unwrap(), out, errors)
    }
}

/// The VM as its first host has it, and as its last one gets it.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Model {
    pages: BTreeMap<u64, Page>,
    records: Vec<StateRecord>,
    policy: Vec<u8>,
    companion: Vec<u8>,
    shape: Option<Shape>,
    /// What it was made from, and its files.
    origin: Option<Origin>,
    files: BTreeMap<u32, Vec<u8>>,
    pub(crate) name: String,
    pub(crate) uuid: [u8; 16],
}

fn policy() -> Vec<u8> {
    let dumps = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cpu-policy/tests/dumps");
    let text = fs::read_to_string(dumps.join("corei7_haswell_4770.cpu")).unwrap();
    let host = Dump::parse(&text).unwrap().policy();
    let shape = cpu_policy::Shape {
        topology: Topology { sockets: 2, cores: 1, threads: 1 },
        tsc_hz: 20_000_000,
        apic_hz: 100_000_000,
        phys_bits: None,
    };
    GuestPolicy::render(Level::by_name("haswell").unwrap(), shape, &host).unwrap().encode()
}

impl Model {
    /// A quarter zero pages, a quarter fill pages, the rest random.
    pub(crate) fn full() -> Self {
        let ranges = vec![PageRange { first: 0, pages: 160 }, PageRange { first: 0x100, pages: 512 }];
        let mut random = 0x1234_5678_9abc_def1_u64;
        let mut pages = BTreeMap::new();
        for gfn in (0..160).chain(0x100..0x300) {
            let mut page = [0; PAGE_BYTES];
            match gfn % 4 {
                0 => {}
                1 => page.fill(0xcc),
                _ => page.chunks_exact_mut(8).for_each(|chunk| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    chunk.copy_from_slice(&random.to_le_bytes());
                }),
            }
            pages.insert(gfn, page);
        }
        let record =
            |kind: &str, instance, body| StateRecord { kind: kind.into(), instance, version: 1, body };
        Self {
            pages,
            records: vec![record("vcpu", 0, vec![0xa1, 0, 1]), record("uart", 1, vec![7; 5000])],
            policy: policy(),
            companion: b"companion".to_vec(),
            origin: Some(Origin {
                options: "mem=3 level=haswell vcpus=2 topology=2:1:1".into(),
                args: "console=ttyS0".into(),
                files: vec![
                    OriginFile {
                        sha256: Some(Sha256::digest(KERNEL).into()),
                        len: KERNEL.len() as u64,
                        text: String::new(),
                        url: Some("http://10.0.0.9/vmlinux".into()),
                        stays: None,
                    },
                    OriginFile { sha256: None, len: 1 << 33, text: "large".into(), url: None, stays: None },
                ],
            }),
            files: [(0, KERNEL.to_vec())].into(),
            shape: Some(Shape { vcpus: 2, ranges, tsc_hz: 20_000_000, devices: vec!["uart/2".into()] }),
            name: "demo".into(),
            uuid: [0x42; 16],
        }
    }
}

impl Model {
    /// The same with so many vCPUs in its shape, and as many in its policy as before.
    pub(crate) fn with_vcpus(mut self, vcpus: u32) -> Self {
        self.shape.as_mut().unwrap().vcpus = vcpus;
        self
    }
}

fn no_ram(gfn: u64) -> MemoryError {
    MemoryError { gpa: Gpa(gfn * 4096), len: PAGE_BYTES }
}

/// The VM on its first host. It dirties some pages after the first round.
struct Leaving<'a> {
    model: &'a Model,
    dirty: Cell<u64>,
    freed: bool,
}

impl SourceVm for Leaving<'_> {
    fn start_tracking(&mut self) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn harvest(&mut self) -> Poll<u64> {
        Poll::Ready(160_u64.saturating_sub(self.dirty.get()))
    }

    fn take_dirty(&mut self, from: u64) -> Option<u64> {
        let gfn = from.max(self.dirty.get());
        self.dirty.set(gfn + 1);
        (gfn < 160).then_some(gfn)
    }

    /// In the first round pages are what they never are later.
    fn read_page(&mut self, gfn: u64, page: &mut Page) -> Result<(), MemoryError> {
        *page = *self.model.pages.get(&gfn).ok_or(no_ram(gfn))?;
        if gfn < 160 && self.dirty.get() <= gfn {
            page[..8].copy_from_slice(&gfn.to_le_bytes());
        }
        Ok(())
    }

    fn read_file(&mut self, number: u32, offset: u64, into: &mut [u8]) -> Result<(), String> {
        let from = &self.model.files[&number][offset as usize..];
        into.copy_from_slice(&from[..into.len()]);
        Ok(())
    }

    fn throttle(&mut self, _: &migrate::Shares) {}

    fn pause(&mut self) -> Poll<u64> {
        Poll::Ready(0)
    }

    fn resume(&mut self) {}

    fn give_back(&mut self) {}

    fn stop_tracking(&mut self) {}

    fn export_state(&mut self) -> Result<Vec<StateRecord>, String> {
        Ok(self.model.records.clone())
    }

    fn give_up(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn free(&mut self) {
        self.freed = true;
    }

    fn mark_unknown(&mut self) {}
}

/// The VM on its last host.
struct Coming {
    model: Model,
    refuses: bool,
    runs: bool,
}

impl TargetMemory for Coming {
    fn write_page(&mut self, gfn: u64, page: &Page) -> Result<(), MemoryError> {
        *self.model.pages.get_mut(&gfn).ok_or(no_ram(gfn))? = *page;
        Ok(())
    }

    fn read_page(&self, gfn: u64, page: &mut Page) -> Result<(), MemoryError> {
        *page = *self.model.pages.get(&gfn).ok_or(no_ram(gfn))?;
        Ok(())
    }

    fn fill_page(&mut self, gfn: u64, word: u64) -> Result<(), MemoryError> {
        let mut page = [0; PAGE_BYTES];
        page.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&word.to_le_bytes()));
        self.write_page(gfn, &page)
    }
}

impl TargetVm for Coming {
    fn check(&mut self, offer: &Offer<'_>) -> Result<(), String> {
        if self.refuses {
            return Err("no room here".into());
        }
        self.model.name.clone_from(&offer.hello.vm_name);
        self.model.uuid = offer.hello.vm_uuid;
        self.model.policy = offer.policy.to_vec();
        self.model.companion = offer.companion.to_vec();
        Ok(())
    }

    fn create(&mut self, offer: &Offer<'_>) -> Poll<Result<(), String>> {
        let shape = offer.shape.clone();
        let frames = shape.ranges.iter().flat_map(|range| range.first..range.first + range.pages);
        self.model.pages = frames.map(|gfn| (gfn, [0; PAGE_BYTES])).collect();
        self.model.shape = Some(shape);
        Poll::Ready(Ok(()))
    }

    fn wants(&mut self, origin: &Origin) -> Vec<u32> {
        self.model.origin = Some(origin.clone());
        origin.lacking(|_, _| true)
    }

    fn take_file(&mut self, number: u32, bytes: &[u8]) -> Result<(), String> {
        self.model.files.entry(number).or_default().extend(bytes);
        Ok(())
    }

    fn import_state(&mut self, records: &[StateRecord]) -> Result<(), StateError> {
        self.model.records = records.to_vec();
        Ok(())
    }

    fn run(&mut self, _: u64) {
        self.runs = true;
    }

    fn destroy(&mut self) {
        assert!(!self.runs);
    }
}

struct Tcp(TcpStream, bool);

impl Tcp {
    fn moved(&mut self, result: std::io::Result<usize>) -> usize {
        match result {
            Ok(n) if n > 0 => return n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => self.1 = false,
        }
        std::thread::sleep(Duration::from_micros(100));
        0
    }
}

impl ByteStream for Tcp {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        let result = self.0.read(buf);
        self.moved(result)
    }

    fn send(&mut self, data: &[u8]) -> usize {
        if data.is_empty() {
            return 0;
        }
        let result = self.0.write(data);
        self.moved(result)
    }

    fn is_open(&self) -> bool {
        self.1
    }
}

struct End(Tcp, Session);

impl Link for End {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        if buf.is_empty() { 0 } else { self.1.recv(&mut self.0, buf) }
    }

    fn send(&mut self, data: &[u8]) -> usize {
        self.1.send(&mut self.0, data)
    }

    fn is_open(&self) -> bool {
        self.1.is_open(&self.0)
    }
}

struct Open;

impl Gate for Open {
    fn service(&mut self, _: Service) -> Result<(), Alert> {
        Ok(())
    }

    fn identity(&mut self, _: Service, _: &PublicKey) -> Result<(), Alert> {
        Ok(())
    }
}

fn security(keys: &[&str]) -> Security {
    let [_, key] = keys else { return Security::Insecure };
    let digits: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&key[2 * i..2 * i + 2], 16).unwrap()).collect();
    let mut private = [9; 32];
    private[0] = 1;
    Security::Keyed {
        pool: PoolKey::new(digits.try_into().unwrap()).unwrap(),
        host: HostKey::new(private).unwrap(),
    }
}

fn generator() -> Generator {
    let mut secret = [0; 32];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut secret).unwrap();
    Generator::from_secret(secret)
}

fn tcp(stream: TcpStream) -> Tcp {
    stream.set_nonblocking(true).unwrap();
    stream.set_nodelay(true).unwrap();
    Tcp(stream, true)
}

fn now(began: Instant) -> u64 {
    began.elapsed().as_nanos() as u64
}

fn dial(port: u16, keys: &[&str]) -> End {
    let mut tcp = tcp(TcpStream::connect(("127.0.0.1", port)).unwrap());
    let began = Instant::now();
    let mut initiator = Initiator::new(Service::Migrate, &security(keys), generator(), LIMIT, 0).unwrap();
    loop {
        if let Poll::Ready(session) = initiator.poll(now(began), &mut tcp) {
            return End(tcp, session.unwrap());
        }
    }
}

fn source(model: &Model) -> Source {
    source_for(model, None)
}

fn source_for(model: &Model, purpose: Option<Purpose>) -> Source {
    let hello = Hello {
        migration: [1; 16],
        vm_uuid: model.uuid,
        boot: [3; 16],
        vm_name: model.name.clone(),
        check_only: false,
        secret: Some([5; 32]),
        purpose,
        port: None,
    };
    let params = SourceParams {
        hello,
        policy: model.policy.clone(),
        companion: model.companion.clone(),
        shape: model.shape.clone().unwrap(),
        origin: model.origin.clone(),
        tuning: Tuning::default(),
        hz: HZ,
    };
    Source::new(params, 0)
}

/// Migrates the model to a port of this machine.
pub(crate) fn leave(model: &Model, port: u16, keys: &[&str]) -> SourceOutcome {
    leave_for(model, None, port, keys)
}

/// The same for another purpose than a move.
pub(crate) fn leave_for(model: &Model, purpose: Option<Purpose>, port: u16, keys: &[&str]) -> SourceOutcome {
    let mut link = dial(port, keys);
    let mut vm = Leaving { model, dirty: Cell::new(0), freed: false };
    let (mut source, began) = (source_for(model, purpose), Instant::now());
    loop {
        if let SourceEvent::Finished(outcome) = source.poll(now(began), &mut link, &mut vm) {
            link.1.close(&mut link.0);
            assert_eq!(vm.freed, matches!(outcome, SourceOutcome::Done(_)));
            return outcome;
        }
    }
}

/// Drops the connection in the middle of the memory.
pub(crate) fn leave_and_vanish(model: &Model, port: u16, keys: &[&str]) {
    let mut link = dial(port, keys);
    let mut vm = Leaving { model, dirty: Cell::new(0), freed: false };
    let (mut source, began) = (source(model), Instant::now());
    while source.totals().pages < 300 {
        let event = source.poll(now(began), &mut link, &mut vm);
        assert!(!matches!(event, SourceEvent::Finished(_)), "{event:?}");
    }
}

/// Drops the connection when COMMIT is queued, before it leaves.
pub(crate) fn leave_until_given(model: &Model, port: u16, keys: &[&str]) -> Deal {
    let mut link = dial(port, keys);
    let mut vm = Leaving { model, dirty: Cell::new(0), freed: false };
    let (mut source, began) = (source(model), Instant::now());
    let mut muted = Muted(&mut link, false);
    loop {
        // READY has not been read yet when STATE_END leaves; COMMIT answers it in the poll that reads it.
        muted.1 = source.doing() == "sending state" && source.totals().state_records == 2;
        let event = source.poll(now(began), &mut muted, &mut vm);
        assert!(!matches!(event, SourceEvent::Finished(_)), "{event:?}");
        if event == SourceEvent::Given {
            return source.deal().unwrap();
        }
    }
}

/// Lets nothing out where it is so.
struct Muted<'a>(&'a mut End, bool);

impl Link for Muted<'_> {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        self.0.recv(buf)
    }

    fn send(&mut self, data: &[u8]) -> usize {
        // What STATE_END leaves over is longer than COMMIT.
        if self.1 && data.len() < 100 { 0 } else { self.0.send(data) }
    }

    fn is_open(&self) -> bool {
        self.0.is_open()
    }
}

/// Asks a port of this machine, and says that the VM is given.
pub(crate) fn question(deal: &Deal, port: u16, keys: &[&str]) -> Word {
    let mut link = dial(port, keys);
    let began = Instant::now();
    let mut question = Question::new(&deal.say(Word::Commit, 1), Tuning::default(), HZ, 0);
    loop {
        match question.poll(now(began), &mut link) {
            Answer::Heard(fate) => {
                link.1.close(&mut link.0);
                return deal.hear(&fate).unwrap();
            }
            Answer::Waiting => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The other end of a deal, asked until it is told `last`; what it was told is given back. It answers `word`, or as a
/// stranger if there is none.
pub(crate) fn asked(
    deal: Deal,
    word: Option<Word>,
    last: Word,
    keys: &[&str],
) -> (u16, JoinHandle<Vec<Word>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let security = security(keys);
    let end = move || {
        let mut told = Vec::new();
        while told.last() != Some(&last) {
            let mut tcp = tcp(listener.accept().unwrap().0);
            let began = Instant::now();
            let mut responder = Responder::new(security.clone(), generator(), LIMIT, 0);
            let session = loop {
                if let Poll::Ready(session) = responder.poll(now(began), &mut tcp, &mut Open) {
                    break session.unwrap();
                }
            };
            let mut link = End(tcp, session);
            let mut vm = Coming { model: Model::default(), refuses: true, runs: false };
            let params = TargetParams { boot: [8; 16], tuning: Tuning::default(), hz: HZ };
            let mut target = Target::new(params, 0);
            loop {
                match target.poll(now(began), &mut link, &mut vm) {
                    TargetEvent::Asked(fate) => {
                        told.push(deal.hear(&fate).unwrap());
                        target
                            .answer(&word.map_or_else(|| stranger([8; 16], &fate), |word| deal.say(word, 0)));
                    }
                    TargetEvent::Finished(_) => break,
                    _ => {}
                }
            }
            link.1.close(&mut link.0);
        }
        told
    };
    (port, std::thread::spawn(end))
}

/// A host that vanishes when it is READY.
pub(crate) fn vanish(keys: &[&str]) -> (u16, JoinHandle<Deal>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(keys, ["--insecure"]);
    let host = move || {
        let mut tcp = tcp(listener.accept().unwrap().0);
        let mut responder = Responder::new(Security::Insecure, generator(), LIMIT, 0);
        let session = loop {
            if let Poll::Ready(session) = responder.poll(0, &mut tcp, &mut Open) {
                break session.unwrap();
            }
        };
        let mut link = End(tcp, session);
        let mut vm = Coming { model: Model::default(), refuses: false, runs: false };
        let mut target = Target::new(TargetParams { boot: [4; 16], tuning: Tuning::default(), hz: HZ }, 0);
        let began = Instant::now();
        while target.poll(now(began), &mut link, &mut vm) != TargetEvent::Ready {}
        // COMMIT comes and is not read.
        std::thread::sleep(Duration::from_millis(300));
        target.deal().unwrap()
    };
    (port, std::thread::spawn(host))
}

/// A host that takes one VM; connections that do not become links are none.
pub(crate) fn arrive(keys: &[&str], refuses: bool) -> (u16, JoinHandle<(Model, TargetOutcome)>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let security = security(keys);
    let host = move || loop {
        let mut tcp = tcp(listener.accept().unwrap().0);
        let began = Instant::now();
        let mut responder = Responder::new(security.clone(), generator(), LIMIT, 0);
        let session = loop {
            if let Poll::Ready(session) = responder.poll(now(began), &mut tcp, &mut Open) {
                break session;
            }
        };
        let Ok(session) = session else { continue };
        let mut link = End(tcp, session);
        let mut vm = Coming { model: Model::default(), refuses, runs: false };
        let began = Instant::now();
        let params = TargetParams { boot: [4; 16], tuning: Tuning::default(), hz: HZ };
        let mut target = Target::new(params, 0);
        loop {
            if let TargetEvent::Finished(outcome) = target.poll(now(began), &mut link, &mut vm) {
                link.1.close(&mut link.0);
                assert_eq!(vm.runs, outcome == TargetOutcome::Runs);
                return (vm.model, outcome);
            }
        }
    };
    (port, std::thread::spawn(host))
}
