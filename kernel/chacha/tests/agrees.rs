//! The assembly against RFC 8439 and against other implementations, at every length and alignment.

use chacha::{AVX2_GROUP, SSSE3_GROUP, State};
use chacha20::ChaCha20Legacy;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;
use proptest::prelude::*;

type Run = fn(&mut State, &[u8], &mut [u8]) -> usize;

/// What this machine can run, with the size of a group.
fn engines() -> Vec<(&'static str, usize, Run)> {
    let mut all: Vec<(&'static str, usize, Run)> = Vec::new();
    if std::arch::is_x86_feature_detected!("ssse3") {
        // SAFETY: the CPU has it, and a call may change every XMM register.
        all.push(("SSSE3", SSSE3_GROUP, |state, input, out| unsafe { chacha::ssse3(state, input, out) }));
    }
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: as above.
        all.push(("AVX2", AVX2_GROUP, |state, input, out| unsafe { chacha::avx2(state, input, out) }));
    }
    assert!(!all.is_empty(), "this machine can run none of it");
    all
}

fn state(key: &[u8; 32], counter: u32, nonce: [u32; 3]) -> State {
    let mut state = [0; 16];
    let constants = *b"expand 32-byte k";
    for (to, from) in state.iter_mut().zip(constants.chunks(4).chain(key.chunks(4))) {
        *to = u32::from_le_bytes(from.try_into().unwrap());
    }
    state[12] = counter;
    state[13..].copy_from_slice(&nonce);
    state
}

/// RFC 8439, 2.3.2: the block with counter 1, and 2.4.2: the two that follow from it.
#[test]
fn rfc_8439() {
    let key = core::array::from_fn(|i| i as u8);
    for (name, group, run) in engines() {
        let mut out = vec![0; group];
        let mut block = state(&key, 1, [0x0900_0000, 0x4a00_0000, 0]);
        assert_eq!(run(&mut block, &vec![0; group], &mut out), group);
        assert_eq!(out[..8], [0x10, 0xf1, 0xe7, 0xe4, 0xd1, 0x3b, 0x59, 0x15], "{name}");
        assert_eq!(out[60..64], [0xa2, 0x50, 0x3c, 0x4e], "{name}");
        assert_eq!(block[12], 1 + group as u32 / 64);
        let mut text =
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                         sunscreen would be it."
                .to_vec();
        text.resize(group, 0);
        run(&mut state(&key, 1, [0, 0x4a00_0000, 0]), &text, &mut out);
        assert_eq!(out[..8], [0x6e, 0x2e, 0x35, 0x9a, 0x25, 0x68, 0xf9, 0x80], "{name}");
        assert_eq!(out[112..114], [0x87, 0x4d], "{name}");
    }
}

/// 64-bit counters, so that the reference does not mind where the 32-bit one starts.
fn reference(key: &[u8; 32], counter: u32, nonce: [u32; 3], data: &mut [u8]) {
    let bytes: Vec<u8> = nonce[1..].iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut cipher = ChaCha20Legacy::new(key.into(), bytes.as_slice().into());
    cipher.seek(u64::from(counter) * 64);
    cipher.apply_keystream(data);
}

/// Every length from nothing to a page and a bit, input and output at any alignment; what is behind stays as it was.
#[test]
fn every_length_and_alignment() {
    let source: Vec<u8> = (0..4400_u32).map(|i| (i * 7 + i / 251) as u8).collect();
    for (name, group, run) in engines() {
        for len in 0..=4096 + 130 {
            let (from, to) = (len % 67, len * 5 % 71);
            let (key, nonce) = ([len as u8; 32], [0, len as u32, 9]);
            let mut state = state(&key, 1, nonce);
            let mut out = vec![0xa5; to + len + 40];
            let done = run(&mut state, &source[from..from + len], &mut out[to..to + len]);
            assert_eq!(done, len / group * group, "{name}, {len} bytes");
            let mut want = source[from..from + done].to_vec();
            reference(&key, 1, nonce, &mut want);
            assert_eq!(out[to..to + done], want, "{name}, {len} bytes");
            assert!(out[..to].iter().chain(&out[to + done..]).all(|b| *b == 0xa5), "{name}, {len} bytes");
            assert_eq!(state[12] as usize, 1 + done / 64);
        }
    }
}

