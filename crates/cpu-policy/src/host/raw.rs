//! What a CPU says of itself, as data: every CPUID sub-leaf and the MSRs that carry features.

use alloc::string::String;
use alloc::vec::Vec;

use x86::msr::{
    FEATURE_CONTROL, MISC_ENABLE, TSX_CTRL, VMX_BASIC, VMX_EPT_VPID_CAP as VMX_EPT_VPID,
    VMX_EXIT_CTLS as VMX_EXIT, VMX_PROCBASED_CTLS as VMX_PROCBASED, VMX_PROCBASED_CTLS2 as VMX_PROCBASED2,
    VMX_PROCBASED_CTLS3 as VMX_PROCBASED3, VMX_VMFUNC,
};

use crate::feature::{ARCH_CAPABILITIES, CORE_CAPABILITIES, FEATURES, FeatureSet, PLATFORM_INFO, Place};
use crate::table::Row;

/// Most rows that a [`RawCpu`] may have.
pub const MAX_RAW_ROWS: usize = 256;
/// Most MSRs that a [`RawCpu`] may have.
pub const MAX_RAW_MSRS: usize = 64;

/// Highest leaf of each range that is read: far above any CPU's.
const MAX_BASIC: u32 = 0x3f;
const MAX_HYPERVISOR: u32 = 0x4000_0010;
const MAX_EXTENDED: u32 = 0x8000_001f;

const BIOS_SIGN_ID: u32 = 0x8b;
const VMX_VMCS_ENUM: u32 = 0x48a;
const VMX_TRUE_PINBASED: u32 = 0x48d;
const VMX_TRUE_ENTRY: u32 = 0x490;
const VMX_EXIT2: u32 = 0x493;

/// Everything a CPU enumerates: CPUID rows by leaf and sub-leaf, MSRs by index.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RawCpu {
    rows: Vec<Row>,
    msrs: Vec<(u32, u64)>,
}

/// Why rows and MSRs are no CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RawError {
    /// More than [`MAX_RAW_ROWS`].
    #[error("{0} CPUID rows, at most {MAX_RAW_ROWS} are possible")]
    TooManyRows(usize),
    /// More than [`MAX_RAW_MSRS`].
    #[error("{0} MSRs, at most {MAX_RAW_MSRS} are possible")]
    TooManyMsrs(usize),
    /// A leaf outside the three ranges, or above the highest of its own.
    #[error("CPUID leaf {0:#x} is out of range")]
    Leaf(u32),
    /// A row that is there twice.
    #[error("CPUID {0:#x}.{1} is there twice")]
    DoubleRow(u32, u32),
    /// An MSR that is there twice.
    #[error("MSR {0:#x} is there twice")]
    DoubleMsr(u32),
    /// No leaf 0 or no leaf 1.
    #[error("CPUID leaf {0:#x} is missing")]
    Missing(u32),
}

impl RawCpu {
    /// Makes a CPU of rows and MSRs in any order.
    ///
    /// # Errors
    /// Which row or MSR is at fault.
    pub fn new(mut rows: Vec<Row>, mut msrs: Vec<(u32, u64)>) -> Result<Self, RawError> {
        if rows.len() > MAX_RAW_ROWS {
            return Err(RawError::TooManyRows(rows.len()));
        }
        if msrs.len() > MAX_RAW_MSRS {
            return Err(RawError::TooManyMsrs(msrs.len()));
        }
        rows.sort_unstable_by_key(|row| (row.leaf, row.subleaf));
        msrs.sort_unstable_by_key(|(index, _)| *index);
        for (row, next) in rows.iter().zip(rows.iter().skip(1)) {
            if (row.leaf, row.subleaf) == (next.leaf, next.subleaf) {
                return Err(RawError::DoubleRow(row.leaf, row.subleaf));
            }
        }
        if let Some(((index, _), _)) = msrs.iter().zip(msrs.iter().skip(1)).find(|((a, _), (b, _))| a == b) {
            return Err(RawError::DoubleMsr(*index));
        }
        let cpu = Self { rows, msrs };
        for leaf in [0, 1] {
            if !cpu.has(leaf, 0) {
                return Err(RawError::Missing(leaf));
            }
        }
        match cpu.rows.iter().find(|row| row.leaf > cpu.max_of_range(row.leaf)) {
            Some(row) => Err(RawError::Leaf(row.leaf)),
            None => Ok(cpu),
        }
    }

