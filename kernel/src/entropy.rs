//! The host's randomness: identities, TCP sequence numbers, and keys once there is enough of it.

use alloc::string::String;
use core::fmt::Write;

use cmdline::Secret;
use entropy::{Generator, Instruction, NotEnough, Pool, Source};

use crate::lock::{self, Mutex};
use crate::wall_clock;
use hw::arch::{random, tsc};

static POOL: Mutex<Pool> = Mutex::new(lock::ENTROPY, Pool::new());

/// Words drawn of the CPU's generator: they make a key.
const WORDS: usize = 32;

/// Gathers what there is at boot; the log says what it is worth. The seed is used up: with it and the time of the boot,
/// the pool's whole history would be known.
pub(crate) fn init(seed: Option<Secret>) {
    let mut pool = POOL.lock();
    pool.add(Source::Tsc, &tsc::read().to_le_bytes());
    pool.add(Source::WallClock, &wall_clock::unix_seconds().to_le_bytes());
    let mut sources = String::new();
    if let Some(seed) = seed {
        pool.add_seed(seed.bytes());
        sources.push_str("seed=, ");
    }
    type Draw = fn(&mut [u64]) -> (usize, u64);
    let generators: [(Instruction, Draw); 2] =
        [(Instruction::RdSeed, random::rdseed), (Instruction::RdRand, random::rdrand)];
    for (instruction, draw) in generators {
        let mut words = [0; WORDS];
        let (count, ticks) = draw(&mut words);
        let name = instruction.name();
        let judged = pool.add_hardware(instruction, &words[..count], ticks);
        // Writing to a String cannot fail.
        let _ = match judged {
            _ if count == 0 => write!(sources, "no {name}, "),
            Ok(()) => write!(sources, "{name}, "),
            Err(why) => write!(sources, "{name} does not count ({why}), "),
        };
    }
    log::info!(target: "entropy", "{sources}{} of {} bits", pool.credited(), entropy::ENOUGH);
}

/// Mixes in the card's address, which no two hosts share.
pub(crate) fn add_mac(mac: &[u8; 6]) {
    POOL.lock().add(Source::Mac, mac);
}

/// Sixty-four bits that another host, or another boot, does not draw. Nothing secret may rest on them.
pub(crate) fn next() -> u64 {
    let mut pool = POOL.lock();
    pool.add(Source::Tsc, &tsc::read().to_le_bytes());
    pool.number()
}

/// A generator fit for keys.
///
/// # Errors
/// There is not enough randomness.
pub(crate) fn generator() -> Result<Generator, NotEnough> {
    let mut pool = POOL.lock();
    pool.add(Source::Tsc, &tsc::read().to_le_bytes());
    pool.generator()
}

/// A secret of one migration. Where there is no randomness for keys there is no keyed link either, and whoever reads the
/// link reads the secret.
pub(crate) fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    match generator() {
        Ok(mut generator) => generator.fill(&mut secret),
        Err(_) => secret.as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = next().to_le_bytes()),
    }
    secret
}

/// An RFC 9562 version 4 identifier.
pub(crate) fn uuid() -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&next().to_be_bytes());
    uuid[8..].copy_from_slice(&next().to_be_bytes());
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}
