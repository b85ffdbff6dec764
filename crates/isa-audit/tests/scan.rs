//! Going through a page: what is reached, what is swept, what crosses its end; and any bytes at all.

use cpu_policy::{Feature, FeatureSet};
use isa_audit::{
    Bounds, CodeSize, Findings, Heading, MAX_ENCODED, MAX_ROWS, Page, Undecodable, decode, scan,
};
use proptest::collection::vec;
use proptest::prelude::*;

const HIDDEN: Bounds = Bounds { has: FeatureSet::EMPTY, stopped: FeatureSet::EMPTY };
const POPCNT: [u8; 4] = [0xf3, 0x0f, 0xb8, 0xc0];
const LINEAR: u64 = 0x40_0000;
const GPA: u64 = 0x9000;

/// A page of INT3 with pieces of code.
fn page(pieces: &[(usize, &[u8])]) -> Vec<u8> {
    let mut page = vec![0xcc; 4096 + 14];
    for (at, code) in pieces {
        page[*at..*at + code.len()].copy_from_slice(code);
    }
    page
}

fn look(code: &[u8], entry: usize, mode: CodeSize) -> Findings {
    let mut findings = Findings::new();
    scan(&Page { code, linear: LINEAR, gpa: GPA, mode }, entry, &HIDDEN, &mut findings);
    findings
}

/// Offsets and counts of the POPCNTs found: reached, swept, first.
fn popcnts(findings: &Findings) -> (u64, u64, u64) {
    let rows: Vec<_> = findings.rows().iter().filter(|row| row.feature == Feature::Popcnt).collect();
    let [row] = rows.as_slice() else { panic!("{findings:?}") };
    assert_eq!(row.linear - LINEAR, row.gpa - GPA);
    (row.reached, row.swept, row.gpa - GPA)
}

#[test]
fn follows_jumps_branches_and_calls() {
    // jmp 0x100 | 0x100: jz 0x200 ; call 0x300 ; ret | each has one
    let jump = [0xeb, 0x7e]; // to 0x80
    let mut at_80 = vec![0x0f, 0x84, 0x7a, 0x01, 0, 0]; // jz 0x200
    at_80.extend([0xe8, 0x75, 0x02, 0, 0]); // call 0x300
    at_80.push(0xc3);
    let code = page(&[(0, &jump), (0x80, &at_80), (0x200, &POPCNT), (0x300, &POPCNT), (0x400, &POPCNT)]);
    // the last is behind INT3: nothing leads there
    assert_eq!(popcnts(&look(&code, 0, CodeSize::Bits64)), (2, 1, 0x200));
}

#[test]
fn jumps_back_end() {
    let code = page(&[(0x10, &POPCNT), (0x14, &[0xeb, 0xfa])]); // jmp to itself's start
    assert_eq!(popcnts(&look(&code, 0x10, CodeSize::Bits64)), (1, 0, 0x10));
    // and those that leave the page end the way there
    let code = page(&[(0, &[0xe9, 0, 0x20, 0, 0]), (5, &POPCNT)]);
    assert_eq!(popcnts(&look(&code, 0, CodeSize::Bits64)), (0, 1, 5));
    let code = page(&[(0, &[0xeb, 0xf0]), (2, &POPCNT)]);
    assert_eq!(popcnts(&look(&code, 0, CodeSize::Bits64)), (0, 1, 2));
}

#[test]
fn an_instruction_may_cross_the_end() {
    for at in 4093..4096 {
        let code = page(&[(at, &POPCNT)]);
        assert_eq!(popcnts(&look(&code, at, CodeSize::Bits64)), (1, 0, at as u64));
        // where the next page is not known, it is no instruction
        let findings = look(&code[..4096], at, CodeSize::Bits64);
        assert!(findings.rows().is_empty());
        assert_eq!(findings.undecodable, 1);
    }
    // one that begins in the next page is that page's
    assert!(look(&page(&[(4096, &POPCNT)]), 4096 - 1, CodeSize::Bits64).rows().is_empty());
}

#[test]
fn a_reached_one_is_shown_in_place_of_a_swept_one() {
    let mut findings = Findings::new();
    let swept = page(&[(0x500, &POPCNT)]);
    scan(&Page { code: &swept, linear: LINEAR, gpa: GPA, mode: CodeSize::Bits64 }, 0, &HIDDEN, &mut findings);
    assert!(findings.in_use().is_empty(), "what may be data is no reason to warn");
    let reached = page(&[(0x600, &POPCNT)]);
    let page = Page { code: &reached, linear: LINEAR, gpa: GPA, mode: CodeSize::Bits64 };
    scan(&page, 0x600, &HIDDEN, &mut findings);
    scan(&page, 0x600, &HIDDEN, &mut findings);
    assert_eq!(popcnts(&findings), (2, 1, 0x600));
    assert_eq!(findings.in_use(), FeatureSet::of(&[Feature::Popcnt]));
    assert_eq!(findings.pages, 3);
    assert_eq!(findings.warning(FeatureSet::of(&[Feature::Movbe])), None);
    let warning = findings.warning(FeatureSet::of(&[Feature::Movbe, Feature::Popcnt])).unwrap();
    assert!(warning.contains(" POPCNT;") && !warning.contains("MOVBE"), "{warning}");
}