    /// Reads a CPU: `cpuid(EAX, ECX)` in 64-bit mode, `msr(index)` with None where there is none.
    #[must_use]
    pub fn read(cpuid: impl Fn(u32, u32) -> [u32; 4], msr: impl Fn(u32) -> Option<u64>) -> Self {
        let mut cpu = Self::default();
        let max = cpuid(0, 0)[0].min(MAX_BASIC);
        cpu.range(&cpuid, 0..=max.max(1));
        let [_, _, ecx, _] = cpu.cpuid(1, 0);
        if ecx >> 31 != 0 {
            let max = cpuid(0x4000_0000, 0)[0].min(MAX_HYPERVISOR);
            cpu.range(&cpuid, 0x4000_0000..=max.max(0x4000_0000));
        }
        let max = cpuid(0x8000_0000, 0)[0].min(MAX_EXTENDED);
        cpu.range(&cpuid, 0x8000_0000..=max.max(0x8000_0000));
        for index in msr_indices() {
            if cpu.enumerates(index)
                && let Some(value) = msr(index)
            {
                cpu.msrs.push((index, value));
            }
        }
        cpu
    }

    fn range(&mut self, cpuid: &impl Fn(u32, u32) -> [u32; 4], leaves: core::ops::RangeInclusive<u32>) {
        for leaf in leaves {
            let mut subleaf = Some(0);
            let mut first = [0; 4];
            while let Some(at) = subleaf.filter(|_| self.rows.len() < MAX_RAW_ROWS) {
                let regs = cpuid(leaf, at);
                if at == 0 {
                    first = regs;
                }
                self.rows.push(Row { leaf, subleaf: at, regs });
                subleaf = next_subleaf(leaf, at, &first, &regs, || cpuid(leaf, 1));
            }
        }
    }

    /// True where the CPU says that it has this MSR, or says nothing of it: an emulator may answer any index.
    fn enumerates(&self, index: u32) -> bool {
        let [_, _, leaf1, _] = self.cpuid(1, 0);
        let [_, _, _, leaf7] = self.cpuid(7, 0);
        let vmx = leaf1 & 1 << 5 != 0;
        let may = |msr: u32, bit: u32| self.msr(msr).is_some_and(|value| value >> 32 >> bit & 1 != 0);
        match index {
            FEATURE_CONTROL => vmx,
            CORE_CAPABILITIES => leaf7 & 1 << 30 != 0,
            ARCH_CAPABILITIES => leaf7 & 1 << 29 != 0,
            TSX_CTRL => self.msr(ARCH_CAPABILITIES).is_some_and(|value| value & 1 << 7 != 0),
            VMX_BASIC..=VMX_VMCS_ENUM => vmx,
            VMX_PROCBASED2 => may(VMX_PROCBASED, 31),
            VMX_EPT_VPID => may(VMX_PROCBASED2, 1) || may(VMX_PROCBASED2, 5),
            VMX_TRUE_PINBASED..=VMX_TRUE_ENTRY => {
                self.msr(VMX_BASIC).is_some_and(|value| value & 1 << 55 != 0)
            }
            VMX_VMFUNC => may(VMX_PROCBASED2, 13),
            VMX_PROCBASED3 => may(VMX_PROCBASED, 17),
            VMX_EXIT2 => may(VMX_EXIT, 31),
            _ => true,
        }
    }

    /// The rows, by leaf and sub-leaf.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The MSRs, by index.
    #[must_use]
    pub fn msrs(&self) -> &[(u32, u64)] {
        &self.msrs
    }

