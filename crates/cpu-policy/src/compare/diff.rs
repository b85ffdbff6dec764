//! What differs between two subjects, named.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::Subject;
use crate::feature::{FEATURES, Feature, Place, Reg};
use crate::table::Row;

/// What differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A feature that one of the two has.
    Feature(Feature),
    /// A value.
    Value(&'static str),
    /// A register of CPUID, in bits that are no feature.
    Register {
        /// EAX on input.
        leaf: u32,
        /// ECX on input.
        subleaf: u32,
        /// The register.
        reg: Reg,
    },
    /// An MSR, in bits that are no feature.
    Msr(u32),
}

/// One difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// What differs.
    pub what: What,
    /// What the first of the two has.
    pub left: String,
    /// What the second has.
    pub right: String,
}

const REGS: [Reg; 4] = [Reg::Eax, Reg::Ebx, Reg::Ecx, Reg::Edx];

/// All that differs: features in the order of the table, values, then registers and MSRs where both have some.
#[must_use]
pub fn diff(left: &Subject, right: &Subject) -> Vec<Difference> {
    let mut out = Vec::new();
    let yes_no = |has: bool| if has { "yes" } else { "no" }.to_string();
    for row in FEATURES {
        let [a, b] = [left, right].map(|subject| subject.features.contains(row.feature));
        if a != b {
            out.push(Difference { what: What::Feature(row.feature), left: yes_no(a), right: yes_no(b) });
        }
    }
    for fact in &left.facts {
        let other = right.facts.iter().find(|other| other.name == fact.name);
        if let Some(other) = other.filter(|other| other.value != fact.value) {
            let what = What::Value(fact.name);
            out.push(Difference { what, left: fact.value.clone(), right: other.value.clone() });
        }
    }
    if !left.rows.is_empty() && !right.rows.is_empty() {
        registers(&left.rows, &right.rows, &mut out);
        msrs(&left.msrs, &right.msrs, &mut out);
    }
    out
}

fn registers(left: &[Row], right: &[Row], out: &mut Vec<Difference>) {
    let mut places: Vec<(u32, u32)> = left.iter().chain(right).map(|row| (row.leaf, row.subleaf)).collect();
    places.sort_unstable();
    places.dedup();
    for (leaf, subleaf) in places {
        let find = |rows: &[Row]| {
            rows.iter().find(|row| (row.leaf, row.subleaf) == (leaf, subleaf)).map(|row| row.regs)
        };
        let [a, b] = [find(left), find(right)];
        for (at, reg) in REGS.into_iter().enumerate() {
            let mask =
                !(feature_bits(Place::Cpuid { leaf, subleaf, reg }) as u32 | per_cpu(leaf, subleaf, reg));
            let word = |regs: Option<[u32; 4]>| regs.map_or(0, |regs| regs[at]) & mask;
            if word(a) != word(b) {
                let text =
                    |regs: Option<[u32; 4]>| regs.map_or("none".into(), |regs| format!("{:#010x}", regs[at]));
                let what = What::Register { leaf, subleaf, reg };
                out.push(Difference { what, left: text(a), right: text(b) });
            }
        }
    }
}

fn msrs(left: &[(u32, u64)], right: &[(u32, u64)], out: &mut Vec<Difference>) {
    let mut all: Vec<u32> = left.iter().chain(right).map(|(index, _)| *index).collect();
    all.sort_unstable();
    all.dedup();
    for index in all {
        let find = |msrs: &[(u32, u64)]| msrs.iter().find(|(at, _)| *at == index).map(|(_, value)| *value);
        let [a, b] = [find(left), find(right)];
        let mask = !feature_bits(Place::Msr(index));
        if a.is_some() != b.is_some() || a.unwrap_or(0) & mask != b.unwrap_or(0) & mask {
            let text = |value: Option<u64>| value.map_or("none".into(), |value| format!("{value:#x}"));
            out.push(Difference { what: What::Msr(index), left: text(a), right: text(b) });
        }
    }
}

/// The bits of a place that are features: they are compared as such.
fn feature_bits(place: Place) -> u64 {
    place.rows().iter().fold(0, |bits, row| bits | 1 << row.bit)
}

/// The bits that differ between the CPUs of one host, or follow from what runs on them.
pub(crate) fn per_cpu(leaf: u32, subleaf: u32, reg: Reg) -> u32 {
    match (leaf, subleaf, reg) {
        // The CPU's row in the table of hardware feedback.
        (6, _, Reg::Edx) => 0xffff_0000,
        // APIC id.
        (1, _, Reg::Ebx) => 0xff00_0000,
        (0xb | 0x1f, _, Reg::Edx) => u32::MAX,
        // Size for the XCR0 of the moment.
        (0xd, 0 | 1, Reg::Ebx) => u32::MAX,
        _ => 0,
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Feature(feature) => write!(f, "{feature}"),
            Self::Value(name) => f.write_str(name),
            Self::Register { leaf, subleaf, reg } => write!(f, "{}", Place::Cpuid { leaf, subleaf, reg }),
            Self::Msr(index) => write!(f, "{}", Place::Msr(index)),
        }
    }
}

impl What {
    /// `feature`, `value`, `register` or `msr`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Feature(_) => "feature",
            Self::Value(_) => "value",
            Self::Register { .. } => "register",
            Self::Msr(_) => "msr",
        }
    }
}

/// `CPUID.7.0:EBX[5] AVX2: yes | no`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} | {}", self.what, self.left, self.right)
    }
}

impl Difference {
    /// The difference as members of a JSON object.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn json(&self, object: &mut json::Object<'_>) -> fmt::Result {
        object.field("kind", self.what.kind())?;
        object.field("what", json::Shown(self.what))?;
        if let What::Feature(feature) = self.what {
            object.field("name", feature.name())?;
        }
        object.field("left", self.left.as_str())?;
        object.field("right", self.right.as_str())
    }
}