#[test]
fn modes_decide() {
    // 16 and 32 bits: DEC EAX; ADD. 64 bits: a REX prefix
    let code = page(&[(0, &[0x48, 0xf3, 0x0f, 0xb8, 0xc0])]);
    for mode in [CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64] {
        assert_eq!(popcnts(&look(&code, 0, mode)).0, 1, "{mode:?}");
    }
    // MOV AX, imm16 against MOV EAX, imm32: what follows begins elsewhere
    let code = page(&[(0, &[0xb8, 0x00, 0x00]), (3, &POPCNT)]);
    assert_eq!(popcnts(&look(&code, 0, CodeSize::Bits16)), (1, 0, 3));
    assert!(look(&code, 0, CodeSize::Bits32).rows().is_empty());
    // LES against VEX
    let les = [0xc5, 0x07];
    assert_eq!(decode(&les, CodeSize::Bits32).map(|insn| insn.len), Ok(2));
    assert_eq!(decode(&les, CodeSize::Bits64), Err(Undecodable::Incomplete));
}

#[test]
fn reports_say_that_they_are_heuristic() {
    let findings = look(&page(&[(0x10, &POPCNT)]), 0x10, CodeSize::Bits64);
    let heading = Heading { vm: "demo", level: "penryn", running: true };
    let mut text = String::new();
    findings.text(&heading, &mut text).unwrap();
    for part in ["demo", "penryn", "heuristic", "POPCNT", "0x400010", "0x9010", "f3 0f b8 c0", "runs", "#UD"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let mut json = String::new();
    findings.json(&heading, &mut json).unwrap();
    assert!(json.contains(r#""heuristic":true"#) && json.contains(r#""physical":"0x9010""#), "{json}");
    assert!(text.lines().all(|line| line.len() <= 120), "{text}");
}

#[test]
fn findings_that_are_none_are_refused() {
    use isa_audit::DecodeError;
    assert!(matches!(Findings::decode(&[0; MAX_ENCODED + 1]), Err(DecodeError::TooLong(_))));
    assert!(matches!(Findings::decode(&[]), Err(DecodeError::Cbor(_))));
    let bytes = look(&page(&[(0, &POPCNT)]), 0, CodeSize::Bits64).encode();
    assert!(Findings::decode(&bytes[..bytes.len() - 1]).is_err());
    // a feature of a later version is left out
    let at = bytes.windows(6).position(|w| w == b"POPCNT").unwrap();
    let mut later = bytes.clone();
    later[at..at + 6].copy_from_slice(b"POPCNU");
    assert!(Findings::decode(&later).unwrap().rows().is_empty());
}

fn mode() -> impl Strategy<Value = CodeSize> {
    prop::sample::select(vec![CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64])
}

proptest! {
    #[test]
    fn any_bytes_are_an_instruction_or_none(bytes in vec(any::<u8>(), 0..20), mode in mode()) {
        if let Ok(insn) = decode(&bytes, mode) {
            let len = usize::from(insn.len);
            prop_assert!((1..=15).contains(&len) && len <= bytes.len());
            // bytes behind it do not count, and none is too many
            prop_assert_eq!(decode(&bytes[..len], mode), Ok(insn));
            prop_assert_eq!(decode(&bytes[..len - 1], mode), Err(Undecodable::Incomplete));
        }
    }

    #[test]
    fn any_page_ends(code in vec(any::<u8>(), 0..4200), entry in 0..5000_usize, mode in mode()) {
        let findings = look(&code, entry, mode);
        prop_assert!(findings.rows().len() <= MAX_ROWS);
        for row in findings.rows() {
            let at = (row.gpa - GPA) as usize;
            prop_assert_eq!(row.linear - LINEAR, at as u64);
            prop_assert!(row.reached + row.swept > 0);
            prop_assert_eq!(&code[at..at + row.instruction().len()], row.instruction());
        }
        let bytes = findings.encode();
        prop_assert!(bytes.len() <= MAX_ENCODED);
        prop_assert_eq!(Findings::decode(&bytes).unwrap(), findings);
    }

    #[test]
    fn any_bytes_are_findings_or_none(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(findings) = Findings::decode(&bytes) {
            prop_assert_eq!(Findings::decode(&findings.encode()).unwrap(), findings);
        }
    }

    #[test]
    fn mutated_findings_are_findings_or_none(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = look(&page(&[(0, &POPCNT), (0x20, &[0xc4, 0xe2, 0x71, 0xdc, 0xc2])]), 0, CodeSize::Bits64).encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(findings) = Findings::decode(&bytes) {
            prop_assert_eq!(Findings::decode(&findings.encode()).unwrap(), findings);
        }
    }
}