    /// True where there is such a row.
    #[must_use]
    pub fn has(&self, leaf: u32, subleaf: u32) -> bool {
        self.find(leaf, subleaf).is_some()
    }

    /// EAX, EBX, ECX, EDX of a sub-leaf; zeros where there is none.
    #[must_use]
    pub fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        self.find(leaf, subleaf).map_or([0; 4], |row| row.regs)
    }

    fn find(&self, leaf: u32, subleaf: u32) -> Option<&Row> {
        let at = self.rows.binary_search_by_key(&(leaf, subleaf), |row| (row.leaf, row.subleaf)).ok()?;
        self.rows.get(at)
    }

    /// An MSR; None where the CPU has none or it was not read.
    #[must_use]
    pub fn msr(&self, index: u32) -> Option<u64> {
        self.msrs.iter().find(|(at, _)| *at == index).map(|(_, value)| *value)
    }

    /// True where the firmware hides the leaves above 3 (IA32_MISC_ENABLE\[22\]): every CPU with 64-bit mode has more.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        const LM: u32 = 1 << 29;
        self.max_leaf() < 4 && (!self.has_extended() || self.cpuid(0x8000_0001, 0)[3] & LM != 0)
    }

    /// False where the extended leaves are not there at all: every CPU with 64-bit mode has some.
    pub(crate) fn has_extended(&self) -> bool {
        self.has(0x8000_0000, 0)
    }

    /// True where the CPU has something in this place that was not read: an MSR that CPUID announces, a leaf that the
    /// firmware hides, or the extended leaves.
    pub(crate) fn is_unread(&self, place: Place) -> bool {
        match place {
            Place::Msr(index @ (ARCH_CAPABILITIES | CORE_CAPABILITIES)) => {
                self.enumerates(index) && self.msr(index).is_none()
            }
            Place::Msr(_) => false,
            Place::Cpuid { leaf, .. } if leaf >> 31 != 0 => !self.has_extended(),
            Place::Cpuid { leaf, .. } => leaf > self.max_leaf() && self.is_limited(),
        }
    }

    /// True for a model whose MSR CE is MSR_PLATFORM_INFO: it came with Nehalem, and on Core 2 that number is another
    /// register (SDM 4, tables 2-3 and 2-13).
    fn has_platform_info(&self) -> bool {
        const BEFORE: &[u32] = &[0x0e, 0x0f, 0x16, 0x17, 0x1d, 0x1c, 0x26, 0x27, 0x35, 0x36];
        let (family, model) =
            (self.signature() >> 8 & 0xf, self.signature() >> 12 & 0xf0 | self.signature() >> 4 & 0xf);
        family == 6 && !BEFORE.contains(&model)
    }

    /// The bits of a place that features are enumerated in.
    #[must_use]
    pub fn bits(&self, place: Place) -> u64 {
        match place {
            Place::Msr(PLATFORM_INFO) if !self.has_platform_info() => 0,
            Place::Cpuid { leaf, subleaf, reg } => u64::from(self.cpuid(leaf, subleaf)[reg as usize]),
            Place::Msr(index) => self.msr(index).unwrap_or(0),
        }
    }

    /// The features enumerated.
    #[must_use]
    pub fn features(&self) -> FeatureSet {
        FeatureSet::matching(|feature| {
            let row = feature.info();
            self.bits(row.place) & 1 << row.bit != 0
        })
    }

    /// Vendor string.
    #[must_use]
    pub fn vendor(&self) -> [u8; 12] {
        let [_, ebx, ecx, edx] = self.cpuid(0, 0);
        let mut vendor = [0; 12];
        for (to, from) in vendor.chunks_exact_mut(4).zip([ebx, edx, ecx]) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        vendor
    }

    /// CPUID.1:EAX.
    #[must_use]
    pub fn signature(&self) -> u32 {
        self.cpuid(1, 0)[0]
    }

    /// Highest basic leaf.
    #[must_use]
    pub fn max_leaf(&self) -> u32 {
        self.cpuid(0, 0)[0]
    }

    fn max_of_range(&self, leaf: u32) -> u32 {
        match leaf >> 30 {
            0 => self.max_leaf().max(1),
            1 => self.cpuid(0x4000_0000, 0)[0].clamp(0x4000_0000, 0x4000_ffff),
            2 => self.cpuid(0x8000_0000, 0)[0].clamp(0x8000_0000, 0x8000_ffff),
            _ => 0,
        }
    }

    /// Physical and linear address width in bits; 36 and 48 where the CPU does not say.
    #[must_use]
    pub fn widths(&self) -> (u8, u8) {
        let [eax, ..] = if self.has(0x8000_0008, 0) { self.cpuid(0x8000_0008, 0) } else { [0x3024, 0, 0, 0] };
        ((eax & 0xff) as u8, (eax >> 8 & 0xff) as u8)
    }

    /// The brand string, without what is no printable ASCII.
    #[must_use]
    pub fn brand(&self) -> String {
        let words = (0x8000_0002..=0x8000_0004).flat_map(|leaf| self.cpuid(leaf, 0));
        let bytes = words.flat_map(u32::to_le_bytes).take_while(|byte| *byte != 0);
        let text: String = bytes.filter(|b| *b == b' ' || b.is_ascii_graphic()).map(char::from).collect();
        text.trim().into()
    }

    /// Frequency of the crystal in Hz, where leaf 15 gives it.
    #[must_use]
    pub fn crystal_hz(&self) -> Option<u32> {
        Some(self.cpuid(0x15, 0)[2]).filter(|hz| *hz != 0)
    }
}

