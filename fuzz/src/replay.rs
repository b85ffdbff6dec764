//! Targets run over their seeds and over mutations of them, without libFuzzer: no coverage to steer by, but it needs
//! nothing that is not at hand, and is quick enough to be run before a push.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::find;

const MINUTE: Duration = Duration::from_secs(60);
/// Longest that one input may take.
const SLOW: Duration = Duration::from_secs(5);

/// Runs the named targets, each for `time`. The input that breaks one is kept in `fuzz/artifacts/NAME/`.
#[must_use]
pub fn run(names: &[&str], time: Duration) -> ExitCode {
    let broken = names.iter().filter(|name| !replay(name, time)).count();
    println!("{} passed, {broken} failed", names.len() - broken);
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(name: &str, time: Duration) -> bool {
    let seeds = match seeds(name) {
        Ok(seeds) if !seeds.is_empty() => seeds,
        Ok(_) => {
            println!("{name}: FAILED: no seeds");
            return false;
        }
        Err(error) => {
            println!("{name}: FAILED: seeds: {error}");
            return false;
        }
    };
    let target = find(name);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let end = Instant::now() + time;
    let mut runs = 0_u64;
    let mut input;
    while runs < seeds.len() as u64 || Instant::now() < end {
        input = match seeds.get(runs as usize) {
            Some(seed) => seed.clone(),
            None => mutate(&seeds, &mut random),
        };
        let start = Instant::now();
        let panicked = catch_unwind(|| target(&input)).is_err();
        if panicked || start.elapsed() > SLOW {
            let why = if panicked { "panicked" } else { "took more than 5 s" };
            println!("{name}: FAILED: {why} after {runs} runs, input kept in {}", keep(name, &input));
            return false;
        }
        runs += 1;
    }
    println!("{name}: ok, {} seeds, {runs} runs", seeds.len());
    true
}

/// Runs a target `executions` times on mutations of its seeds and of each other's: no clock in the loop, and `seed`
/// decides all. It counts what it runs, and says so every minute.
#[must_use]
pub fn drive(name: &str, executions: u64, seed: u64) -> bool {
    let seeds = match seeds(name) {
        Ok(seeds) if !seeds.is_empty() => seeds,
        Ok(_) => return failed(name, "no seeds"),
        Err(error) => return failed(name, &format!("seeds: {error}")),
    };
    let target = find(name);
    let mut random = Random(seed | 1);
    let start = Instant::now();
    let mut told = start;
    let mut input = Vec::new();
    let mut runs = 0;
    while runs < executions {
        let batch = (executions - runs).min(1024);
        let mut done = 0;
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..batch {
                mutate_into(&mut input, &seeds, &mut random);
                target(&input);
                done += 1;
            }
        }))
        .is_err();
        runs += done;
        if panicked {
            return failed(
                name,
                &format!("panicked after {runs} runs, input kept in {}", keep(name, &input)),
            );
        }
        if told.elapsed() > MINUTE {
            told = Instant::now();
            println!("{name}: {runs} executions in {:.0} s", start.elapsed().as_secs_f64());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{name}: ok, seed {seed}, {runs} executions in {seconds:.1} s, {:.0}/s", runs as f64 / seconds);
    true
}

fn failed(name: &str, why: &str) -> bool {
    println!("{name}: FAILED: {why}");
    false
}

fn seeds(name: &str) -> std::io::Result<Vec<Vec<u8>>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(root().join("corpus").join(name))? {
        files.push(entry?.path());
    }
    files.sort();
    files.into_iter().map(fs::read).collect()
}

fn keep(name: &str, input: &[u8]) -> String {
    let dir = root().join("artifacts").join(name);
    let file = dir.join(format!("replay-{}", input.len()));
    match fs::create_dir_all(&dir).and_then(|()| fs::write(&file, input)) {
        Ok(()) => file.display().to_string(),
        Err(error) => format!("nothing ({}: {error})", file.display()),
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One to eight changes to a seed.
fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    mutate_into(&mut bytes, seeds, random);
    bytes
}

/// The same into a buffer that is used again.
fn mutate_into(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    const WORDS: [u32; 10] = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF];
    bytes.clear();
    bytes.extend_from_slice(&seeds[random.below(seeds.len())]);
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len() + 1);
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.next() as u8),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 | 4 => {
                let word = WORDS[random.below(WORDS.len())].to_le_bytes();
                let len = [1, 2, 4][random.below(3)];
                bytes.iter_mut().skip(at).zip(&word[..len]).for_each(|(b, w)| *b = *w);
            }
            5 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                let end = (from + random.below(64)).min(other.len());
                drop(bytes.splice(at..at, other[from..end].iter().copied()));
            }
            6 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(1 + random.below(4) as u8),
            _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => bytes.push(random.next() as u8),
        }
    }
}

/// xorshift64*: the same mutations in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}
