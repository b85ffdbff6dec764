/// SplitMix64: spreads one injected `u64` into a seed for smoltcp (sequence numbers, DHCP transaction ids) and local
/// port numbers. Not for keys.
#[derive(Debug, Clone)]
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    pub(super) fn new(entropy: u64, salt: &[u8]) -> Self {
        let mut rng = Self(entropy);
        for &byte in salt {
            rng.0 = rng.next() ^ u64::from(byte);
        }
        rng
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
