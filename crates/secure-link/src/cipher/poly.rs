//! Poly1305 (RFC 8439, 2.5) in limbs of 64 bits.
//!
//! The sum `h` is `h0 + h1 2^64 + h2 2^128` and is kept below about 2^131. Products by `r` are folded at 2^130 by
//! 2^130 = 5 modulo the prime; since `r1` is divisible by four, `h1 r1 2^128` is `h1 (5/4 r1)`.

use zeroize::Zeroize;

use super::vectors::Vectors;

/// One message's authenticator.
pub(super) struct Poly {
    r: [u64; 2],
    /// 5/4 of `r[1]`.
    s: u64,
    pad: [u64; 2],
    h: [u64; 3],
    faster: Option<&'static dyn Vectors>,
}

const LOW: u128 = u64::MAX as u128;

fn wide(a: u64, b: u64) -> u128 {
    u128::from(a) * u128::from(b)
}

fn halves(bytes: &[u8; 16]) -> [u64; 2] {
    let whole = u128::from_le_bytes(*bytes);
    [whole as u64, (whole >> 64) as u64]
}

impl Poly {
    /// A key serves one message.
    pub(super) fn new(key: &[u8; 32], faster: Option<&'static dyn Vectors>) -> Self {
        let mut parts = key.as_chunks().0.iter().map(halves);
        let (r, pad) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let r = [r[0] & 0x0fff_fffc_0fff_ffff, r[1] & 0x0fff_fffc_0fff_fffc];
        Self { r, s: r[1] + (r[1] >> 2), pad, h: [0; 3], faster }
    }

    /// Takes in `data`, filled up with zeros to whole blocks: so the AEAD wants it (RFC 8439, 2.8).
    pub(super) fn absorb(&mut self, data: &[u8]) {
        let (blocks, tail) = data.as_chunks();
        let done = self.faster.is_some_and(|faster| faster.absorb(&mut self.h, &self.r, blocks));
        let [mut h0, mut h1, mut h2] = self.h;
        for block in if done { &[] } else { blocks } {
            [h0, h1, h2] = self.step([h0, h1, h2], block);
        }
        if !tail.is_empty() {
            let mut last = [0; 16];
            last.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
            [h0, h1, h2] = self.step([h0, h1, h2], &last);
        }
        self.h = [h0, h1, h2];
    }

    #[inline(always)]
    fn step(&self, [h0, h1, h2]: [u64; 3], block: &[u8; 16]) -> [u64; 3] {
        let ([r0, r1], s1, [m0, m1]) = (self.r, self.s, halves(block));
        let t0 = u128::from(h0) + u128::from(m0);
        let t1 = u128::from(h1) + u128::from(m1) + (t0 >> 64);
        let (h0, h1) = (t0 as u64, t1 as u64);
        // At most 4 came in, so 6 at most.
        let h2 = h2 + (t1 >> 64) as u64 + 1;

        // r0, r1 and s1 are below 2^60, 2^60 and 2^61: no sum reaches 2^127.
        let d0 = wide(h0, r0) + wide(h1, s1);
        let d1 = wide(h0, r1) + wide(h1, r0) + u128::from(h2.wrapping_mul(s1)) + (d0 >> 64);
        let d2 = h2.wrapping_mul(r0).wrapping_add((d1 >> 64) as u64);
        let fold = (d2 >> 2) + (d2 & !3);
        let t0 = (d0 & LOW) + u128::from(fold);
        let t1 = (d1 & LOW) + (t0 >> 64);
        [t0 as u64, t1 as u64, (d2 & 3) + (t1 >> 64) as u64]
    }

    /// The tag.
    pub(super) fn finish(self) -> [u8; 16] {
        let [h0, h1, h2] = self.h;
        // h is below 2 p: subtract p, that is, add 5 and drop bit 130, where that bit comes out set.
        let t0 = u128::from(h0) + 5;
        let t1 = u128::from(h1) + (t0 >> 64);
        let reach = (h2 + (t1 >> 64) as u64) >> 2;
        let mask = core::hint::black_box(0_u64.wrapping_sub(reach & 1));
        let h0 = h0 & !mask | t0 as u64 & mask;
        let h1 = h1 & !mask | t1 as u64 & mask;
        let whole = u128::from(h0) | u128::from(h1) << 64;
        let pad = u128::from(self.pad[0]) | u128::from(self.pad[1]) << 64;
        whole.wrapping_add(pad).to_le_bytes()
    }
}

impl Drop for Poly {
    fn drop(&mut self) {
        self.r.zeroize();
        self.s.zeroize();
        self.pad.zeroize();
        self.h.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use poly1305::Poly1305;
    use poly1305::universal_hash::KeyInit;
    use proptest::prelude::*;

    fn ours(key: [u8; 32], blocks: &[[u8; 16]]) -> [u8; 16] {
        let mut poly = Poly::new(&key, None);
        poly.absorb(blocks.as_flattened());
        poly.finish()
    }

    fn theirs(key: [u8; 32], blocks: &[[u8; 16]]) -> [u8; 16] {
        Poly1305::new(&key.into()).compute_unpadded(blocks.as_flattened()).into()
    }

    /// Blocks of all ones, all zeros and one less or more, with r as large and as small as it gets: every carry.
    #[test]
    fn carries_agree() {
        let edges: [[u8; 16]; 7] = [
            [0; 16],
            [0xff; 16],
            (u128::MAX - 1).to_le_bytes(),
            (u128::MAX - 4).to_le_bytes(),
            (u128::MAX - 5).to_le_bytes(),
            1_u128.to_le_bytes(),
            (1_u128 << 64).to_le_bytes(),
        ];
        for first in [0, 1, 2, 4, 0xff] {
            for rest in [0, 0xff] {
                let mut key = [rest; 32];
                key[0] = first;
                for a in edges {
                    for b in edges {
                        for c in edges {
                            let blocks = [a, b, c, b];
                            for len in 0..=4 {
                                assert_eq!(ours(key, &blocks[..len]), theirs(key, &blocks[..len]));
                            }
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_other_implementation(
            key in any::<[u8; 32]>(),
            blocks in proptest::collection::vec(prop_oneof![any::<[u8; 16]>(), Just([0xff; 16])], 0..40),
        ) {
            prop_assert_eq!(ours(key, &blocks), theirs(key, &blocks));
        }
    }
}
