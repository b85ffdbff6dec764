//! What the pool gives, and what it holds back.

use entropy::{ENOUGH, Instruction, MIN_TICKS, NotEnough, Pool, Source, Unhealthy};
use proptest::prelude::*;

const SEED: [u8; 32] = *b"0123456789abcdef0123456789abcdef";

fn words(count: u64) -> Vec<u64> {
    (1..=count).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect()
}

#[test]
fn no_keys_before_there_is_enough() {
    let mut pool = Pool::new();
    assert_eq!(pool.generator().err(), Some(NotEnough { credited: 0 }));
    for _ in 0..1000 {
        pool.add(Source::Tsc, &[1; 8]);
        pool.add(Source::WallClock, &[2; 8]);
        pool.add(Source::Mac, &[3; 6]);
        pool.add(Source::Other, &[4; 64]);
    }
    assert_eq!(pool.credited(), 0, "public facts are no entropy");
    pool.add_hardware(Instruction::RdRand, &words(31), 31 * 200).unwrap();
    assert_eq!(pool.generator().err(), Some(NotEnough { credited: 248 }));
    assert_eq!(
        pool.generator().unwrap_err().to_string(),
        "248 of 256 bits of randomness: give the host seed= with 32 fresh bytes"
    );
    pool.add_hardware(Instruction::RdSeed, &words(8), 8 * 200).unwrap();
    assert_eq!(pool.credited(), ENOUGH);
    assert!(pool.generator().is_ok());
}

#[test]
fn a_seed_is_enough_unless_it_is_an_evident_mistake() {
    let mut pool = Pool::new();
    pool.add_seed(&[0; 32]);
    assert_eq!(pool.credited(), 0);
    pool.add_seed(&SEED);
    assert!(pool.generator().is_ok());
}

#[test]
fn an_emulators_generator_does_not_count_but_is_mixed_in() {
    let mut pool = Pool::new();
    let before = Pool::new().number();
    let got = pool.add_hardware(Instruction::RdRand, &words(64), 64 * 3);
    assert_eq!(got, Err(Unhealthy::Fast(3)));
    assert_eq!(pool.credited(), 0);
    assert_ne!(pool.number(), before);
    let just = pool.add_hardware(Instruction::RdRand, &words(64), 64 * MIN_TICKS);
    assert_eq!(just, Ok(()));
}

#[test]
fn stuck_and_scarce_words_do_not_count() {
    let mut pool = Pool::new();
    let mut stuck = words(16);
    stuck[9] = stuck[2];
    assert_eq!(pool.add_hardware(Instruction::RdSeed, &stuck, 10_000), Err(Unhealthy::Stuck(stuck[2])));
    assert_eq!(
        pool.add_hardware(Instruction::RdSeed, &[u64::MAX; 8], 10_000),
        Err(Unhealthy::Stuck(u64::MAX))
    );
    assert_eq!(pool.add_hardware(Instruction::RdSeed, &[], 10_000), Err(Unhealthy::Few(0)));
    assert_eq!(pool.add_hardware(Instruction::RdSeed, &words(7), u64::MAX), Err(Unhealthy::Few(7)));
    assert_eq!(pool.credited(), 0);
}

/// Two emulated hosts started in the same second: the same clock, the same RDRAND, another MAC.
#[test]
fn twins_differ_by_seed_or_address() {
    let host = |seed: &[u8; 32], mac: u8| {
        let mut pool = Pool::new();
        pool.add(Source::WallClock, &1_700_000_000_u64.to_le_bytes());
        let _ = pool.add_hardware(Instruction::RdRand, &words(64), 64);
        pool.add_seed(seed);
        pool.add(Source::Mac, &[0x52, 0x54, 0, 0, 0, mac]);
        (pool.number(), pool.generator().unwrap().key())
    };
    let mut other = SEED;
    other[31] ^= 1;
    let (a, b, c) = (host(&SEED, 1), host(&SEED, 2), host(&other, 1));
    assert!(a.0 != b.0 && a.0 != c.0 && b.0 != c.0);
    assert!(a.1 != b.1 && a.1 != c.1 && b.1 != c.1);
    assert_eq!(a, host(&SEED, 1), "nothing else goes in");
}

#[test]
fn a_generator_never_repeats_and_forks_are_apart() {
    let mut pool = Pool::new();
    pool.add_seed(&SEED);
    let (mut one, mut two) = (pool.generator().unwrap(), pool.generator().unwrap());
    let mut seen = std::collections::BTreeSet::new();
    let mut fork = one.fork();
    for _ in 0..100 {
        assert!(seen.insert(one.key()) && seen.insert(two.key()) && seen.insert(fork.key()));
    }
    let mut long = [0; 1000];
    one.fill(&mut long);
    let ones: u32 = long.iter().map(|b| b.count_ones()).sum();
    assert!((3700..4300).contains(&ones), "{ones} of 8000 bits are set");
    assert!(!format!("{pool:?} {one:?}").contains("key"), "secrets are not printed");
}

proptest! {
    /// Where a contribution ends and the next begins matters, and so does its kind.
    #[test]
    fn contributions_do_not_run_together(a in proptest::collection::vec(any::<u8>(), 0..40), cut in 0_usize..40) {
        let cut = cut.min(a.len());
        let mut whole = Pool::new();
        whole.add(Source::Other, &a);
        let mut parts = Pool::new();
        parts.add(Source::Other, &a[..cut]);
        parts.add(Source::Other, &a[cut..]);
        let mut kind = Pool::new();
        kind.add(Source::Tsc, &a);
        let numbers = [whole.number(), parts.number(), kind.number()];
        prop_assert!(numbers[0] != numbers[1] && numbers[0] != numbers[2]);
    }
}
