//! Making a guest's policy of a level, or of a pool's.

use alloc::string::String;
use core::ops::RangeInclusive;

use crate::baseline::Baseline;
use crate::fits::Misfit;
use crate::host::HostPolicy;
use crate::leaves;
use crate::level::Level;
use crate::msr::MsrValues;
use crate::policy::{GuestPolicy, Shape};
use crate::table::CpuidTable;
use vm_types::{MAX_VCPUS, TopologyError};

/// TSC and timer rates within these limits can be told to a guest, in Hz.
const TSC_HZ: RangeInclusive<u64> = 1_000_000..=20_000_000_000;
const APIC_HZ: RangeInclusive<u32> = 1_000_000..=1_000_000_000;

/// Why no policy was rendered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RenderError {
    /// A number of vCPUs that cannot be described.
    #[error("{0} vCPUs: 1 to {MAX_VCPUS} are possible")]
    Vcpus(u32),
    /// vCPUs that no APIC ids can be given.
    #[error("{0}")]
    Topology(TopologyError),
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
        let table = CpuidTable::new(leaves::rows(level, features, &shape));
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
        // Looked up once: it takes a comparison with each level that there is.
        let (named, features) = (baseline.level(), baseline.guest_features());
        let exact = baseline.is(named).then_some(named);
        let (phys_bits, max_leaf) = (baseline.phys_bits_of(named), baseline.max_leaf_of(named));
        let rows = |max_leaf| leaves::rows(&Level { max_leaf, phys_bits, ..*named }, features, &shape);
        let basic = rows(max_leaf).iter().map(|row| row.leaf).filter(|leaf| leaf >> 30 == 0).max();
        let table = CpuidTable::new(rows(max_leaf.max(basic.unwrap_or(0))));
        let table = table.unwrap_or_else(|error| unreachable!("pool level: {error}"));
        let values = MsrValues::new(features, shape.tsc_hz);
        let version = exact.map_or(1, |level| level.version);
        let policy = Self::assemble(baseline.name_as(exact), version, shape, table, features, values);
        match policy.starts_on(host) {
            Ok(()) => Ok(policy),
            Err(misfit) => Err(RenderError::RefusedBaseline { name: policy.level, misfit }),
        }
    }

    /// Whether the guest can address all of its memory, which ends before `end`.
    ///
    /// # Errors
    /// Both limits.
    pub fn check_memory(&self, end: u64) -> Result<(), RenderError> {
        let bits = self.phys_bits;
        if end > 1 << bits { Err(RenderError::Memory { end, bits }) } else { Ok(()) }
    }
}

/// Checks the numbers of a shape.
pub(crate) fn check_shape(shape: &Shape) -> Result<(), RenderError> {
    check_vcpus(shape.vcpus())?;
    shape.topology.check(shape.vcpus()).map_err(RenderError::Topology)?;
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

/// Checks a number of vCPUs.
pub(crate) fn check_vcpus(vcpus: u32) -> Result<(), RenderError> {
    if (1..=MAX_VCPUS).contains(&vcpus) { Ok(()) } else { Err(RenderError::Vcpus(vcpus)) }
}
