//! The ChaCha20 key stream (RFC 8439, 2.3 and 2.4).

use zeroize::Zeroize;

use super::vectors::Blocks;

const BLOCK: usize = 64;
const WORDS: usize = 16;
/// Where the block counter stands in the state.
const COUNTER: usize = 12;

/// Most bytes of a group of blocks that [`Blocks`] may make at once.
pub(super) const MAX_GROUP: usize = 512;

/// A key stream from one key and nonce. 32 bits of counter: 256 GiB, a frame has 64 KiB at most.
pub(super) struct ChaCha {
    state: [u32; WORDS],
}

/// Key stream that was made at once and is used up bit by bit.
pub(super) struct Group {
    bytes: [u8; MAX_GROUP],
    size: usize,
    used: usize,
}

macro_rules! quarter_round {
    ($a:ident $b:ident $c:ident $d:ident) => {
        $a = $a.wrapping_add($b);
        $d = ($d ^ $a).rotate_left(16);
        $c = $c.wrapping_add($d);
        $b = ($b ^ $c).rotate_left(12);
        $a = $a.wrapping_add($b);
        $d = ($d ^ $a).rotate_left(8);
        $c = $c.wrapping_add($d);
        $b = ($b ^ $c).rotate_left(7);
    };
}

impl ChaCha {
    pub(super) fn new(key: &[u8; 32], nonce: [u32; 3]) -> Self {
        let word = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
        let mut state = [0; WORDS];
        let constants = [b"expa", b"nd 3", b"2-by", b"te k"].map(word);
        let words = constants.into_iter().chain(key.as_chunks().0.iter().map(word)).chain([0]).chain(nonce);
        state.iter_mut().zip(words).for_each(|(to, from)| *to = from);
        Self { state }
    }

    /// Goes on from `state`, which counts the blocks made.
    #[cfg(test)]
    pub(super) fn with_state(state: &mut [u32; WORDS], work: impl FnOnce(&mut Self)) {
        let mut stream = Self { state: *state };
        work(&mut stream);
        *state = stream.state;
    }

    /// The next block of the key stream itself.
    pub(super) fn key_block(&mut self, out: &mut [u8; BLOCK]) {
        self.block(&[0; BLOCK], out);
    }

    /// Combines `input` with the key stream. `out` is as long as `input`.
    pub(super) fn apply(&mut self, input: &[u8], out: &mut [u8]) {
        let (blocks, tail) = input.as_chunks();
        let (to, rest) = out.as_chunks_mut();
        for (from, to) in blocks.iter().zip(to) {
            self.block(from, to);
        }
        if !tail.is_empty() {
            let (mut padded, mut last) = ([0; BLOCK], [0; BLOCK]);
            padded.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
            self.block(&padded, &mut last);
            rest.iter_mut().zip(last).for_each(|(to, from)| *to = from);
        }
    }

    /// The next group of the key stream itself.
    pub(super) fn group(&mut self, blocks: &dyn Blocks) -> Group {
        let mut bytes = [0; MAX_GROUP];
        let size = blocks.group().min(MAX_GROUP);
        let done =
            bytes.get_mut(..size).map_or(0, |out| blocks.xor(&mut self.state, &[0; MAX_GROUP][..size], out));
        debug_assert_eq!(done, size);
        Group { bytes, used: 0, size: done }
    }

    /// The same as [`ChaCha::apply`] by groups: first what is left of `first`, and for the tail a group of its own.
    pub(super) fn apply_groups(
        &mut self,
        blocks: &dyn Blocks,
        first: &mut Group,
        input: &[u8],
        out: &mut [u8],
    ) {
        let done = first.apply(input, out);
        let (Some(input), Some(out)) = (input.get(done..), out.get_mut(done..)) else { return };
        let done = blocks.xor(&mut self.state, input, out);
        let (Some(input), Some(out)) = (input.get(done..), out.get_mut(done..)) else { return };
        if input.len() > BLOCK {
            self.group(blocks).apply(input, out);
        } else {
            self.apply(input, out);
        }
    }

