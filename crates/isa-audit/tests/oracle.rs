//! Lengths, flow and classes against iced-x86, which knows every instruction.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};
use isa_audit::{CodeSize, Flow, decode};
use proptest::collection::vec;
use proptest::prelude::*;

mod features;
use features::{Needs, needs};

const MODES: [(CodeSize, u32); 3] = [(CodeSize::Bits16, 16), (CodeSize::Bits32, 32), (CodeSize::Bits64, 64)];

fn iced(bytes: &[u8], bits: u32) -> Instruction {
    Decoder::with_ip(bits, bytes, 0x1000, DecoderOptions::NONE).decode()
}

/// What iced calls an instruction of an Intel CPU, this crate must call the same.
fn compare(bytes: &[u8]) -> Result<(), TestCaseError> {
    for (mode, bits) in MODES {
        let theirs = iced(bytes, bits);
        let wanted: Needs = needs(theirs.code());
        let Some((features, without)) = wanted else { continue };
        let told = format!("{bits}-bit {bytes:02x?}: {:?}", theirs.code());
        let ours = match decode(bytes, mode) {
            Ok(ours) => ours,
            Err(error) => return Err(TestCaseError::fail(format!("{told}: {error}"))),
        };
        prop_assert_eq!(usize::from(ours.len), theirs.len(), "{}", &told);
        prop_assert_eq!(ours.class.features(), features, "{}", &told);
        prop_assert_eq!(format!("{:?}", ours.class.without()), without, "{}", &told);
        let distance = theirs.near_branch_target().wrapping_sub(theirs.next_ip());
        // the instruction pointer is cut to the operand size
        let mask = match theirs.op0_kind() {
            OpKind::NearBranch16 => 0xffff,
            OpKind::NearBranch32 => 0xffff_ffff,
            _ => u64::MAX,
        };
        match theirs.flow_control() {
            FlowControl::UnconditionalBranch => match ours.flow {
                Flow::Jump(by) => prop_assert_eq!(by as i64 as u64 & mask, distance & mask, "{}", &told),
                flow => prop_assert_eq!(flow, Flow::End, "{}", &told),
            },
            FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend
                if theirs.near_branch_target() != 0 =>
            {
                let Flow::Branch(by) = ours.flow else {
                    return Err(TestCaseError::fail(format!("{told}: {:?}", ours.flow)));
                };
                prop_assert_eq!(by as i64 as u64 & mask, distance & mask, "{}", &told);
            }
            FlowControl::Return | FlowControl::IndirectBranch => {
                prop_assert_eq!(ours.flow, Flow::End, "{}", &told);
            }
            FlowControl::Next => prop_assert_eq!(ours.flow, Flow::Next, "{}", &told),
            _ => {}
        }
    }
    Ok(())
}

fn prefixes() -> impl Strategy<Value = Vec<u8>> {
    vec(
        prop::sample::select(vec![
            0x66, 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0x48, 0x4f, 0x41, 0x40,
        ]),
        0..4,
    )
}

/// Bytes that look like instructions: prefixes, an escape, noise.
fn shaped() -> impl Strategy<Value = Vec<u8>> {
    let escapes: Vec<&[u8]> = vec![&[], &[0x0f], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
    let legacy = (prefixes(), prop::sample::select(escapes), vec(any::<u8>(), 15))
        .prop_map(|(p, e, n)| [p.as_slice(), e, &n].concat());
    let vex = (1_u8..4, any::<u8>(), any::<u8>(), vec(any::<u8>(), 12))
        .prop_map(|(map, first, second, n)| [&[0xc4, first & 0xe0 | map, second], n.as_slice()].concat());
    let short =
        (any::<u8>(), vec(any::<u8>(), 13)).prop_map(|(first, n)| [&[0xc5, first], n.as_slice()].concat());
    let evex = (prop::sample::select(vec![1_u8, 2, 3, 5, 6]), any::<[u8; 3]>(), vec(any::<u8>(), 12))
        .prop_map(|(map, [p0, p1, p2], n)| [&[0x62, p0 & 0xf0 | map, p1 | 4, p2], n.as_slice()].concat());
    prop_oneof![2 => legacy, 1 => vex, 1 => short, 2 => evex]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60_000))]

    #[test]
    fn agrees_with_iced(bytes in shaped()) {
        compare(&bytes)?;
    }

    #[test]
    fn agrees_with_iced_on_noise(bytes in vec(any::<u8>(), 16)) {
        compare(&bytes)?;
    }
}

/// Gathers want three registers that differ: those of row 1 with an index that is not the generator's first.
#[test]
fn gathers_of_every_row() {
    for (opcode, reg) in (0x90..=0x93).flat_map(|opcode| (0..8).map(move |reg| (opcode, reg))) {
        for start in [[0xc4, 0x02, 0x3d].as_slice(), &[0x62, 0x32, 0x7d, 0x29]] {
            compare(&[start, &[opcode, 0x84 | reg << 3, 0x10, 0, 0, 0, 0]].concat()).unwrap();
        }
    }
}

/// Every one- and two-byte opcode with every ModRM, and every prefix that may change it.
#[test]
fn agrees_with_iced_on_every_opcode() {
    let starts: [&[u8]; 7] = [&[], &[0x66], &[0xf3], &[0xf2], &[0x67], &[0x48], &[0x66, 0xf2]];
    for start in starts {
        for escape in [&[][..], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]] {
            for opcode in 0..=255 {
                for modrm in (0..=255).step_by(if escape.len() < 2 { 1 } else { 9 }) {
                    let bytes = [start, escape, &[opcode, modrm, 0x25, 1, 2, 3, 4, 5, 6, 7, 8, 9]].concat();
                    compare(&bytes).unwrap();
                }
            }
        }
    }
}

/// Every opcode behind VEX and EVEX, with every W, L and mandatory prefix, and some operands.
#[test]
fn agrees_with_iced_on_every_vector_opcode() {
    let operands =
        [0x0c, 0x44, 0x95, 0xc1, 0xd3, 0xee, 0xfa].map(|modrm: u8| [modrm, 0x0a, 1, 2, 3, 4, 5, 6]);
    for (opcode, last) in (0..=255_u8).flat_map(|opcode| (0..8).map(move |last| (opcode, last))) {
        let (pp, w) = (last & 3, last >> 2 << 7);
        for operand in &operands {
            for (map, l) in (1..4).flat_map(|map| [(map, 0), (map, 4)]) {
                for vvvv in [0x78, 0x60] {
                    let start = [0xc4, 0xe0 | map, w | vvvv | l | pp, opcode];
                    compare(&[&start[..], operand].concat()).unwrap();
                }
            }
            for (map, l) in [1, 2, 3, 5, 6].into_iter().flat_map(|map| (0..3).map(move |l| (map, l))) {
                for (vvvv, flags) in [(0x78, 8), (0x60, 9), (0x78, 0x18)] {
                    let start = [0x62, 0xf0 | map, w | vvvv | 4 | pp, l << 5 | flags, opcode];
                    compare(&[&start[..], operand].concat()).unwrap();
                }
            }
        }
    }
}
