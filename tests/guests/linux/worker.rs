//! User program of the demo guest: everything it prints is checked from outside while the guest migrates.
//!
//! Lines: `tick N uptime S.SS epoch S`, `worker pass N errors E rewrites R`, `worker CPU pass N errors E rewrites R` of the
//! worker on each further CPU, as many as `workers N` says; `flags N: ...`, `cpuid LEAF SUBLEAF EAX EBX ECX EDX` between
//! `cpuid begin K` and `cpuid end K lines N`.
//! Commands on standard input: `dump`, `stop`. An argument N stops it after N ticks.

use std::arch::x86_64::__cpuid_count;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

const WORDS: usize = 512;
const PAGES: usize = 16 * 1024 * 1024 / (WORDS * 8);
/// A further CPU's worker has 1 MiB: sixty-four of them are to fit into a small guest.
const PAGES_OF_OTHERS: usize = PAGES / 16;
const SLICES_PER_SECOND: u32 = 16;
/// 64 pages a second of 16 MiB, and 16 of less.
const PAGES_PER_REWRITE: usize = PAGES / 4;
/// A full pass over the memory takes four seconds.
const SLICES_PER_PASS: usize = 64;
const SLICES_PER_TICK: u32 = 4;

fn main() {
    let last_tick = std::env::args().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(u64::MAX);
    let commands = read_commands();
    say(&format!("worker: {PAGES} pages of {} bytes", WORDS * 8));
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    say(&format!("workers {cpus}"));
    for cpu in 1..cpus {
        thread::spawn(move || on_cpu(cpu, || work(cpu)));
    }
    let mut memory = Memory::new(None, PAGES);
    let mut dumps = 0;
    dump_cpu(&mut dumps);

    let slice = Duration::from_secs(1) / SLICES_PER_SECOND;
    let mut next = Instant::now();
    let mut tick = 0;
    while tick < last_tick {
        tick += 1;
        say(&format!("tick {tick} uptime {} epoch {}", uptime(), epoch()));
        for _ in 0..SLICES_PER_TICK {
            memory.slice();
            next += slice;
            let now = Instant::now();
            match next.checked_duration_since(now) {
                Some(rest) => thread::sleep(rest),
                None => next = now, // late: no burst to catch up
            }
        }
        match commands.try_recv().as_deref() {
            Ok("dump") => dump_cpu(&mut dumps),
            Ok("stop") => break,
            Ok("") | Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
            Ok(other) => say(&format!("worker: unknown command {other:?}")),
        }
    }
    memory.report();
    say(&format!("worker: stopped after tick {tick}"));
}

/// What each CPU but the first does without end.
fn work(cpu: usize) {
    let mut memory = Memory::new(Some(cpu), PAGES_OF_OTHERS);
    let slice = Duration::from_secs(1) / SLICES_PER_SECOND;
    let mut next = Instant::now();
    loop {
        memory.slice();
        next += slice;
        let now = Instant::now();
        match next.checked_duration_since(now) {
            Some(rest) => thread::sleep(rest),
            None => next = now,
        }
    }
}

/// The latest time that any worker has seen, in nanoseconds of the clock that never goes back.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// How far the clock is behind what another CPU's worker saw before, in nanoseconds.
fn clock_is_behind(started: Instant) -> Option<u64> {
    let seen = LATEST.load(Ordering::SeqCst);
    let now = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    LATEST.fetch_max(now, Ordering::SeqCst);
    seen.checked_sub(now).filter(|behind| *behind > 0)
}

/// When the first worker looked at its clock.
fn started() -> Instant {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    *STARTED.get_or_init(Instant::now)
}

fn read_commands() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line.trim().to_string()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// One `write` a line: lines of others on the console cannot come in between.
fn say(line: &str) {
    let _ = io::stdout().lock().write_all(format!("{line}\n").as_bytes());
}

fn uptime() -> String {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_string()
}

fn epoch() -> String {
    match std::time::UNIX_EPOCH.elapsed() {
        Ok(time) => format!("{}.{:02}", time.as_secs(), time.subsec_millis() / 10),
        Err(_) => "before-1970".to_string(),
    }
}

/// Every word follows from (page, generation, index), and the generations are kept apart from the pages:
/// a lost, stale or misplaced page shows.
struct Memory {
    /// The CPU that it is of, where it is not the first.
    cpu: Option<usize>,
    words: Vec<u64>,
    generations: Vec<u32>,
    rewrite_at: usize,
    verify_at: usize,
    passes: u64,
    errors: u64,
    rewrites: u64,
    first_error: Option<String>,
}

impl Memory {
    fn new(cpu: Option<usize>, pages: usize) -> Self {
        let mut memory = Self {
            cpu,
            words: vec![0; pages * WORDS],
            generations: vec![0; pages],
            rewrite_at: 0,
            verify_at: 0,
            passes: 0,
            errors: 0,
            rewrites: 0,
            first_error: None,
        };
        for page in 0..pages {
            memory.rewrite(page);
        }
        memory.rewrites = 0;
        memory
    }

