//! Code of a guest that the audit looks through, and findings that came with a VM.

use cpu_policy::FeatureSet;
use isa_audit::{Bounds, CodeSize, Findings, MAX_ENCODED, MAX_ROWS, Page, decode, scan};

/// A page: a byte that picks the mode, two for the entry, then its bytes.
pub fn page(data: &[u8]) {
    let Some((&[pick, low, high], code)) = data.split_first_chunk() else { return };
    let mode = [CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64][usize::from(pick % 3)];
    if let Ok(insn) = decode(code, mode) {
        let len = usize::from(insn.len);
        assert_eq!(decode(&code[..len], mode), Ok(insn), "bytes behind it do not count");
        assert!(decode(&code[..len - 1], mode).is_err(), "{insn:?} from fewer bytes than it has");
    }
    let page = Page { code, linear: u64::MAX - 0xfff, gpa: 0x1000, mode };
    let bounds = Bounds { has: FeatureSet::EMPTY, stopped: FeatureSet::matching(|f| f as usize % 7 == 0) };
    let mut found = Findings::new();
    scan(&page, usize::from(u16::from_le_bytes([low, high])), &bounds, &mut found);
    assert!(found.rows().len() <= MAX_ROWS && found.pages == 1);
    for row in found.rows() {
        let at = usize::try_from(row.gpa - 0x1000).unwrap();
        assert_eq!(&code[at..at + row.instruction().len()], row.instruction());
        assert_eq!(row.linear.wrapping_sub(page.linear), at as u64);
    }
    let bytes = found.encode();
    assert!(bytes.len() <= MAX_ENCODED);
    assert_eq!(Findings::decode(&bytes), Ok(found));
}

/// Encoded findings.
pub fn findings(data: &[u8]) {
    let Ok(found) = Findings::decode(data) else { return };
    assert!(found.rows().len() <= MAX_ROWS);
    assert_eq!(Findings::decode(&found.encode()), Ok(found));
}

/// Findings of a page with two features.
pub(crate) fn seed() -> Vec<u8> {
    let mut found = Findings::new();
    let code = [&[0xf3, 0x0f, 0xb8, 0xc0, 0xc4, 0xe2, 0x71, 0xdc, 0xc2, 0xc3][..], &[0xcc; 100]].concat();
    let page = Page { code: &code, linear: 0x40_0000, gpa: 0x9000, mode: CodeSize::Bits64 };
    let bounds = Bounds { has: FeatureSet::EMPTY, stopped: FeatureSet::EMPTY };
    scan(&page, 0, &bounds, &mut found);
    found.encode()
}
