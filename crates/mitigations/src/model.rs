//! What is known of a CPU by its model number: Intel's table of processors affected by transient execution.

use crate::cpu::{Cpu, cap};
use crate::flaw::Flaw::{self, *};
use crate::flaw::FlawSet;
use crate::history::History;

/// A model of family 6 and what its silicon is free of, whatever its microcode says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Model {
    /// Model, with the extended model in front.
    pub model: u8,
    /// Steppings, both included.
    pub steppings: (u8, u8),
    /// The generation's name.
    pub name: &'static str,
    /// Flaws that it does not have.
    pub free_of: FlawSet,
    /// Indirect target selection of it does not reach from a guest to its host.
    pub its_native_only: bool,
    /// Where it has MMIO stale data: the bits of IA32_ARCH_CAPABILITIES that deny a part of it and are true.
    pub(crate) stale_data_no: u64,
    /// What clears its branch history.
    pub(crate) history: History,
}

const fn row(model: u8, name: &'static str, free_of: FlawSet) -> Model {
    Model {
        model,
        steppings: (0, 15),
        name,
        free_of,
        its_native_only: false,
        stale_data_no: 0,
        history: History::SHORT,
    }
}

/// Cores up to Broadwell: an empty return stack falls back on nothing, gathers leave nothing behind.
const OLD: FlawSet = FlawSet::of(&[Retbleed, Its, Gds, Rfds]);
/// Servers do not share RDRAND's buffer as client parts from Ivy Bridge to Ice Lake do; the register file is
/// Atom's.
const SERVER: FlawSet = FlawSet::of(&[Srbds, Rfds]);
/// Cascade Lake and the servers after it translate instructions through one entry at a time.
const SERVER_FROM_CASCADE_LAKE: FlawSet = SERVER.or(FlawSet::of(&[PageSizeChange]));
const SKYLAKE_SP: FlawSet = SERVER.or(FlawSet::of(&[Its]));
const CLIENT: FlawSet = FlawSet::of(&[Rfds]);
const SUNNY_COVE: FlawSet = FlawSet::of(&[Srbds, Rfds, Retbleed]);
const SUNNY_COVE_SERVER: FlawSet = SUNNY_COVE.or(SERVER_FROM_CASCADE_LAKE);
const GOLDEN_COVE: FlawSet = FlawSet::of(&[Srbds, Retbleed, Its, Gds, MmioStaleData]);
const GOLDEN_COVE_SERVER: FlawSet = GOLDEN_COVE.or(FlawSet::of(&[Rfds, PageSizeChange]));
const GOLDMONT: FlawSet = FlawSet::of(&[L1tf, Mds, Retbleed, Its, Gds, Srbds, PageSizeChange, MmioStaleData]);

const fn steppings(row: Model, first: u8, last: u8) -> Model {
    Model { steppings: (first, last), ..row }
}

const fn native_only(row: Model) -> Model {
    Model { its_native_only: true, ..row }
}

/// Servers whose fill buffers go stale by FBSDP alone.
const fn fill_buffer_only(row: Model) -> Model {
    Model { stale_data_no: cap::SBDR_SSDP_NO | cap::PSDP_NO, ..row }
}

const fn long(row: Model) -> Model {
    Model { history: History::LONG, ..row }
}

