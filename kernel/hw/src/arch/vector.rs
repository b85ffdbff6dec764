//! The one explicit SIMD section: the link's cipher in vector registers, which hold the state of the guest that is
//! loaded on this CPU. They are lent for one call, and are as before when it returns. Nothing else of the host uses
//! them, interrupt and NMI handlers included.

use core::arch::asm;
use core::mem::MaybeUninit;

use secure_link::{Blocks, Vectors};

use super::{cpu, insn, xstate};

/// Bits of XCR0: SSE, AVX and the upper halves of ZMM0 to 15, all of which writing a YMM register changes.
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const ZMM_HIGH: u64 = 1 << 6;
/// XCR0 takes the three components of AVX-512 together only, and x87 always (SDM volume 1, 13.3).
const X87: u64 = 1;
const AVX512: u64 = 7 << 5;

/// XSAVE in standard format up to the upper halves of ZMM0 to 15, which begin at 1152 (SDM volume 1, 13.5.6).
const AREA: usize = 1664;
/// The header in it: XSTATE_BV, XCOMP_BV, and what must be zero.
const HEADER: usize = 512;

#[repr(C, align(64))]
struct Area([MaybeUninit<u8>; AREA]);

/// What this host has been found to have.
struct Found {
    chacha: Width,
    mulx: bool,
}

enum Width {
    Avx2 { xcr0: u64 },
    Ssse3,
}

/// Gives the link's cipher what this host's CPUs have, and says so.
pub fn init() {
    static FOUND: spin::Once<Found> = spin::Once::new();
    let features = cpu::id();
    let extended = features.get_extended_feature_info();
    let mulx = extended.as_ref().is_some_and(raw_cpuid::ExtendedFeatures::has_bmi2);
    let avx2 = extended.as_ref().is_some_and(raw_cpuid::ExtendedFeatures::has_avx2);
    let ssse3 = features.get_feature_info().is_some_and(|f| f.has_ssse3());
    let (chacha, name) = match avx_xcr0().filter(|_| avx2) {
        Some(xcr0) => (Width::Avx2 { xcr0 }, "AVX2, 8 blocks at a time"),
        None if ssse3 => (Width::Ssse3, "SSSE3, 4 blocks at a time"),
        None => {
            log::info!(target: "link", "cipher: plain code, this CPU has neither AVX2 nor SSSE3");
            return;
        }
    };
    let poly = if mulx { "MULX" } else { "plain code" };
    log::info!(target: "link", "cipher: ChaCha20 by {name}, Poly1305 by {poly}");
    secure_link::use_vectors(FOUND.call_once(|| Found { chacha, mulx }));
}

/// What XCR0 is to be while YMM registers are used; `None` where their state cannot be kept in an [`Area`].
fn avx_xcr0() -> Option<u64> {
    let has = xstate::components();
    if has & AVX == 0 {
        return None;
    }
    let zmm = has & AVX512 == AVX512;
    let (last, xcr0) = if zmm { (6, X87 | SSE | AVX | AVX512) } else { (2, X87 | SSE | AVX) };
    let [size, offset, ..] = cpu::cpuid(0xd, last);
    (offset as usize + size as usize <= AREA).then_some(xcr0)
}

impl Vectors for Found {
    fn lend(&self, work: &mut dyn FnMut(&dyn Blocks)) {
        match self.chacha {
            Width::Avx2 { xcr0 } => with_ymm(xcr0, work),
            Width::Ssse3 => with_xmm(work),
        }
    }

    fn absorb(&self, sum: &mut [u64; 3], r: &[u64; 2], blocks: &[[u8; 16]]) -> bool {
        if self.mulx {
            // SAFETY: the CPU has BMI2, see `init`.
            unsafe { chacha::mulx(sum, r, blocks) };
        }
        self.mulx
    }
}

/// Exists while YMM registers are lent.
struct Ymm(());

impl Blocks for Ymm {
    fn group(&self) -> usize {
        chacha::AVX2_GROUP
    }

