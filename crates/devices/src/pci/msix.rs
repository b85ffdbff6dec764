//! MSI-X: a table of messages, a mask for each, and the interrupts that wait behind one (PCI 3.0, 6.8.2).

use crate::lapic::{Delivery, Message};
use crate::state::ensure;
use alloc::vec;
use alloc::vec::Vec;
use minicbor::{Decode, Encode};
use vm_types::{StateError, nospec};

/// Where a function keeps its MSI-X table: in a memory window of its own, which the bus answers there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsixShape {
    /// Entries, 1 to 2048.
    pub vectors: u16,
    /// The base address register.
    pub bar: u8,
    /// Offset of the table, 16 bytes an entry; a multiple of 8.
    pub table: u32,
    /// Offset of the pending bits; a multiple of 8.
    pub pending: u32,
}

/// Address (two dwords), data, vector control.
type Entry = [u32; 4];
const ENTRY: u64 = 16;
const MASKED: u32 = 1;

/// Writes to here are interrupt messages (SDM vol. 3, 11.11.1).
const MESSAGE_AREA: u32 = 0xFEE0_0000;

pub(super) struct Msix {
    shape: MsixShape,
    table: Vec<Entry>,
    /// One bit an entry.
    pending: Vec<u64>,
    enabled: bool,
}

/// What of it travels beside the configuration space.
#[derive(Encode, Decode)]
pub(super) struct State {
    #[n(0)]
    table: Vec<Entry>,
    #[n(1)]
    pending: Vec<u64>,
}

impl Msix {
    pub(super) fn new(shape: MsixShape) -> Self {
        let vectors = usize::from(shape.vectors.clamp(1, 2048));
        Self {
            shape,
            table: vec![[0, 0, 0, MASKED]; vectors],
            pending: vec![0; vectors.div_ceil(64)],
            enabled: false,
        }
    }

    /// An interrupt of the function.
    pub(super) fn raise(&mut self, vector: u16) {
        let vector = usize::from(vector);
        if self.enabled && vector < self.table.len() {
            self.pending[vector / 64] |= 1 << (vector % 64);
        }
    }

    /// Sends what may go out. `open`: the function is bus master, and not masked as a whole.
    pub(super) fn settle(&mut self, enabled: bool, open: bool, sent: &mut Vec<Message>) {
        self.enabled = enabled;
        if !enabled {
            self.pending.fill(0);
        }
        if !open {
            return;
        }
        for (word, pending) in self.pending.iter_mut().enumerate() {
            let mut left = *pending;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                if let Some(entry) = self.table.get(word * 64 + bit as usize)
                    && entry[3] & MASKED == 0
                {
                    *pending &= !(1 << bit);
                    sent.extend(message(entry));
                }
            }
        }
    }

    /// A read of its table or its pending bits; `None` where neither lies there.
    pub(super) fn read(&self, bar: usize, offset: u64) -> Option<u64> {
        if bar != usize::from(self.shape.bar) {
            return None;
        }
        let table = offset.wrapping_sub(self.shape.table.into());
        let pending = offset.wrapping_sub(self.shape.pending.into());
        let dword = |at: u64| {
            let index = nospec::index((at / ENTRY) as usize, self.table.len());
            u64::from(self.table[index][(at / 4 % 4) as usize])
        };
        let value = if table < ENTRY * self.table.len() as u64 {
            let at = table & !3;
            // The next one may be that of no entry, which only a read across the end sees.
            let next = if at % 8 == 0 { dword(at + 4) } else { 0 };
            dword(at) | next << 32
        } else if pending < 8 * self.pending.len() as u64 {
            let word = nospec::index((pending / 8) as usize, self.pending.len());
            self.pending[word] >> (8 * (pending & 4))
        } else {
            return None;
        };
        Some(value >> (8 * (offset & 3)))
    }

    /// A write to its table: one dword or two, aligned. False where the table does not lie there.
    pub(super) fn write(&mut self, bar: usize, offset: u64, size: u8, value: u64) -> bool {
        let table = offset.wrapping_sub(self.shape.table.into());
        let pending = offset.wrapping_sub(self.shape.pending.into());
        if bar != usize::from(self.shape.bar) {
            return false;
        }
        if table >= ENTRY * self.table.len() as u64 {
            return pending < 8 * self.pending.len() as u64;
        }
        if size >= 4 && table.is_multiple_of(size.into()) {
            let index = nospec::index((table / ENTRY) as usize, self.table.len());
            for (i, value) in
                [value as u32, (value >> 32) as u32].into_iter().take(usize::from(size / 4)).enumerate()
            {
                let field = (table / 4 % 4) as usize + i;
                self.table[index][field & 3] = match field & 3 {
                    0 => value & !3,
                    3 => value & MASKED,
                    _ => value,
                };
            }
        }
        true
    }

    pub(super) fn export(&self) -> State {
        State { table: self.table.clone(), pending: self.pending.clone() }
    }

    pub(super) fn import(&mut self, kind: &str, state: State, enabled: bool) -> Result<(), StateError> {
        ensure(state.table.len() == self.table.len(), kind, "MSI-X entries", state.table.len())?;
        ensure(state.pending.len() == self.pending.len(), kind, "MSI-X pending words", state.pending.len())?;
        for entry in &state.table {
            ensure(entry[0] & 3 == 0, kind, "MSI-X address", entry[0])?;
            ensure(entry[3] & !MASKED == 0, kind, "MSI-X vector control", entry[3])?;
        }
        for (word, &pending) in state.pending.iter().enumerate() {
            let there = self.table.len() - 64 * word;
            let stray = there < 64 && pending >> there != 0;
            ensure(!stray && (enabled || pending == 0), kind, "MSI-X pending bits", pending)?;
        }
        (self.table, self.pending, self.enabled) = (state.table, state.pending, enabled);
        Ok(())
    }
}

/// The message of an entry; one that goes anywhere else is a write to memory, which no driver asks for.
fn message(&[address, high, data, _]: &Entry) -> Option<Message> {
    (high == 0 && address & 0xFFF0_0000 == MESSAGE_AREA).then(|| Message {
        vector: data as u8,
        delivery: Delivery::from_bits((data >> 8) as u8),
        logical: address & 1 << 2 != 0,
        level: data & 1 << 15 != 0,
        dest: address >> 12 & 0xFF,
        from_io: true,
    })
}
