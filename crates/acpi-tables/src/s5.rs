//! `\_S5`, soft off, out of the DSDT's bytes (7.4.2.6). No AML is run: the name is looked for where a definition block
//! holds it as a plain package, which is how every DSDT does it.

use crate::bytes::u8_at;

const NAME_OP: u8 = 0x08;
const ROOT_CHAR: u8 = b'\\';
const PACKAGE_OP: u8 = 0x12;
const BYTE_PREFIX: u8 = 0x0a;
const WORD_PREFIX: u8 = 0x0b;
const DWORD_PREFIX: u8 = 0x0c;

/// SLP_TYPa and SLP_TYPb of the first definition of `_S5_`; a package of one element means both by it.
pub(crate) fn find(dsdt: &[u8]) -> Option<[u8; 2]> {
    let mut at = 0;
    while let Some(found) = dsdt.get(at..).and_then(|rest| rest.windows(4).position(|w| w == b"_S5_")) {
        let name = at + found;
        at = name + 4;
        let before = |n: usize| name.checked_sub(n).and_then(|at| u8_at(dsdt, at));
        let named = before(1) == Some(NAME_OP) || before(1) == Some(ROOT_CHAR) && before(2) == Some(NAME_OP);
        if let Some(types) = dsdt.get(at..).filter(|_| named).and_then(package) {
            return Some(types);
        }
    }
    None
}

/// PackageOp, PkgLength, NumElements, elements (20.2.5.4).
fn package(aml: &[u8]) -> Option<[u8; 2]> {
    if u8_at(aml, 0)? != PACKAGE_OP {
        return None;
    }
    let lead = u8_at(aml, 1)?;
    let count_at = 2 + usize::from(lead >> 6);
    let count = u8_at(aml, count_at)?;
    let (first, len) = integer(aml.get(count_at + 1..)?)?;
    let second = if count >= 2 { integer(aml.get(count_at + 1 + len..)?)?.0 } else { first };
    (count >= 1).then_some([first, second])
}

/// A small constant, and how many bytes it takes: SLP_TYP has three bits.
fn integer(aml: &[u8]) -> Option<(u8, usize)> {
    let (value, len) = match u8_at(aml, 0)? {
        value @ (0 | 1) => (value, 1),
        BYTE_PREFIX => (u8_at(aml, 1)?, 2),
        WORD_PREFIX => (u8_at(aml, 1)?, 3),
        DWORD_PREFIX => (u8_at(aml, 1)?, 5),
        _ => return None,
    };
    (value < 8).then_some((value, len))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn forms_of_real_tables() {
        // Bochs and QEMU: Name (\_S5, Package () { Zero, Zero, Zero, Zero }).
        assert_eq!(find(b"....\x08\\_S5_\x12\x06\x04\x00\x00\x00\x00"), Some([0, 0]));
        // Ours, and most machines: bytes with a prefix.
        assert_eq!(find(b"\x08_S5_\x12\x08\x04\x0a\x05\x0a\x07\x00\x00"), Some([5, 7]));
        // One element; a long PkgLength; a mention before the definition.
        assert_eq!(find(b"_S5_ \x08_S5_\x12\x43\x00\x01\x0b\x06\x00"), Some([6, 6]));
    }

    #[test]
    fn anything_else_is_none() {
        for aml in [
            &b""[..],
            b"_S5_",
            b"\x08_S5_",
            b"\x08_S5_\x12",
            b"\x08_S5_\x12\x06\x04",
            b"\x08_S5_\x12\x06\x00\x05\x05",
            b"\x08_S5_\x12\x06\x02\x0a\x08\x00",
            b"\x14_S5_\x12\x06\x02\x00\x00",
            b"\x08_S4_\x12\x06\x02\x00\x00",
        ] {
            assert_eq!(find(aml), None, "{aml:?}");
        }
    }
}