#[test]
fn no_more_than_the_output_holds() {
    for (name, group, run) in engines() {
        let mut out = vec![3; 2 * group];
        let mut at = state(&[8; 32], 5, [0, 1, 2]);
        assert_eq!(run(&mut at, &vec![3; 3 * group], &mut out[..2 * group - 1]), group, "{name}");
        let mut want = vec![3; group];
        reference(&[8; 32], 5, [0, 1, 2], &mut want);
        assert_eq!(out[..group], want, "{name}");
    }
}

fn clamp(key: [u64; 2]) -> [u64; 2] {
    [key[0] & 0x0fff_fffc_0fff_ffff, key[1] & 0x0fff_fffc_0fff_fffc]
}

/// The sum reduced below 2^130 - 5, its low 128 bits.
fn reduce(sum: [u64; 3]) -> u128 {
    let low = u128::from(sum[0]) | u128::from(sum[1]) << 64;
    let (plus, carry) = low.overflowing_add(5);
    if sum[2] + u64::from(carry) >= 4 { plus } else { low }
}

fn tag(key: [u64; 2], blocks: &[[u8; 16]], cut: usize) -> u128 {
    let mut sum = [0; 3];
    // SAFETY: the callers have asked for BMI2.
    unsafe {
        chacha::mulx(&mut sum, &clamp(key), &blocks[..cut]);
        chacha::mulx(&mut sum, &clamp(key), &blocks[cut..]);
    }
    assert!(sum[2] < 8);
    reduce(sum)
}

fn reference_tag(key: [u64; 2], blocks: &[[u8; 16]]) -> u128 {
    let mut full = [0; 32];
    full[..8].copy_from_slice(&key[0].to_le_bytes());
    full[8..16].copy_from_slice(&key[1].to_le_bytes());
    u128::from_le_bytes(Poly1305::new(&full.into()).compute_unpadded(blocks.as_flattened()).into())
}

/// Blocks at the edges of what they can be, with r as large and as small as it gets: every carry.
#[test]
fn poly_carries() {
    assert!(std::arch::is_x86_feature_detected!("bmi2"), "this machine cannot run it");
    let edges =
        [0, u128::MAX, u128::MAX - 1, u128::MAX - 4, u128::MAX - 5, 1, 1 << 64].map(u128::to_le_bytes);
    for low in [0, 1, 2, 4, 255, u64::MAX] {
        for high in [0, 4, u64::MAX] {
            for (a, b, c) in
                edges.iter().flat_map(|a| edges.map(|b| (*a, b))).flat_map(|(a, b)| edges.map(|c| (a, b, c)))
            {
                let blocks = [a, b, c, b, a];
                for len in 0..=blocks.len() {
                    let blocks = &blocks[..len];
                    assert_eq!(tag([low, high], blocks, len / 2), reference_tag([low, high], blocks));
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_state(
        key in any::<[u8; 32]>(),
        counter in 0_u32..u32::MAX - 100,
        nonce in any::<[u32; 2]>(),
        text in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        let nonce = [0, nonce[0], nonce[1]];
        for (_, _, run) in engines() {
            let mut out = vec![0; text.len()];
            // The word before the nonce is the high half of the reference's counter.
            let mut at = state(&key, counter, nonce);
            let done = run(&mut at, &text, &mut out);
            let mut want = text[..done].to_vec();
            reference(&key, counter, nonce, &mut want);
            prop_assert_eq!(&out[..done], &want);
        }
    }

    #[test]
    fn any_blocks(key in any::<[u64; 2]>(), blocks in proptest::collection::vec(any::<[u8; 16]>(), 0..40), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(blocks.len() + 1);
        prop_assert_eq!(tag(key, &blocks, cut), reference_tag(key, &blocks));
    }
}
