//! ChaCha20-Poly1305 (RFC 8439) as `snow` wants it.
//!
//! The host runs without SIMD, and the migration stream goes through here byte by byte. The crates of the `RustCrypto`
//! family take 51 instructions a byte without SIMD, this takes 22; they are what the tests compare it with. A host that
//! can lend vector registers does so by [`Vectors`], and this code is the fallback.

mod chacha;
mod poly;
mod vectors;

use snow::Error;
use snow::types::Cipher;
use zeroize::Zeroize;

use chacha::{ChaCha, Group};
use poly::Poly;
pub use vectors::{Blocks, Vectors, use_vectors};

const TAG: usize = 16;

/// The cipher with one key.
pub(crate) struct ChaChaPoly {
    key: [u8; 32],
    vectors: Option<&'static dyn Vectors>,
}

impl Default for ChaChaPoly {
    fn default() -> Self {
        Self { key: [0; 32], vectors: vectors::in_use() }
    }
}

/// The key stream behind what the authenticator's key was taken from.
struct Stream<'a> {
    chacha: ChaCha,
    /// Where blocks come in groups: how, and what is left of the first.
    groups: Option<(&'a dyn Blocks, Group)>,
}

impl Stream<'_> {
    fn apply(&mut self, input: &[u8], out: &mut [u8]) {
        match &mut self.groups {
            None => self.chacha.apply(input, out),
            Some((blocks, first)) => self.chacha.apply_groups(*blocks, first, input, out),
        }
    }
}

impl ChaChaPoly {
    /// Runs `work` with vector registers where the host lends some.
    fn with_blocks<T>(&self, none: T, mut work: impl FnMut(Option<&dyn Blocks>) -> T) -> T {
        let Some(vectors) = self.vectors else { return work(None) };
        let mut result = none;
        vectors.lend(&mut |blocks| result = work(Some(blocks)));
        result
    }

    /// The key stream behind its first block, and the authenticator that this block is the key of.
    fn begin<'a>(&self, blocks: Option<&'a dyn Blocks>, nonce: u64, ad: &[u8]) -> (Stream<'a>, Poly) {
        // Noise: 32 zero bits, then the nonce.
        let [low, high] = [nonce as u32, (nonce >> 32) as u32];
        let mut chacha = ChaCha::new(&self.key, [0, low, high]);
        let mut first = [0; 64];
        let groups = match blocks {
            None => {
                chacha.key_block(&mut first);
                None
            }
            Some(blocks) => {
                let mut group = chacha.group(blocks);
                first = group.take().unwrap_or(first);
                Some((blocks, group))
            }
        };
        let mut poly = Poly::new(first.first_chunk().unwrap_or(&[0; 32]), self.vectors);
        first.zeroize();
        poly.absorb(ad);
        (Stream { chacha, groups }, poly)
    }

    /// Encrypts `plain` into `text`, which is as long; returns the tag.
    fn seal(
        &self,
        blocks: Option<&dyn Blocks>,
        nonce: u64,
        ad: &[u8],
        plain: &[u8],
        text: &mut [u8],
    ) -> [u8; TAG] {
        let (mut stream, mut poly) = self.begin(blocks, nonce, ad);
        stream.apply(plain, text);
        poly.absorb(text);
        tag(poly, ad.len(), text.len())
    }

    /// Decrypts `text` into `out`, which is as long; false, and nothing done, where the tag is another.
    fn open(
        &self,
        blocks: Option<&dyn Blocks>,
        nonce: u64,
        ad: &[u8],
        (text, want): (&[u8], &[u8; TAG]),
        out: &mut [u8],
    ) -> bool {
        let (mut stream, mut poly) = self.begin(blocks, nonce, ad);
        poly.absorb(text);
        let got = tag(poly, ad.len(), text.len());
        // Looks at every byte, whichever differs.
        let differs = got.iter().zip(want).fold(0, |sum, (a, b)| sum | (a ^ b));
        let same = core::hint::black_box(differs) == 0;
        if same {
            stream.apply(text, out);
        }
        same
    }
}

