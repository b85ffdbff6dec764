//! Numbers for keys, from one secret.

use zeroize::Zeroize;

use crate::hash;

const BLOCK: u8 = 5;
const ERASE: u8 = 6;

/// A generator with a secret of its own. Each answer erases what made it: who learns the state later cannot go back.
pub struct Generator {
    key: [u8; 32],
}

impl Generator {
    /// A generator from 32 bytes; it is as secret as they are.
    #[must_use]
    pub const fn from_secret(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Fills `out` with secret random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for (index, chunk) in out.chunks_mut(32).enumerate() {
            let mut block = hash(BLOCK, &self.key, &[&(index as u64).to_le_bytes()]);
            chunk.iter_mut().zip(block).for_each(|(to, from)| *to = from);
            block.zeroize();
        }
        self.key = hash(ERASE, &self.key, &[]);
    }

    /// 32 secret random bytes: a key.
    pub fn key(&mut self) -> [u8; 32] {
        let mut key = [0; 32];
        self.fill(&mut key);
        key
    }

    /// A generator with a secret of its own.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::from_secret(self.key())
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl core::fmt::Debug for Generator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Generator").finish_non_exhaustive()
    }
}
