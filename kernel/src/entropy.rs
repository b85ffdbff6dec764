//! Numbers that two hosts, or two boots of one, do not share: identities and TCP sequence numbers. Nothing
//! secret rests on them; the keyed link brings its own source.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::tsc;

static STATE: AtomicU64 = AtomicU64::new(0);

/// Mixes in something of this host: the wall clock, a MAC address.
pub(crate) fn add(value: u64) {
    STATE.fetch_xor(mix(value ^ tsc::read()), Ordering::Relaxed);
}

/// Sixty-four bits.
pub(crate) fn next() -> u64 {
    let state = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    mix(state ^ tsc::read())
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

/// The finaliser of SplitMix64 (Steele, Lea, Flood, 2014).
const fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