fn tag(mut poly: Poly, ad: usize, text: usize) -> [u8; TAG] {
    let mut lengths = [0; 16];
    let (low, high) = lengths.split_at_mut(8);
    low.copy_from_slice(&(ad as u64).to_le_bytes());
    high.copy_from_slice(&(text as u64).to_le_bytes());
    poly.absorb(&lengths);
    poly.finish()
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.key = *key;
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let len = plaintext.len();
        let Some((text, behind)) = out.split_at_mut_checked(len) else { return 0 };
        let Some(to) = behind.first_chunk_mut::<TAG>() else { return 0 };
        *to = self.with_blocks([0; TAG], |blocks| self.seal(blocks, nonce, authtext, plaintext, text));
        len + TAG
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let (text, want) = ciphertext.split_last_chunk::<TAG>().ok_or(Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(Error::Decrypt)?;
        let opened = self.with_blocks(false, |blocks| self.open(blocks, nonce, authtext, (text, want), out));
        if !opened {
            return Err(Error::Decrypt);
        }
        Ok(text.len())
    }
}

impl Drop for ChaChaPoly {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use chacha20poly1305::aead::AeadInPlace;
    use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
    use proptest::prelude::*;

    use super::vectors::tests::Plain;

    fn ours(key: [u8; 32]) -> ChaChaPoly {
        let mut cipher = ChaChaPoly::default();
        cipher.set(&key);
        cipher
    }

    /// Without and with blocks in groups.
    fn all_of_ours(key: [u8; 32]) -> [ChaChaPoly; 4] {
        let with = |vectors| ChaChaPoly { key, vectors: Some(vectors) };
        [ours(key), with(&Plain::<64>), with(&Plain::<256>), with(&Plain::<512>)]
    }

    fn theirs(key: [u8; 32], nonce: u64, ad: &[u8], text: &[u8]) -> Vec<u8> {
        let mut full = [0; 12];
        full[4..].copy_from_slice(&nonce.to_le_bytes());
        let mut out = text.to_vec();
        let tag = ChaCha20Poly1305::new(&key.into()).encrypt_in_place_detached(&full.into(), ad, &mut out);
        out.extend(tag.unwrap());
        out
    }

    /// All lengths around the sizes of blocks, against the other implementation.
    #[test]
    fn every_length_agrees() {
        let text: Vec<u8> = (0..1600).map(|i| (i * 7) as u8).collect();
        for len in (0..400).chain(430..470).chain(940..1040).chain([1400, 1599, 1600]) {
            let key = [len as u8; 32];
            let ad = &text[..len % 40];
            let want = theirs(key, len as u64, ad, &text[..len]);
            for cipher in all_of_ours(key) {
                let mut out = vec![0; len + TAG];
                assert_eq!(cipher.encrypt(len as u64, ad, &text[..len], &mut out), len + TAG);
                assert_eq!(out, want, "{len} bytes");
                let mut back = vec![0; len];
                assert_eq!(cipher.decrypt(len as u64, ad, &out, &mut back), Ok(len));
                assert_eq!(back, &text[..len]);
                out[len / 2] ^= 1;
                assert_eq!(cipher.decrypt(len as u64, ad, &out, &mut back), Err(Error::Decrypt));
            }
        }
    }

    #[test]
    fn short_buffers_are_refused() {
        let cipher = ours([1; 32]);
        assert_eq!(cipher.encrypt(0, &[], &[1; 10], &mut [0; 25]), 0);
        assert_eq!(cipher.decrypt(0, &[], &[0; 15], &mut []), Err(Error::Decrypt));
        let mut sealed = [0; 26];
        cipher.encrypt(0, &[], &[1; 10], &mut sealed);
        assert_eq!(cipher.decrypt(0, &[], &sealed, &mut [0; 9]), Err(Error::Decrypt));
    }

    proptest! {
        #[test]
        fn agrees_with_the_other_implementation(
            key in any::<[u8; 32]>(),
            nonce in any::<u64>(),
            ad in proptest::collection::vec(any::<u8>(), 0..50),
            text in proptest::collection::vec(any::<u8>(), 0..1500),
            flip in any::<prop::sample::Index>(),
            bit in 0..8,
        ) {
            let mut out = vec![0; text.len() + TAG];
            ours(key).encrypt(nonce, &ad, &text, &mut out);
            prop_assert_eq!(&out, &theirs(key, nonce, &ad, &text));
            let at = flip.index(out.len());
            out[at] ^= 1_u8 << bit;
            let mut back = vec![0; text.len()];
            prop_assert_eq!(ours(key).decrypt(nonce, &ad, &out, &mut back), Err(Error::Decrypt));
            prop_assert!(back.iter().all(|b| *b == 0), "nothing comes out");
        }
    }
}
