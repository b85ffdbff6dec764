//! What an opcode needs: look-ups in the tables of `data.rs`, which are made of what iced-x86 knows.

use cpu_policy::Feature;

use crate::data;
use crate::findings::Without;

/// The escape that an opcode is behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Space {
    Legacy,
    Vex,
    Evex,
}

/// What an instruction needs: a row of the table of classes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class(pub(crate) u8);

impl Class {
    /// Nothing that a CPU with VMX could lack.
    pub const BASE: Self = Self(0);
    const INVALID: Self = Self(1);
    pub(crate) const RTM: Self = Self(data::RTM);
    pub(crate) const SSE3: Self = Self(data::SSE3);

    /// All of these, and nothing else.
    #[must_use]
    pub fn features(self) -> &'static [Feature] {
        data::CLASSES.get(usize::from(self.0)).map_or(&[], |class| class.0)
    }

    /// What becomes of the instruction on a CPU that lacks them.
    #[must_use]
    pub fn without(self) -> Without {
        data::CLASSES.get(usize::from(self.0)).map_or(Without::Undefined, |class| class.1)
    }
}

/// The class of an opcode; `None` for what no Intel CPU has. `pp` is 0 to 3 as in VEX, `length` the vector length.
pub(crate) fn class(
    space: Space,
    map: u8,
    pp: u8,
    opcode: u8,
    wide: bool,
    length: u8,
    modrm: u8,
) -> Option<Class> {
    let maps: &[u8] = match space {
        Space::Legacy | Space::Vex => &[1, 2, 3],
        Space::Evex => &[1, 2, 3, 5, 6],
    };
    let first = match space {
        Space::Legacy => 0,
        Space::Vex => 12,
        Space::Evex => 24,
    };
    let at = maps.iter().position(|m| *m == map)?;
    let row = data::BLOCKS.get(first + at * 4 + usize::from(pp & 3))?.row(opcode)?;
    let widths = data::WIDTHS.get(usize::from(*data::ROWS.get(row)?))?;
    let forms = usize::from(*widths.get(usize::from(length) + if wide { 3 } else { 0 })?);
    let runs =
        data::RUNS.get(usize::from(*data::FORMS.get(forms)?)..usize::from(*data::FORMS.get(forms + 1)?))?;
    let form = if modrm < 0xc0 { modrm >> 3 & 7 } else { 8 + (modrm & 0x3f) };
    let class = Class(runs.iter().find(|run| form < run.0)?.1);
    (class != Class::INVALID).then_some(class)
}
