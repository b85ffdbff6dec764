//! Makes `src/table.rs` out of what iced-x86 knows, and keeps it so: `UPDATE_TABLES=1 cargo test -p isa-audit -- --ignored`.

use std::fmt::Write;

use cpu_policy::Feature;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction};

mod features;
use features::{Needs, needs};

/// Forms of a ModRM byte: memory by its reg field, then registers by the whole byte.
const FORMS: usize = 8 + 64;

/// The space that an opcode is looked up in.
#[derive(Clone, Copy, PartialEq)]
enum Space {
    Legacy,
    Vex,
    Evex,
}

/// Encoded register numbers of the second source.
const VVVV: [u8; 4] = [15, 14, 13, 12];

fn decode(bitness: u32, bytes: &[u8]) -> Instruction {
    Decoder::new(bitness, bytes, DecoderOptions::NONE).decode()
}

/// The instruction that an opcode is with these bits and this ModRM form, if it is one with any operands.
fn probe(space: Space, map: u8, pp: u8, opcode: u8, w: u8, l: u8, form: usize) -> Option<Code> {
    let modrm = if form < 8 { (form as u8) << 3 | 4 } else { 0xc0 | (form - 8) as u8 };
    let tail: &[u8] = if form < 8 { &[0x08] } else { &[] };
    let zeros = [0_u8; 12];
    let mut tries: Vec<Vec<u8>> = Vec::new();
    match space {
        Space::Legacy => {
            let mut bytes = Vec::new();
            bytes.extend([0x66, 0xf3, 0xf2].get(pp.wrapping_sub(1) as usize));
            if w == 1 {
                bytes.push(0x48);
            }
            bytes.push(0x0f);
            bytes.extend(match map {
                2 => Some(0x38),
                3 => Some(0x3a),
                _ => None,
            });
            tries.push(bytes);
        }
        // Some instructions want registers that differ: other ones in VVVV, in B, in X (a gather's index); a mask;
        // broadcast.
        Space::Vex => {
            for (vvvv, b) in VVVV.iter().flat_map(|v| [(v, 0xe0), (v, 0xc0), (v, 0xa0)]) {
                tries.push(vec![0xc4, b | map, w << 7 | vvvv << 3 | l << 2 | pp]);
            }
        }
        Space::Evex => {
            for (vvvv, b) in VVVV.iter().flat_map(|v| [(v, 0xf0), (v, 0xd0), (v, 0xb0)]) {
                for last in [8, 9, 0x18, 0x19] {
                    tries.push(vec![0x62, b | map, w << 7 | vvvv << 3 | 4 | pp, l << 5 | last]);
                }
            }
        }
    }
    for bitness in [64, 32] {
        for start in &tries {
            let bytes = [start.as_slice(), &[opcode, modrm], tail, &zeros].concat();
            let insn = decode(bitness, &bytes);
            // 32-bit mode takes REX for another instruction
            let whole = bitness == 64 || space != Space::Legacy || w == 0;
            // and VEX and EVEX without X for LDS and BOUND
            let whole = whole && (bitness == 64 || space == Space::Legacy || start[1] >= 0xc0);
            if whole && !insn.is_invalid() {
                return Some(insn.code());
            }
        }
    }
    None
}
/// Spaces, their maps, their vector lengths.
const SPACES: [(Space, &[u8], u8); 3] =
    [(Space::Legacy, &[1, 2, 3], 1), (Space::Vex, &[1, 2, 3], 2), (Space::Evex, &[1, 2, 3, 5, 6], 3)];

/// Numbers things in the order in which they come.
struct Numbers<T>(Vec<T>);

impl<T: PartialEq> Numbers<T> {
    fn of(&mut self, thing: T) -> u8 {
        let found = self.0.iter().position(|t| *t == thing).unwrap_or_else(|| {
            self.0.push(thing);
            self.0.len() - 1
        });
        u8::try_from(found).unwrap()
    }
}

struct Tables {
    classes: Numbers<Needs>,
    blocks: Vec<([u64; 4], usize)>,
    rows: Vec<u8>,
    widths: Numbers<[u8; 6]>,
    forms: Numbers<Vec<(u8, u8)>>,
}