    fn xor(&self, state: &mut [u32; 16], input: &[u8], out: &mut [u8]) -> usize {
        // SAFETY: only `with_ymm` makes one of these: the state is saved, XCR0 has AVX on, the CPU has AVX2.
        unsafe { chacha::avx2(state, input, out) }
    }
}

fn with_ymm(xcr0: u64, work: &mut dyn FnMut(&dyn Blocks)) {
    let mask = xcr0 & (SSE | AVX | ZMM_HIGH);
    let mut area = MaybeUninit::<Area>::uninit();
    let at = area.as_mut_ptr().cast::<u8>();
    // The guest's own may have less on than the level allows. State that is off stays in the registers all the same.
    let before = xstate::xcr0();
    let switch = before & xcr0 != xcr0;
    if switch {
        xstate::set_xcr0(xcr0);
    }
    // SAFETY: the area is aligned and has room for the components of `mask`, all on in XCR0. Those that are in their
    // initial state are not written, and come back so. CR0.TS and EM are clear in the host.
    unsafe {
        at.add(HEADER).cast::<[u64; 8]>().write([0; 8]);
        insn::xsave(at, mask);
    }
    work(&Ymm(()));
    // SAFETY: as above; XSAVE has written what is read here.
    unsafe { insn::xrstor(at, mask) };
    if switch {
        xstate::set_xcr0(before);
    }
}

/// Exists while XMM registers are lent.
struct Xmm(());

impl Blocks for Xmm {
    fn group(&self) -> usize {
        chacha::SSSE3_GROUP
    }

    fn xor(&self, state: &mut [u32; 16], input: &[u8], out: &mut [u8]) -> usize {
        // SAFETY: only `with_xmm` makes one of these: the registers are saved, and the CPU has SSSE3.
        unsafe { chacha::ssse3(state, input, out) }
    }
}

/// Moves XMM0 to XMM15, by one instruction each; the upper halves of YMM registers stay as they are.
macro_rules! each_xmm {
    ($at:expr, $($line:literal),*) => {
        asm!($($line),*, at = in(reg) $at, options(nostack, preserves_flags))
    };
}

fn with_xmm(work: &mut dyn FnMut(&dyn Blocks)) {
    #[repr(align(16))]
    struct Kept(MaybeUninit<[u8; 256]>);
    let mut kept = Kept(MaybeUninit::uninit());
    let at = kept.0.as_mut_ptr();
    // SAFETY: sixteen aligned registers' room.
    unsafe {
        each_xmm!(
            at,
            "movaps [{at}], xmm0",
            "movaps [{at} + 16], xmm1",
            "movaps [{at} + 32], xmm2",
            "movaps [{at} + 48], xmm3",
            "movaps [{at} + 64], xmm4",
            "movaps [{at} + 80], xmm5",
            "movaps [{at} + 96], xmm6",
            "movaps [{at} + 112], xmm7",
            "movaps [{at} + 128], xmm8",
            "movaps [{at} + 144], xmm9",
            "movaps [{at} + 160], xmm10",
            "movaps [{at} + 176], xmm11",
            "movaps [{at} + 192], xmm12",
            "movaps [{at} + 208], xmm13",
            "movaps [{at} + 224], xmm14",
            "movaps [{at} + 240], xmm15"
        );
    }
    work(&Xmm(()));
    // SAFETY: what was stored above.
    unsafe {
        each_xmm!(
            at,
            "movaps xmm0, [{at}]",
            "movaps xmm1, [{at} + 16]",
            "movaps xmm2, [{at} + 32]",
            "movaps xmm3, [{at} + 48]",
            "movaps xmm4, [{at} + 64]",
            "movaps xmm5, [{at} + 80]",
            "movaps xmm6, [{at} + 96]",
            "movaps xmm7, [{at} + 112]",
            "movaps xmm8, [{at} + 128]",
            "movaps xmm9, [{at} + 144]",
            "movaps xmm10, [{at} + 160]",
            "movaps xmm11, [{at} + 176]",
            "movaps xmm12, [{at} + 192]",
            "movaps xmm13, [{at} + 208]",
            "movaps xmm14, [{at} + 224]",
            "movaps xmm15, [{at} + 240]"
        );
    }
}
