//! The XSAVE area of a vCPU as it travels: nothing in it that the guest's level does not have.

use alloc::format;
use alloc::string::String;

/// Shortest area: legacy region and header.
pub const XSAVE_MIN: usize = 576;
/// Longest XSAVE area accepted.
pub const XSAVE_MAX: usize = 4096;

const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
/// Behind the sixteen XMM registers: reserved bytes, and those that XSAVE leaves to software.
const LEGACY_TAIL: core::ops::Range<usize> = 416..512;
const XSTATE_BV: usize = 512;
const HEADER_TAIL: core::ops::Range<usize> = 520..XSAVE_MIN;

/// Components of the standard format: bit of XCR0, first byte, bytes. Every CPU that has one has it there.
const COMPONENTS: [(u32, usize, usize); 7] = [
    (2, 576, 256),   // AVX
    (3, 960, 64),    // BNDREGS
    (4, 1024, 64),   // BNDCSR
    (5, 1088, 64),   // opmask
    (6, 1152, 512),  // ZMM_Hi256
    (7, 1664, 1024), // Hi16_ZMM
    (9, 2688, 8),    // PKRU
];

fn bv(area: &[u8]) -> u64 {
    area.get(XSTATE_BV..XSTATE_BV + 8)
        .map_or(0, |bytes| bytes.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
}

/// The pieces of the extended region that belong to no component of `bv`, as first byte and end.
fn extended(bv: u64) -> impl Iterator<Item = (usize, usize)> {
    let held =
        COMPONENTS.into_iter().filter(move |(bit, ..)| bv >> bit & 1 != 0).map(|(_, at, len)| (at, at + len));
    let mut from = XSAVE_MIN;
    held.chain([(XSAVE_MAX, XSAVE_MAX)]).map(move |(start, end)| {
        let gap = (from, start);
        from = end;
        gap
    })
}

/// Clears all but the components that `allowed` (an XCR0 value of the policy) has and XSTATE_BV says are in use:
/// other components, reserved bytes, and MXCSR_MASK, which is the host's.
pub fn clean(area: &mut [u8], allowed: u64) {
    if area.len() < XSAVE_MIN {
        return;
    }
    let bv = bv(area) & (allowed | 3);
    area[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&bv.to_le_bytes());
    area[MXCSR_MASK..MXCSR_MASK + 4].fill(0);
    area[LEGACY_TAIL].fill(0);
    area[HEADER_TAIL].fill(0);
    let len = area.len();
    for (start, end) in extended(bv) {
        if let Some(gap) = area.get_mut(start.min(len)..end.min(len)) {
            gap.fill(0);
        }
    }
}

/// Where the parts of vector register `register` (0 to 15) are: component, first byte in the area, bytes in the register.
fn parts(register: u8) -> [(u32, usize, core::ops::Range<usize>); 3] {
    let number = usize::from(register & 15);
    [(1, 160 + 16 * number, 0..16), (2, 576 + 16 * number, 16..32), (6, 1152 + 32 * number, 32..64)]
}

/// Whether a component holds a state other than its initial one. Without XSAVE (`allowed` is 0) nothing is noted down.
fn in_use(area: &[u8], allowed: u64, component: u32) -> bool {
    bv(area) >> component & 1 != 0 || (allowed == 0 && component == 1)
}

/// A vector register of an area that was stored under `allowed` (an XCR0 value of the policy).
#[must_use]
pub fn vector(area: &[u8], allowed: u64, register: u8) -> [u8; 64] {
    let mut value = [0; 64];
    for (component, at, range) in parts(register) {
        if in_use(area, allowed, component)
            && let Some(bytes) = area.get(at..at + range.len())
        {
            value[range].copy_from_slice(bytes);
        }
    }
    value
}

/// Changes a vector register. What `allowed` does not have stays away.
pub fn set_vector(area: &mut [u8], allowed: u64, register: u8, value: &[u8; 64]) {
    for (component, at, range) in parts(register) {
        let bytes = &value[range];
        let used = in_use(area, allowed, component);
        if (allowed | 3) >> component & 1 == 0 || area.len() < at + bytes.len() {
            continue;
        }
        if !used {
            if bytes.iter().all(|byte| *byte == 0) {
                continue;
            }
            // Its other registers are 0 as well, whatever is left in the area.
            let (start, len) = COMPONENTS
                .iter()
                .find(|(bit, ..)| *bit == component)
                .map_or((160, 256), |(_, start, len)| (*start, *len));
            if let Some(all) = area.get_mut(start..start + len) {
                all.fill(0);
            }
            area[XSTATE_BV] |= 1 << component;
        }
        area[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// XRSTOR of a host must not fault on it (SDM volume 1, 13.8), and it brings nothing that [`clean`] takes away.
pub(crate) fn check(area: &[u8], allowed: u64) -> Result<(), String> {
    if !(XSAVE_MIN..=XSAVE_MAX).contains(&area.len()) {
        return Err(format!("XSAVE area is of {} bytes", area.len()));
    }
    let known = COMPONENTS.iter().fold(3, |bits, (bit, ..)| bits | 1 << bit);
    let bv = bv(area);
    if bv & !((allowed | 3) & known) != 0 {
        return Err(format!("XSTATE_BV is {bv:#x}, the level has {allowed:#x}"));
    }
    let mxcsr = u32::from_le_bytes([area[MXCSR], area[MXCSR + 1], area[MXCSR + 2], area[MXCSR + 3]]);
    if mxcsr & !0xffff != 0 {
        return Err(format!("MXCSR is {mxcsr:#x}"));
    }
    let named = [
        ("MXCSR_MASK", MXCSR_MASK, MXCSR_MASK + 4),
        ("legacy region", LEGACY_TAIL.start, LEGACY_TAIL.end),
        ("XSAVE header", HEADER_TAIL.start, HEADER_TAIL.end),
    ];
    let gaps = extended(bv).map(|(start, end)| ("component that XSTATE_BV leaves out", start, end));
    for (name, start, end) in named.into_iter().chain(gaps) {
        let bytes = area.get(start..end.min(area.len())).unwrap_or_default();
        if let Some((at, byte)) = bytes.iter().enumerate().find(|(_, byte)| **byte != 0) {
            return Err(format!("XSAVE area: {name}: byte {} is {byte:#x}", start + at));
        }
    }
    Ok(())
}

#[cfg(test)]
mod vectors {
    use super::*;

    #[test]
    fn registers_of_components_in_their_initial_state_are_0() {
        let mut area = [0xAA; XSAVE_MAX];
        area[XSTATE_BV..XSAVE_MIN].fill(0);
        let allowed = 0xE7;
        assert_eq!(vector(&area, allowed, 3), [0; 64]);
        assert_eq!(
            vector(&area, 0, 3)[..17],
            [[0xAA; 16].as_slice(), &[0]].concat(),
            "FXSAVE notes nothing down"
        );
        let mut value = [0; 64];
        value[0] = 1;
        value[31] = 2;
        set_vector(&mut area, allowed, 3, &value);
        assert_eq!((vector(&area, allowed, 3), vector(&area, allowed, 4)), (value, [0; 64]));
        assert_eq!(area[XSTATE_BV], 6, "the upper halves of ZMM are still as they were");
        value[63] = 3;
        set_vector(&mut area, allowed, 15, &value);
        assert_eq!((vector(&area, allowed, 15), area[XSTATE_BV]), (value, 0x46));
        set_vector(&mut area, 3, 0, &[9; 64]);
        assert_eq!(vector(&area, allowed, 0)[15..17], [9, 0], "no AVX at this level");
    }
}