fn generate() -> Tables {
    let base = vec![Some((vec![], "Undefined")), None];
    let mut t = Tables {
        classes: Numbers(base),
        blocks: Vec::new(),
        rows: Vec::new(),
        widths: Numbers(Vec::new()),
        forms: Numbers(vec![vec![(FORMS as u8, 1)]]),
    };
    t.widths.of([0; 6]);
    for (space, maps, lengths) in SPACES {
        for (map, pp) in maps.iter().flat_map(|map| (0..4).map(move |pp| (*map, pp))) {
            let (mut used, first) = ([0_u64; 4], t.rows.len());
            for opcode in 0..=255_u8 {
                let mut widths = [0; 6];
                for (w, l) in (0..2).flat_map(|w| (0..lengths).map(move |l| (w, l))) {
                    let mut runs: Vec<(u8, u8)> = Vec::new();
                    for form in 0..FORMS {
                        let class = t.classes.of(probe(space, map, pp, opcode, w, l, form).and_then(needs));
                        match runs.last_mut() {
                            Some(run) if run.1 == class => run.0 = form as u8 + 1,
                            _ => runs.push((form as u8 + 1, class)),
                        }
                    }
                    widths[usize::from(w * 3 + l)] = t.forms.of(runs);
                }
                if widths != [0; 6] {
                    used[usize::from(opcode / 64)] |= 1 << (opcode % 64);
                    t.rows.push(t.widths.of(widths));
                }
            }
            t.blocks.push((used, first));
        }
    }
    t
}

fn list<T: std::fmt::Display>(out: &mut String, name: &str, kind: &str, items: &[T]) {
    writeln!(out, "\n#[rustfmt::skip]\npub(crate) static {name}: [{kind}; {}] = [", items.len()).unwrap();
    let mut line = String::from("   ");
    for item in items {
        let item = format!(" {item},");
        if line.len() + item.len() > 110 {
            writeln!(out, "{line}").unwrap();
            line = String::from("   ");
        }
        line += &item;
    }
    writeln!(out, "{line}\n];").unwrap();
}

fn source(t: &Tables) -> String {
    let mut out = String::from(
        "//! Made by `tests/tables.rs` of what iced-x86 knows; not to be edited.\n\n\
         use cpu_policy::Feature::{self, *};\n\nuse crate::block::Block;\n\
         use crate::findings::Without::{self, *};\n\n",
    );
    let class = |wanted: Feature| {
        t.classes.0.iter().position(|c| c.as_ref().is_some_and(|c| c.0 == [wanted])).unwrap()
    };
    writeln!(out, "pub(crate) const RTM: u8 = {};", class(Feature::Rtm)).unwrap();
    writeln!(out, "pub(crate) const SSE3: u8 = {};", class(Feature::Sse3)).unwrap();
    let classes = t.classes.0.iter().map(|class| match class {
        Some((features, without)) => {
            let names: Vec<String> = features.iter().map(|f| format!("{f:?}")).collect();
            format!("(&[{}], {without})", names.join(", "))
        }
        None => "(&[], Undefined)".into(),
    });
    list(&mut out, "CLASSES", "(&[Feature], Without)", &classes.collect::<Vec<_>>());
    let blocks = t.blocks.iter().map(|(used, first)| {
        format!(
            "Block {{ used: [{:#x}, {:#x}, {:#x}, {:#x}], first: {first} }}",
            used[0], used[1], used[2], used[3]
        )
    });
    list(&mut out, "BLOCKS", "Block", &blocks.collect::<Vec<_>>());
    list(&mut out, "ROWS", "u8", &t.rows);
    let widths: Vec<String> = t.widths.0.iter().map(|w| format!("{w:?}")).collect();
    list(&mut out, "WIDTHS", "[u8; 6]", &widths);
    let mut starts = vec![0];
    let mut runs = Vec::new();
    for form in &t.forms.0 {
        runs.extend(form.iter().map(|(end, class)| format!("({end}, {class})")));
        starts.push(runs.len());
    }
    list(&mut out, "FORMS", "u16", &starts);
    list(&mut out, "RUNS", "(u8, u8)", &runs);
    out
}

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/data.rs");

#[test]
#[ignore = "takes minutes: every form of every opcode; oracle.rs asks for many of them each time"]
fn tables_are_what_iced_knows() {
    let made = source(&generate());
    if std::env::var_os("UPDATE_TABLES").is_some() {
        std::fs::write(PATH, made).unwrap();
    } else {
        assert!(std::fs::read_to_string(PATH).unwrap() == made, "{PATH} is not what the generator makes");
    }
}
