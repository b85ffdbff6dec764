//! Two hosts, each with a TCP stack of its own, a cable between them, and a guest that knows its memory by heart.
#![allow(dead_code, unused_imports, missing_docs, unreachable_pub, clippy::missing_panics_doc)]

pub mod doubt;
pub mod guest;
pub mod lan;
pub mod link;
pub mod machine;
pub mod vm;
mod world;

pub use world::{End, Fault, World};

/// A small generator.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.roll().is_multiple_of(n)
    }
}

/// Whether all that there is shall be run, and not only the part that every run of the tests affords.
pub fn whole() -> bool {
    std::env::var_os("FLEXVISOR_FAULTS").is_some()
}

/// The seeds of this run: `some` of them, `all` in a whole run, or the one that `FLEXVISOR_SEED` names.
pub fn seeds(some: u64, all: u64) -> Vec<u64> {
    match std::env::var("FLEXVISOR_SEED") {
        Ok(text) => vec![text.parse().expect("FLEXVISOR_SEED is a number")],
        Err(_) => (1..=if whole() { all } else { some }).collect(),
    }
}

/// Says which case it was where one fails.
pub struct Named(pub String);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("FAILED: {}", self.0);
        }
    }
}
