//! What one guest is told and allowed; rendered once, it travels with the guest.

use alloc::string::String;

use crate::baseline::Baseline;
use crate::control::{CR4_BITS, EFER_BITS, allowed};
use crate::feature::{Feature, FeatureSet, Reg};
use crate::fits::Misfit;
use crate::host::HostPolicy;
use crate::level::Level;
use crate::msr::{MsrPolicy, MsrRead, MsrValues, MsrWrite};
use crate::render;
use crate::table::{CpuidTable, Dynamic};
use crate::xsave::{xcr0_legal, xcr0_of};

/// Most vCPUs that the cache and APIC-id fields can describe.
pub const MAX_VCPUS: u32 = 64;
/// TSC and timer rates within these limits can be told to a guest, in Hz.
pub(crate) const TSC_HZ: core::ops::RangeInclusive<u64> = 1_000_000..=20_000_000_000;
pub(crate) const APIC_HZ: core::ops::RangeInclusive<u32> = 1_000_000..=1_000_000_000;

/// What of a VM its policy depends on besides the level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Rate of the guest's TSC in Hz.
    pub tsc_hz: u64,
    /// Input clock of the APIC timer in Hz; leaf 15 calls it the crystal.
    pub apic_hz: u32,
    /// Physical address width in bits that was asked for; without it the least of level, pool and host.
    pub phys_bits: Option<u8>,
}

/// Why no policy was rendered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RenderError {
    /// A number of vCPUs that cannot be described.
    #[error("{0} vCPUs: 1 to {MAX_VCPUS} are possible")]
    Vcpus(u32),
    /// A TSC rate outside all sense.
    #[error("TSC rate {} is out of range", vm_types::Megahertz(*.0))]
    TscHz(u64),
    /// A timer rate outside all sense.
    #[error("APIC timer rate {} is out of range", vm_types::Megahertz((*.0).into()))]
    ApicHz(u32),
    /// A physical address width outside the architecture's.
    #[error("physical address width {0}: 32 to 52 are possible")]
    PhysBits(u8),
    /// Memory that the guest could not address.
    #[error("memory up to {end:#x}: a VM with {bits} physical address bits reaches {:#x}", 1_u64 << bits)]
    Memory {
        /// First byte after it.
        end: u64,
        /// Physical address width.
        bits: u8,
    },
    /// The host cannot give the level of the pool.
    #[error("level {name}: {misfit}")]
    RefusedBaseline {
        /// What the level is called.
        name: String,
        /// What stands in the way.
        misfit: Misfit,
    },
    /// The host cannot give the level.
    #[error("level {}: {misfit}", level.name)]
    Refused {
        /// The level asked for.
        level: &'static Level,
        /// What stands in the way.
        misfit: Misfit,
    },
}

/// Everything that a guest is told by CPUID and MSRs, and what it may set in XCR0, CR4 and EFER.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuestPolicy {
    pub(crate) level: String,
    pub(crate) level_version: u16,
    pub(crate) shape: Shape,
    pub(crate) features: FeatureSet,
    pub(crate) table: CpuidTable,
    pub(crate) xcr0: u64,
    pub(crate) cr4: u64,
    pub(crate) efer: u64,
    pub(crate) phys_bits: u8,
    pub(crate) linear_bits: u8,
    pub(crate) msrs: MsrPolicy,
}

impl GuestPolicy {
    /// Renders `level` for a VM of this shape, where `host` can give it.
    ///
    /// # Errors
    /// What in the shape is wrong, or all that the host lacks.
    pub fn render(level: &'static Level, shape: Shape, host: &HostPolicy) -> Result<Self, RenderError> {
        check_shape(&shape)?;
        let features = level.features();
        let width = shape.phys_bits.unwrap_or_else(|| Baseline::of(host).phys_bits_of(level));
        let shape = Shape { phys_bits: Some(width), ..shape };
        let table = CpuidTable::new(render::rows(level, features, &shape));
        let table = table.unwrap_or_else(|error| unreachable!("level {}: {error}", level.name));
        let values = MsrValues::new(features, shape.tsc_hz);
        let policy = Self::assemble(level.name.into(), level.version, shape, table, features, values);
        policy.fits(host).map_err(|misfit| RenderError::Refused { level, misfit })?;
        Ok(policy)
    }

    /// Renders the level of a pool for a VM of this shape, where `host` can give it: signature, brand and caches
    /// are those of [`Baseline::level`].
    ///
    /// # Errors
    /// What in the shape is wrong, or all that the host lacks.
    pub fn render_baseline(
        baseline: &Baseline,
        shape: Shape,
        host: &HostPolicy,
    ) -> Result<Self, RenderError> {
        check_shape(&shape)?;
        let (named, features) = (baseline.level(), baseline.guest_features());
        let rows = |max_leaf| {
            let lent = Level { max_leaf, phys_bits: baseline.phys_bits(), ..*named };
            render::rows(&lent, features, &shape)
        };
        let basic = rows(baseline.max_leaf()).iter().map(|row| row.leaf).filter(|leaf| leaf >> 30 == 0).max();
        let table = CpuidTable::new(rows(baseline.max_leaf().max(basic.unwrap_or(0))));
        let table = table.unwrap_or_else(|error| unreachable!("pool level: {error}"));
        let values = MsrValues::new(features, shape.tsc_hz);
        let version = baseline.as_level().map_or(1, |level| level.version);
        let policy = Self::assemble(baseline.name(), version, shape, table, features, values);
        let refused = |misfit| RenderError::RefusedBaseline { name: baseline.name(), misfit };
        policy.starts_on(host).map_err(refused)?;
        Ok(policy)
    }

