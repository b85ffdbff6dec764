//! The code that clears the branch history after an exit, where no register does it (Intel, "Branch History Injection and
//! Intra-mode Branch Target Injection": the software sequence).
//!
//! A plain countdown will not do: the history takes up where branches lead, so that the published sequence nests calls
//! and jumps. This one is laid out anew from that description; its returns lie in the upper half of a cache line, where
//! indirect target selection does not reach.

/// Loops of the sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct History {
    /// Nested calls.
    pub outer: u32,
    /// Jumps within each.
    pub inner: u32,
}

impl History {
    /// For histories before Golden Cove's.
    pub const SHORT: Self = Self { outer: 5, inner: 5 };
    /// For those of Golden Cove and later, which hold 194 branches.
    pub const LONG: Self = Self { outer: 12, inner: 7 };

    /// Bytes of the code.
    pub const CODE: usize = 0xa4;

    /// Where the nested calls begin, chosen so that the return is the first byte of a line's upper half.
    const NEST: usize = 0x5b;
    /// Where the jumps begin, likewise.
    const JUMPS: usize = 0x8e;
    /// Where it ends.
    const END: usize = 0xa1;

    /// The code: entered at its first byte, at an address that 64 divides, and left past its last one. It uses EAX, ECX and
    /// the flags, and `outer` + 2 words of the stack.
    #[must_use]
    pub fn code(self) -> [u8; Self::CODE] {
        // INT3: nothing of it is ever run.
        let mut code = Code { bytes: [0xcc; Self::CODE], at: 0 };
        code.put(&[0xb9]); // mov ecx, outer
        code.put(&self.outer.to_le_bytes());
        code.to(0xe8, Self::NEST); // call NEST
        code.to(0xe9, Self::END); // jmp END
        code.at = Self::NEST;
        code.to(0xe8, Self::JUMPS); // call JUMPS
        code.put(&[0xc3]); // ret
        code.at = Self::JUMPS;
        code.put(&[0xb8]); // mov eax, inner
        code.put(&self.inner.to_le_bytes());
        code.put(&[
            0xeb, 0x01, // jmp over
            0x90, // nop
            0x83, 0xe8, 0x01, // over: sub eax, 1
            0x75, 0xf8, // jnz jmp
            0x83, 0xe9, 0x01, // sub ecx, 1
            0x75, 0xbb, // jnz NEST
            0xc3, // ret
        ]);
        code.at = Self::END;
        code.put(&[0x0f, 0xae, 0xe8]); // lfence
        code.bytes
    }
}

struct Code {
    bytes: [u8; History::CODE],
    at: usize,
}

impl Code {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// A call or jump with a displacement of 32 bits.
    fn to(&mut self, opcode: u8, target: usize) {
        self.put(&[opcode]);
        self.put(&(target as i32 - (self.at + 4) as i32).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::History;
    use alloc::vec::Vec;

    /// Runs the code; how many branches were taken, and the deepest stack.
    fn run(history: History) -> (u32, usize) {
        let code = history.code();
        let word = |at: usize| i32::from_le_bytes(code[at..at + 4].try_into().unwrap());
        let (mut at, mut eax, mut ecx, mut zero) = (0_usize, 0_i32, 0_i32, false);
        let (mut stack, mut taken, mut deepest) = (Vec::new(), 0, 0);
        for _ in 0..10_000 {
            if at == History::CODE {
                assert!(stack.is_empty());
                return (taken, deepest);
            }
            let jump =
                |at: usize, length: usize, by: i32| (at + length).checked_add_signed(by as isize).unwrap();
            match code[at..] {
                [0xb8, ..] => (eax, at) = (word(at + 1), at + 5),
                [0xb9, ..] => (ecx, at) = (word(at + 1), at + 5),
                [0x83, 0xe8, 1, ..] => (eax, zero, at) = (eax - 1, eax == 1, at + 3),
                [0x83, 0xe9, 1, ..] => (ecx, zero, at) = (ecx - 1, ecx == 1, at + 3),
                [0x0f, 0xae, 0xe8, ..] => at += 3,
                [0x75, _, ..] if zero => at += 2,
                [0x75 | 0xeb, by, ..] => (at, taken) = (jump(at, 2, i32::from(by.cast_signed())), taken + 1),
                [0xe9, ..] => (at, taken) = (jump(at, 5, word(at + 1)), taken + 1),
                [0xe8, ..] => {
                    stack.push(at + 5);
                    (at, taken) = (jump(at, 5, word(at + 1)), taken + 1);
                }
                [0xc3, ..] => {
                    assert!(at % 64 >= 32, "a return at {at:#x} is in the lower half of its line");
                    (at, taken) = (stack.pop().unwrap(), taken + 1);
                }
                _ => panic!("no instruction of ours at {at:#x}"),
            }
            deepest = deepest.max(stack.len());
        }
        panic!("it does not end");
    }

    #[test]
    fn the_sequence_takes_enough_branches_and_comes_back() {
        let (short, depth) = run(History::SHORT);
        assert!(short > 32 && depth == 6, "{short} {depth}");
        let (long, depth) = run(History::LONG);
        assert!(long >= 194 && depth == 13, "{long} {depth}");
    }

    #[test]
    fn its_branches_lead_to_several_places() {
        // The countdown of before had one branch, whose target never changed.
        let code = History::SHORT.code();
        assert_eq!(
            (code.iter().filter(|byte| **byte == 0xe8).count() > 2, code[5], code[History::NEST]),
            (true, 0xe8, 0xe8)
        );
    }
}
