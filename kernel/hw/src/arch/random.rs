//! The CPU's random number generator (SDM vol. 1, 7.3.17).

use core::arch::asm;

use super::{cpu, tsc};

/// Intel's advice for RDRAND is ten tries; RDSEED may run dry for longer.
const TRIES: u32 = 100;

/// Fills `words` by RDRAND as far as the CPU has some: how many, and the TSC ticks that they took.
pub fn rdrand(words: &mut [u64]) -> (usize, u64) {
    match cpu::id().get_feature_info() {
        Some(features) if features.has_rdrand() => draw(words, || {
            let (word, ok): (u64, u8);
            // SAFETY: CPUID has it; it writes a register and flags.
            unsafe { asm!("rdrand {}", "setc {}", out(reg) word, out(reg_byte) ok, options(nomem, nostack)) };
            (word, ok)
        }),
        _ => (0, 0),
    }
}

/// The same by RDSEED.
pub fn rdseed(words: &mut [u64]) -> (usize, u64) {
    match cpu::id().get_extended_feature_info() {
        Some(features) if features.has_rdseed() => draw(words, || {
            let (word, ok): (u64, u8);
            // SAFETY: CPUID has it; it writes a register and flags.
            unsafe { asm!("rdseed {}", "setc {}", out(reg) word, out(reg_byte) ok, options(nomem, nostack)) };
            (word, ok)
        }),
        _ => (0, 0),
    }
}

#[inline]
fn draw(words: &mut [u64], instruction: impl Fn() -> (u64, u8)) -> (usize, u64) {
    let (start, mut count, mut failures) = (tsc::read(), 0, 0);
    for to in words {
        loop {
            let (word, ok) = instruction();
            if ok == 1 {
                *to = word;
                break;
            }
            failures += 1;
            if failures == TRIES {
                return (count, tsc::read() - start);
            }
        }
        count += 1;
    }
    (count, tsc::read() - start)
}
