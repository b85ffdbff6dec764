//! ChaCha20 in vector registers and Poly1305 in plain ones: what the host has of SIMD, and nothing but the assembly
//! and its bindings, so that the tests of a development machine run the very same code.
//!
//! The kernel is built without SIMD and a guest's registers are live in it: `arch/vector.rs` there lends them.
#![no_std]

core::arch::global_asm!(include_str!("chacha.s"));

/// Words of ChaCha20's state (RFC 8439, 2.3); the counter is word 12.
pub type State = [u32; 16];
/// Bytes that [`avx2`] does at a time.
pub const AVX2_GROUP: usize = 512;
/// Bytes that [`ssse3`] does at a time.
pub const SSSE3_GROUP: usize = 256;

const COUNTER: usize = 12;
const BLOCK: usize = 64;

unsafe extern "sysv64" {
    fn chacha_avx2(state: *const State, input: *const u8, out: *mut u8, groups: usize);
    fn chacha_ssse3(state: *const State, input: *const u8, out: *mut u8, groups: usize);
    fn poly_mulx(sum: *mut [u64; 3], key: *const [u64; 2], blocks: *const [u8; 16], count: usize);
}

type Groups = unsafe extern "sysv64" fn(*const State, *const u8, *mut u8, usize);

/// # Safety
/// As for `run`.
unsafe fn groups(run: Groups, size: usize, state: &mut State, input: &[u8], out: &mut [u8]) -> usize {
    let groups = input.len().min(out.len()) / size;
    if groups != 0 {
        // SAFETY: both slices have so many groups; what `run` wants of the CPU is the caller's.
        unsafe { run(state, input.as_ptr(), out.as_mut_ptr(), groups) };
    }
    let done = groups * size;
    state[COUNTER] = state[COUNTER].wrapping_add((done / BLOCK) as u32);
    done
}

/// Combines `input` with the key stream into `out`, as many whole groups as both have, and moves the counter on.
/// Returns the bytes done.
///
/// # Safety
/// The CPU has AVX2, XCR0 has it on, and no YMM register holds what is needed later: all become zero.
pub unsafe fn avx2(state: &mut State, input: &[u8], out: &mut [u8]) -> usize {
    // SAFETY: what the function asks for.
    unsafe { groups(chacha_avx2, AVX2_GROUP, state, input, out) }
}

/// The same for CPUs without AVX2.
///
/// # Safety
/// The CPU has SSSE3, and no XMM register holds what is needed later.
pub unsafe fn ssse3(state: &mut State, input: &[u8], out: &mut [u8]) -> usize {
    // SAFETY: what the function asks for.
    unsafe { groups(chacha_ssse3, SSSE3_GROUP, state, input, out) }
}

/// Takes blocks into a Poly1305 sum below 2^131, by the clamped key `r`.
///
/// # Safety
/// The CPU has BMI2. No vector register is touched.
pub unsafe fn mulx(sum: &mut [u64; 3], r: &[u64; 2], blocks: &[[u8; 16]]) {
    if !blocks.is_empty() {
        // SAFETY: the pointers are to so much memory; BMI2 is the caller's promise.
        unsafe { poly_mulx(sum, r, blocks.as_ptr(), blocks.len()) };
    }
}