/// By model and stepping; the first row that fits.
static MODELS: &[Model] = &[
    row(0x0f, "Merom", OLD.or(SERVER)),
    row(0x17, "Penryn", OLD.or(SERVER)),
    row(0x1d, "Dunnington", OLD.or(SERVER)),
    row(0x1a, "Nehalem-EP", OLD.or(SERVER)),
    row(0x1e, "Lynnfield", OLD.or(SERVER)),
    row(0x1f, "Nehalem", OLD.or(SERVER)),
    row(0x2e, "Nehalem-EX", OLD.or(SERVER)),
    row(0x25, "Westmere", OLD.or(SERVER)),
    row(0x2c, "Westmere-EP", OLD.or(SERVER)),
    row(0x2f, "Westmere-EX", OLD.or(SERVER)),
    row(0x2a, "Sandy Bridge", OLD.or(SERVER)),
    row(0x2d, "Sandy Bridge-EP", OLD.or(SERVER)),
    row(0x3a, "Ivy Bridge", OLD),
    row(0x3e, "Ivy Bridge-EP", OLD.or(SERVER)),
    row(0x3c, "Haswell", OLD),
    row(0x45, "Haswell-ULT", OLD),
    row(0x46, "Haswell-G", OLD),
    row(0x3f, "Haswell-EP", OLD.or(SERVER)),
    row(0x3d, "Broadwell", OLD),
    row(0x47, "Broadwell-G", OLD),
    row(0x56, "Broadwell-DE", OLD.or(SERVER)),
    row(0x4f, "Broadwell-EP", OLD.or(SERVER)),
    row(0x4e, "Skylake-U", CLIENT.or(FlawSet::of(&[Its]))),
    row(0x5e, "Skylake", CLIENT.or(FlawSet::of(&[Its]))),
    steppings(row(0x55, "Skylake-SP", SKYLAKE_SP), 0, 5),
    fill_buffer_only(steppings(row(0x55, "Cascade Lake", SERVER_FROM_CASCADE_LAKE), 6, 9)),
    fill_buffer_only(steppings(row(0x55, "Cooper Lake", SERVER_FROM_CASCADE_LAKE), 10, 15)),
    steppings(row(0x8e, "Kaby Lake-U", CLIENT.or(FlawSet::of(&[Its]))), 0, 11),
    row(0x8e, "Whiskey Lake", CLIENT),
    steppings(row(0x9e, "Kaby Lake", CLIENT.or(FlawSet::of(&[Its]))), 0, 12),
    row(0x9e, "Coffee Lake", CLIENT),
    row(0xa5, "Comet Lake", CLIENT),
    row(0xa6, "Comet Lake-U", CLIENT),
    row(0x66, "Cannon Lake", CLIENT),
    native_only(row(0x7e, "Ice Lake-U", CLIENT)),
    native_only(row(0x7d, "Ice Lake", CLIENT)),
    fill_buffer_only(native_only(row(0x6a, "Ice Lake-SP", SUNNY_COVE_SERVER))),
    fill_buffer_only(native_only(row(0x6c, "Ice Lake-D", SUNNY_COVE_SERVER))),
    native_only(row(0x8c, "Tiger Lake-U", SUNNY_COVE.or(FlawSet::of(&[MmioStaleData])))),
    native_only(row(0x8d, "Tiger Lake", SUNNY_COVE.or(FlawSet::of(&[MmioStaleData])))),
    native_only(row(0xa7, "Rocket Lake", SERVER)),
    long(row(0x97, "Alder Lake", GOLDEN_COVE)),
    long(row(0x9a, "Alder Lake-P", GOLDEN_COVE)),
    long(row(0xb7, "Raptor Lake", GOLDEN_COVE)),
    long(row(0xba, "Raptor Lake-P", GOLDEN_COVE)),
    long(row(0xbf, "Raptor Lake-S", GOLDEN_COVE)),
    long(row(0x8f, "Sapphire Rapids", GOLDEN_COVE_SERVER)),
    long(row(0xcf, "Emerald Rapids", GOLDEN_COVE_SERVER)),
    long(row(0xad, "Granite Rapids", GOLDEN_COVE_SERVER)),
    long(row(0xae, "Granite Rapids-D", GOLDEN_COVE_SERVER)),
    row(0x5c, "Goldmont", GOLDMONT),
    row(0x5f, "Goldmont-D", GOLDMONT),
    row(0x7a, "Goldmont Plus", GOLDMONT.or(FlawSet::of(&[Pbrsb]))),
    row(0x86, "Tremont-D", FlawSet::of(&[Retbleed, Its, Gds, Srbds, PageSizeChange, Pbrsb])),
];

/// The row of a CPU; `None` for a model that is not known, which counts as having every flaw.
#[must_use]
pub fn model(cpu: &Cpu) -> Option<&'static Model> {
    let stepping = cpu.stepping();
    let fits = |row: &&Model| {
        u32::from(row.model) == cpu.model()
            && (u32::from(row.steppings.0)..=u32::from(row.steppings.1)).contains(&stepping)
    };
    if cpu.family() != 6 {
        return None;
    }
    MODELS.iter().find(fits)
}

impl Model {
    /// True where the silicon does not have the flaw.
    #[must_use]
    pub const fn is_free_of(&self, flaw: Flaw) -> bool {
        self.free_of.contains(flaw)
    }
}

/// What clears the branch history of a CPU.
#[must_use]
pub(crate) fn history(cpu: &Cpu) -> History {
    model(cpu).map_or(History::LONG, |row| row.history)
}
