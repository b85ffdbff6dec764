//! As much AML encoding as the DSDT needs (ACPI 6.5, chapter 20).

use alloc::vec;
use alloc::vec::Vec;

const ZERO: u8 = 0x00;
const ONE: u8 = 0x01;
const NAME: u8 = 0x08;
const BYTE: u8 = 0x0A;
const WORD: u8 = 0x0B;
const DWORD: u8 = 0x0C;
const STRING: u8 = 0x0D;
const SCOPE: u8 = 0x10;
const BUFFER: u8 = 0x11;
const PACKAGE: u8 = 0x12;
const DEVICE: [u8; 2] = [0x5B, 0x82];

pub(super) fn integer(value: u32) -> Vec<u8> {
    let [a, b, c, d] = value.to_le_bytes();
    match value {
        0 => vec![ZERO],
        1 => vec![ONE],
        2..=0xFF => vec![BYTE, a],
        0x100..=0xFFFF => vec![WORD, a, b],
        _ => vec![DWORD, a, b, c, d],
    }
}

pub(super) fn string(text: &str) -> Vec<u8> {
    [&[STRING], text.as_bytes(), &[0]].concat()
}

/// A compressed EISA ID such as `PNP0501`: three letters of five bits, four hexadecimal digits.
pub(super) fn eisa_id(id: &[u8; 7]) -> Vec<u8> {
    let letter = |i: usize| u32::from(id[i] & 0x1F);
    let digit = |i: usize| (id[i] as char).to_digit(16).unwrap_or(0);
    let letters = letter(0) << 26 | letter(1) << 21 | letter(2) << 16;
    let value = (3..7).fold(letters, |value, i| value | digit(i) << (4 * (6 - i)));
    [&[DWORD][..], &value.to_be_bytes()].concat()
}

pub(super) fn name(path: &[u8], value: &[u8]) -> Vec<u8> {
    [&[NAME], path, value].concat()
}

pub(super) fn scope(path: &[u8], body: &[Vec<u8>]) -> Vec<u8> {
    sized(&[SCOPE], path, &body.concat())
}

pub(super) fn device(path: &[u8; 4], body: &[Vec<u8>]) -> Vec<u8> {
    sized(&DEVICE, path, &body.concat())
}

pub(super) fn package(elements: &[Vec<u8>]) -> Vec<u8> {
    sized(&[PACKAGE], &[elements.len() as u8], &elements.concat())
}

/// A `_CRS` buffer: the descriptors and an end tag without checksum.
pub(super) fn resources(descriptors: &[Vec<u8>]) -> Vec<u8> {
    let bytes = [&descriptors.concat()[..], &[0x79, 0]].concat();
    sized(&[BUFFER], &integer(bytes.len() as u32), &bytes)
}

/// I/O port descriptor, 16-bit decode, fixed.
pub(super) fn io(port: u16, len: u8) -> Vec<u8> {
    let [low, high] = port.to_le_bytes();
    vec![0x47, 1, low, high, low, high, 1, len]
}

/// IRQ descriptor without flags: edge, active high, exclusive.
pub(super) fn irq(irq: u8) -> Vec<u8> {
    let [low, high] = (1u16 << (irq & 15)).to_le_bytes();
    vec![0x22, low, high]
}

/// Fixed 32-bit memory, read and write.
pub(super) fn memory32(base: u32, len: u32) -> Vec<u8> {
    [&[0x86, 9, 0, 1][..], &base.to_le_bytes(), &len.to_le_bytes()].concat()
}

/// Bus numbers that a bridge passes on.
pub(super) fn buses(first: u16, last: u16) -> Vec<u8> {
    word_window(2, 0, first, last)
}

/// Ports that a bridge passes on, all of them.
pub(super) fn io_window(first: u16, last: u16) -> Vec<u8> {
    word_window(1, 3, first, last)
}

/// Memory that a bridge passes on: not cached, written to.
pub(super) fn memory_window(first: u32, last: u32) -> Vec<u8> {
    let fields = [0, first, last, 0, (last - first).wrapping_add(1)];
    let fields: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
    [&[0x87, 23, 0, 0, FIXED, 1][..], &fields].concat()
}

/// Both ends fixed; the device produces it.
const FIXED: u8 = 0x0C;

/// Word address space descriptor (ACPI 6.5, 6.4.3.5.3).
fn word_window(kind: u8, flags: u8, first: u16, last: u16) -> Vec<u8> {
    let fields = [0, first, last, 0, (last - first).wrapping_add(1)];
    let fields: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
    [&[0x88, 13, 0, kind, FIXED, flags][..], &fields].concat()
}

/// opcode PkgLength head body; the length counts itself (ACPI 6.5, 20.2.4).
fn sized(opcode: &[u8], head: &[u8], body: &[u8]) -> Vec<u8> {
    let len = head.len() + body.len();
    let length = if len < 0x3F {
        vec![(len + 1) as u8]
    } else if len + 2 <= 0xFFF {
        vec![0x40 | (len + 2) as u8 & 0xF, ((len + 2) >> 4) as u8]
    } else {
        vec![0x80 | (len + 3) as u8 & 0xF, ((len + 3) >> 4) as u8, ((len + 3) >> 12) as u8]
    };
    [opcode, &length, head, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eisa_ids() {
        // The values that the ACPI and PNP documents give.
        assert_eq!(eisa_id(b"PNP0501"), [DWORD, 0x41, 0xD0, 0x05, 0x01]);
        assert_eq!(eisa_id(b"PNP0C02"), [DWORD, 0x41, 0xD0, 0x0C, 0x02]);
    }

    #[test]
    fn package_lengths() {
        for len in [0usize, 60, 61, 62, 4091, 4092, 4093, 70_000] {
            let term = sized(&[SCOPE], b"X", &vec![0; len]);
            let follow = usize::from(term[1] >> 6);
            let mut coded = usize::from(term[1] & if follow == 0 { 0x3F } else { 0x0F });
            for i in 0..follow {
                coded |= usize::from(term[2 + i]) << (4 + 8 * i);
            }
            assert_eq!(coded, term.len() - 1, "body of {len}");
        }
    }
}
