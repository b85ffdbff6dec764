//! What one guest is told and allowed; rendered once, it travels with the guest.

use alloc::string::String;
use vm_types::Topology;

use crate::control::{CR4_BITS, EFER_BITS, allowed};
use crate::feature::{Feature, FeatureSet, Reg};
use crate::msr::{MsrPolicy, MsrRead, MsrValues, MsrWrite};
use crate::table::{CpuidTable, Dynamic};
use crate::xsave::{xcr0_legal, xcr0_of};

/// What of a VM its policy depends on besides the level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Its vCPUs.
    pub topology: Topology,
    /// Rate of the guest's TSC in Hz.
    pub tsc_hz: u64,
    /// Input clock of the APIC timer in Hz; leaf 15 calls it the crystal.
    pub apic_hz: u32,
    /// Physical address width in bits that was asked for; without it the least of level, pool and host.
    pub phys_bits: Option<u8>,
}

impl Shape {
    /// Number of vCPUs.
    #[must_use]
    pub const fn vcpus(&self) -> u32 {
        self.topology.vcpus()
    }
}

/// A machine whose number of vCPUs is not the one that its policy tells the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the machine has {machine} vCPUs, its CPU policy says {policy}")]
pub struct OtherVcpus {
    /// vCPUs of the machine.
    pub machine: u32,
    /// vCPUs that CPUID counts.
    pub policy: u32,
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

    /// Whether it is the policy of a machine with so many vCPUs. Both numbers come from outside, each with its own record.
    ///
    /// # Errors
    /// Both of them.
    pub fn check_vcpus(&self, machine: u32) -> Result<(), OtherVcpus> {
        let policy = self.shape.vcpus();
        if policy == machine { Ok(()) } else { Err(OtherVcpus { machine, policy }) }
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