    fn rewrite(&mut self, page: usize) {
        self.generations[page] += 1;
        let mut value = seed(page, self.generations[page]);
        for word in &mut self.words[page * WORDS..(page + 1) * WORDS] {
            *word = value;
            value = next_word(value);
        }
        self.rewrites += 1;
    }

    fn verify(&mut self, page: usize) {
        let mut value = seed(page, self.generations[page]);
        let mut wrong = 0;
        for word in &self.words[page * WORDS..(page + 1) * WORDS] {
            wrong += u64::from(*word != value);
            value = next_word(value);
        }
        if wrong != 0 {
            self.errors += 1;
            let generation = self.generations[page];
            let text = format!("page {page} generation {generation}: {wrong} words wrong");
            self.first_error.get_or_insert(text);
        }
    }

    fn slice(&mut self) {
        let pages = self.generations.len();
        if let Some(behind) = clock_is_behind(started()) {
            self.errors += 1;
            self.first_error.get_or_insert(format!("the clock ran back by {behind} ns"));
        }
        for _ in 0..pages.div_ceil(PAGES_PER_REWRITE) {
            self.rewrite(self.rewrite_at);
            // A step coprime to the number of pages spreads the rewrites over all of the memory.
            self.rewrite_at = (self.rewrite_at + 1237) % pages;
        }
        for _ in 0..pages / SLICES_PER_PASS {
            self.verify(self.verify_at);
            self.verify_at += 1;
            if self.verify_at == pages {
                self.verify_at = 0;
                self.passes += 1;
                self.report();
            }
        }
    }

    fn report(&self) {
        let Self { passes, errors, rewrites, .. } = self;
        let name = self.cpu.map_or_else(String::new, |cpu| format!(" {cpu}"));
        say(&format!("worker{name} pass {passes} errors {errors} rewrites {rewrites}"));
        if let Some(text) = &self.first_error {
            say(&format!("worker: first error: {text}"));
        }
    }
}

fn seed(page: usize, generation: u32) -> u64 {
    ((page as u64) << 32 | u64::from(generation)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

fn next_word(value: u64) -> u64 {
    value.rotate_left(7).wrapping_add(0x2545_f491_4f6c_dd1d)
}

fn dump_cpu(count: &mut u32) {
    *count += 1;
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    for line in info.lines().filter(|line| line.starts_with("flags") || line.starts_with("model name")) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        say(&format!("{} {count}:{value}", name.trim().replace(' ', "-")));
    }
    let mut text = format!("cpuid begin {count}\n");
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let lines: usize = (0..cpus).map(|cpu| on_cpu(cpu, || dump_cpuid(&mut text))).sum();
    let _ = write!(text, "cpuid end {count} lines {lines}");
    say(&text);
}

/// Runs `job` on that CPU: some of what CPUID answers is the CPU's own, and the scheduler moves this thread as it likes.
fn on_cpu<R>(cpu: usize, job: impl FnOnce() -> R) -> R {
    let all = affinity(GET_AFFINITY, [0; 16]);
    let mut one = [0; 16];
    one[cpu / 64] = 1 << (cpu % 64);
    affinity(SET_AFFINITY, one);
    let result = job();
    affinity(SET_AFFINITY, all);
    result
}

const SET_AFFINITY: usize = 203;
const GET_AFFINITY: usize = 204;

/// The system calls `sched_setaffinity` and `sched_getaffinity` of this thread, which the standard library has not.
fn affinity(call: usize, mut mask: [u64; 16]) -> [u64; 16] {
    let _result: usize;
    // SAFETY: both calls take a thread (0: this one), the mask's size and the mask, and touch no other memory; SYSCALL takes
    // RCX and R11.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") call => _result, in("rdi") 0, in("rsi") size_of_val(&mask),
            in("rdx") mask.as_mut_ptr(), out("rcx") _, out("r11") _);
    }
    mask
}

fn dump_cpuid(text: &mut String) -> usize {
    let mut lines = 0;
    for base in [0, 0x4000_0000, 0x8000_0000_u32] {
        let top = __cpuid_count(base, 0).eax.clamp(base, base + 0x3f);
        for leaf in base..=top {
            for subleaf in 0..subleaves(leaf) {
                let r = __cpuid_count(leaf, subleaf);
                if subleaf > 0 && [r.eax, r.ebx, r.ecx, r.edx] == [0; 4] {
                    continue;
                }
                let _ = writeln!(
                    text,
                    "cpuid {leaf:08x} {subleaf:08x} {:08x} {:08x} {:08x} {:08x}",
                    r.eax, r.ebx, r.ecx, r.edx
                );
                lines += 1;
            }
        }
    }
    lines
}

/// How many subleaves are asked for; those that answer only zeros are not printed.
fn subleaves(leaf: u32) -> u32 {
    match leaf {
        0x4 => 8,
        0x7 => 3,
        0xb | 0xf | 0x10 | 0x17 | 0x18 | 0x1f => 4,
        0xd => 63,
        0x12 | 0x14 => 3,
        _ => 1,
    }
}
