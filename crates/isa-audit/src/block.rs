//! Which of 256 opcodes have a row in the table.

/// 256 opcodes: a bit for each that has a row, and the number of the first one's.
pub(crate) struct Block {
    pub(crate) used: [u64; 4],
    pub(crate) first: u16,
}

impl Block {
    /// The number of an opcode's row, where it has one.
    pub(crate) fn row(&self, opcode: u8) -> Option<usize> {
        let (word, bit) = (usize::from(opcode / 64), opcode % 64);
        if self.used[word] >> bit & 1 == 0 {
            return None;
        }
        let before: u32 = self.used[..word].iter().map(|w| w.count_ones()).sum();
        let within = (self.used[word] & ((1 << bit) - 1)).count_ones();
        Some(usize::from(self.first) + (before + within) as usize)
    }
}