    /// Named words, not an array: they stay in registers but for two.
    #[inline(never)]
    fn block(&mut self, input: &[u8; BLOCK], out: &mut [u8; BLOCK]) {
        let [
            mut x0,
            mut x1,
            mut x2,
            mut x3,
            mut x4,
            mut x5,
            mut x6,
            mut x7,
            mut x8,
            mut x9,
            mut x10,
            mut x11,
            mut x12,
            mut x13,
            mut x14,
            mut x15,
        ] = self.state;
        for _ in 0..10 {
            quarter_round!(x0 x4 x8 x12);
            quarter_round!(x1 x5 x9 x13);
            quarter_round!(x2 x6 x10 x14);
            quarter_round!(x3 x7 x11 x15);
            quarter_round!(x0 x5 x10 x15);
            quarter_round!(x1 x6 x11 x12);
            quarter_round!(x2 x7 x8 x13);
            quarter_round!(x3 x4 x9 x14);
        }
        let ins = input.as_chunks().0.first_chunk::<WORDS>();
        let (Some(ins), Some(outs)) = (ins, out.as_chunks_mut().0.first_chunk_mut::<WORDS>()) else { return };
        // Loops over these cost more than the rounds: the words would go through memory.
        macro_rules! finish {
            ($($x:ident $i:literal),*) => {
                $(outs[$i] = ($x.wrapping_add(self.state[$i]) ^ u32::from_le_bytes(ins[$i])).to_le_bytes();)*
            };
        }
        finish!(x0 0, x1 1, x2 2, x3 3, x4 4, x5 5, x6 6, x7 7);
        finish!(x8 8, x9 9, x10 10, x11 11, x12 12, x13 13, x14 14, x15 15);
        self.state[COUNTER] = self.state[COUNTER].wrapping_add(1);
    }
}

impl Group {
    /// The first `N` bytes that are left.
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self.bytes.get(self.used..self.size)?.first_chunk().copied()?;
        self.used += N;
        Some(taken)
    }

    /// Combines as much of `input` as there is key stream left for; returns how much. `out` is as long as `input`.
    fn apply(&mut self, input: &[u8], out: &mut [u8]) -> usize {
        let key = self.bytes.get(self.used..self.size).unwrap_or_default();
        let len = key.len().min(input.len()).min(out.len());
        let (Some(key), Some(input), Some(out)) = (key.get(..len), input.get(..len), out.get_mut(..len))
        else {
            return 0;
        };
        let (keys, key_tail) = key.as_chunks::<8>();
        let (froms, from_tail) = input.as_chunks::<8>();
        let (tos, to_tail) = out.as_chunks_mut::<8>();
        for ((key, from), to) in keys.iter().zip(froms).zip(tos) {
            *to = (u64::from_ne_bytes(*key) ^ u64::from_ne_bytes(*from)).to_ne_bytes();
        }
        for ((key, from), to) in key_tail.iter().zip(from_tail).zip(to_tail) {
            *to = key ^ from;
        }
        self.used += len;
        len
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl Drop for ChaCha {
    fn drop(&mut self) {
        self.state.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8439, 2.4.2.
    #[test]
    fn sunscreen() {
        let key = core::array::from_fn(|i| i as u8);
        let mut stream = ChaCha::new(&key, [0, 0x4a00_0000, 0]);
        let text =
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                     sunscreen would be it.";
        let mut out = [0; 114];
        stream.key_block(&mut [0; 64]);
        stream.apply(text, &mut out);
        assert_eq!(
            out[..16],
            [0x6e, 0x2e, 0x35, 0x9a, 0x25, 0x68, 0xf9, 0x80, 0x41, 0xba, 0x07, 0x28, 0xdd, 0x0d, 0x69, 0x81]
        );
        assert_eq!(out[112..], [0x87, 0x4d]);
    }
}