    /// Derives what follows from table and features.
    pub(crate) fn assemble(
        level: String,
        level_version: u16,
        shape: Shape,
        table: CpuidTable,
        features: FeatureSet,
        values: MsrValues,
    ) -> Self {
        let widths = table.reg(0x8000_0008, 0, Reg::Eax);
        let (phys_bits, linear_bits) = ((widths & 0xff) as u8, (widths >> 8 & 0xff) as u8);
        let efer = allowed(EFER_BITS, features);
        Self {
            level,
            level_version,
            shape: Shape { phys_bits: Some(phys_bits), ..shape },
            features,
            xcr0: xcr0_of(features),
            cr4: allowed(CR4_BITS, features),
            efer,
            msrs: MsrPolicy::new(features, values, phys_bits, linear_bits, efer),
            phys_bits,
            linear_bits,
            table,
        }
    }

    /// The answer to CPUID with EAX = `leaf` and ECX = `subleaf`; `state` is asked only where it depends on it.
    #[must_use]
    #[inline(always)]
    pub fn cpuid(&self, leaf: u32, subleaf: u32, state: impl FnOnce() -> Dynamic) -> [u32; 4] {
        self.table.answer(leaf, subleaf, state)
    }

    /// What RDMSR does.
    #[must_use]
    #[inline(always)]
    pub fn read_msr(&self, index: u32) -> MsrRead {
        self.msrs.read(index)
    }

    /// What WRMSR does.
    #[must_use]
    #[inline(always)]
    pub fn write_msr(&self, index: u32, value: u64) -> MsrWrite {
        self.msrs.write(index, value)
    }

    /// The CPUID table.
    #[must_use]
    pub fn table(&self) -> &CpuidTable {
        &self.table
    }

    /// The MSRs.
    #[must_use]
    pub fn msrs(&self) -> &MsrPolicy {
        &self.msrs
    }

    /// Name of the level it was rendered from.
    #[must_use]
    pub fn level_name(&self) -> &str {
        &self.level
    }

    /// Version of that level.
    #[must_use]
    pub fn level_version(&self) -> u16 {
        self.level_version
    }

    /// What it was rendered for; the physical address width is always given.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Rate of the guest's TSC in Hz.
    #[must_use]
    pub fn tsc_hz(&self) -> u64 {
        self.shape.tsc_hz
    }

    /// What the guest was told, gains and losses.
    #[must_use]
    pub fn features(&self) -> FeatureSet {
        self.features
    }

    /// True where the guest was told of this feature.
    #[must_use]
    #[inline]
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(feature)
    }

    /// XCR0 bits that the guest may set; 0 without XSAVE.
    #[must_use]
    #[inline]
    pub fn xcr0_allowed(&self) -> u64 {
        self.xcr0
    }

    /// CR4 bits that the guest may set.
    #[must_use]
    #[inline]
    pub fn cr4_allowed(&self) -> u64 {
        self.cr4
    }

    /// IA32_EFER bits that the guest may set, LMA included.
    #[must_use]
    #[inline]
    pub fn efer_allowed(&self) -> u64 {
        self.efer
    }

    /// True where XSETBV may load this into XCR0.
    #[must_use]
    pub fn xcr0_valid(&self, value: u64) -> bool {
        value & !self.xcr0 == 0 && xcr0_legal(value)
    }

    /// Bytes of a standard-format XSAVE area with these components.
    #[must_use]
    pub fn xsave_size(&self, xcr0: u64) -> u32 {
        crate::xsave::standard_size(xcr0 & self.xcr0)
    }

    /// Physical address width in bits.
    #[must_use]
    pub fn phys_bits(&self) -> u8 {
        self.phys_bits
    }

    /// Whether the guest can address all of its memory, which ends before `end`.
    ///
    /// # Errors
    /// Both limits.
    pub fn check_memory(&self, end: u64) -> Result<(), RenderError> {
        let bits = self.phys_bits;
        if end > 1 << bits { Err(RenderError::Memory { end, bits }) } else { Ok(()) }
    }

    /// Linear address width in bits.
    #[must_use]
    pub fn linear_bits(&self) -> u8 {
        self.linear_bits
    }

    /// RDTSCP and IA32_TSC_AUX.
    #[must_use]
    pub fn has_rdtscp(&self) -> bool {
        self.has(Feature::Rdtscp)
    }

    /// INVPCID.
    #[must_use]
    pub fn has_invpcid(&self) -> bool {
        self.has(Feature::Invpcid)
    }

    /// XSAVES, XRSTORS and IA32_XSS.
    #[must_use]
    pub fn has_xsaves(&self) -> bool {
        self.has(Feature::Xsaves)
    }

    /// RDRAND.
    #[must_use]
    pub fn has_rdrand(&self) -> bool {
        self.has(Feature::Rdrand)
    }

    /// RDSEED.
    #[must_use]
    pub fn has_rdseed(&self) -> bool {
        self.has(Feature::Rdseed)
    }
}

/// Checks the numbers of a shape.
pub(crate) fn check_shape(shape: &Shape) -> Result<(), RenderError> {
    if !(1..=MAX_VCPUS).contains(&shape.vcpus) {
        return Err(RenderError::Vcpus(shape.vcpus));
    }
    if !TSC_HZ.contains(&shape.tsc_hz) {
        return Err(RenderError::TscHz(shape.tsc_hz));
    }
    if !APIC_HZ.contains(&shape.apic_hz) {
        return Err(RenderError::ApicHz(shape.apic_hz));
    }
    match shape.phys_bits {
        Some(bits) if !(32..=52).contains(&bits) => Err(RenderError::PhysBits(bits)),
        _ => Ok(()),
    }
}
