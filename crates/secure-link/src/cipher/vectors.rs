//! Where a host has vector registers to spare, the cipher may use them: what it wants of them.

use spin::Once;

/// Makes much of a ChaCha20 key stream at once (RFC 8439, 2.3), in registers that are lent.
pub trait Blocks {
    /// Bytes of a group, the least that is made at once: a multiple of 64, at most 512.
    fn group(&self) -> usize;
    /// Combines `input` with the key stream into `out`, as many whole groups as both have; word 12 of `state` counts
    /// the blocks. Returns the bytes done.
    fn xor(&self, state: &mut [u32; 16], input: &[u8], out: &mut [u8]) -> usize;
}

/// What is faster on this host than the cipher's own code.
pub trait Vectors: Sync {
    /// Runs `work` with the registers free for what it is given.
    fn lend(&self, work: &mut dyn FnMut(&dyn Blocks));
    /// Takes blocks into a Poly1305 sum below 2^131 by the clamped key `r`: the sum's words, least first. False where
    /// it cannot, and has done nothing.
    fn absorb(&self, sum: &mut [u64; 3], r: &[u64; 2], blocks: &[[u8; 16]]) -> bool;
}

static VECTORS: Once<&'static dyn Vectors> = Once::new();

/// Has links from now on use `vectors`. The first call counts.
pub fn use_vectors(vectors: &'static dyn Vectors) {
    VECTORS.call_once(|| vectors);
}

pub(super) fn in_use() -> Option<&'static dyn Vectors> {
    VECTORS.get().copied()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cipher::chacha::ChaCha;

    /// Groups of `N` bytes by the plain code, and no Poly1305: what uses them must not see a difference.
    pub(in crate::cipher) struct Plain<const N: usize>;

    impl<const N: usize> Vectors for Plain<N> {
        fn lend(&self, work: &mut dyn FnMut(&dyn Blocks)) {
            work(self);
        }

        fn absorb(&self, _: &mut [u64; 3], _: &[u64; 2], _: &[[u8; 16]]) -> bool {
            false
        }
    }

    impl<const N: usize> Blocks for Plain<N> {
        fn group(&self) -> usize {
            N
        }

        fn xor(&self, state: &mut [u32; 16], input: &[u8], out: &mut [u8]) -> usize {
            let done = input.len().min(out.len()) / N * N;
            ChaCha::with_state(state, |chacha| chacha.apply(&input[..done], &mut out[..done]));
            done
        }
    }
}