/// The MSRs that are read, each after those that say whether it exists.
fn msr_indices() -> impl Iterator<Item = u32> {
    let known = [
        FEATURE_CONTROL,
        BIOS_SIGN_ID,
        PLATFORM_INFO,
        CORE_CAPABILITIES,
        ARCH_CAPABILITIES,
        TSX_CTRL,
        MISC_ENABLE,
    ];
    let known = known.into_iter().chain(VMX_BASIC..=VMX_EXIT2);
    let mut all: Vec<u32> = known.collect();
    for row in FEATURES {
        if let Place::Msr(index) = row.place
            && !all.contains(&index)
        {
            all.push(index);
        }
    }
    all.sort_unstable();
    all.into_iter()
}

/// The sub-leaf to read after `at`, by what the leaf answered so far (SDM 2A "CPUID").
pub(crate) fn next_subleaf(
    leaf: u32,
    at: u32,
    first: &[u32; 4],
    regs: &[u32; 4],
    second: impl Fn() -> [u32; 4],
) -> Option<u32> {
    let next = at + 1;
    let up_to = |max: u32, limit: u32| (at < max.min(limit)).then_some(next);
    let marked = |mask: u64| (next..64).find(|bit| mask >> bit & 1 != 0);
    match leaf {
        // The list ends with a cache of type 0.
        4 => (regs[0] & 0x1f != 0 && next < 16).then_some(next),
        7 => up_to(first[0], 15),
        0xb | 0x1f => (regs[2] >> 8 & 0xff != 0 && next < 8).then_some(next),
        0xd if first[0] == 0 && at == 0 => None,
        0xd if at == 0 => Some(1),
        0xd => {
            let [_, _, low, high] = second();
            marked(u64::from(first[0] | low) | u64::from(first[3] | high) << 32)
        }
        0xf | 0x27 => marked(u64::from(first[3] & 0b10)),
        0x10 | 0x28 => marked(u64::from(first[1] & 0xfe)),
        0x12 if first[0] == 0 => None,
        // The list of EPC sections ends with one of type 0.
        0x12 => (at < 2 || regs[0] & 0xf != 0 && next < 16).then_some(next),
        0x14 | 0x17 | 0x1d | 0x1e | 0x20 | 0x24 | 0x29 => up_to(first[0], 15),
        0x18 => up_to(first[0], 31),
        0x1b => (regs[0] & 0xfff != 0 && next < 16).then_some(next),
        0x23 => marked(u64::from(first[0] & 0xfffe)),
        _ => None,
    }
}
