//! What a host has, and what of it a guest can be given.

mod controls;
mod raw;
mod sets;
mod silicon;
mod wire;

use crate::feature::{FeatureSet, Polarity};

pub use controls::Controls;
pub(crate) use raw::next_subleaf;
pub use raw::{MAX_RAW_MSRS, MAX_RAW_ROWS, RawCpu, RawError};
pub(crate) use sets::with_wider;
pub use wire::{HostError, MAX_HOST_ENCODED};

/// What EBX, EDX, ECX of leaf 0 spell.
pub(crate) const VENDOR: &[u8; 12] = b"GenuineIntel";

/// What a host has and can give.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPolicy {
    /// What the CPU enumerates (raw).
    pub raw: FeatureSet,
    /// What a guest can be given, and the losses that it must be told of (host).
    pub features: FeatureSet,
    pub(crate) max: FeatureSet,
    pub(crate) default: FeatureSet,
    /// Vendor string.
    pub vendor: [u8; 12],
    /// CPUID.1:EAX.
    pub signature: u32,
    /// Highest basic leaf.
    pub max_leaf: u32,
    /// Physical address width in bits.
    pub phys_bits: u8,
    /// Linear address width in bits.
    pub linear_bits: u8,
    /// XCR0 bits that a guest can be given; 0 without XSAVE.
    pub xcr0: u64,
    /// IA32_XSS bits that a guest can be given.
    pub xss: u64,
    /// Rate of the TSC in Hz as the host measured it; None where nobody did.
    pub tsc_hz: Option<u64>,
    pub(crate) controls: Option<Controls>,
    pub(crate) cpu: RawCpu,
}

impl HostPolicy {
    /// Reads a host: `cpuid(EAX, ECX)` in 64-bit mode, `msr(index)` with None where there is none.
    #[must_use]
    pub fn from_reader(cpuid: impl Fn(u32, u32) -> [u32; 4], msr: impl Fn(u32) -> Option<u64>) -> Self {
        Self::from_raw(&RawCpu::read(cpuid, msr))
    }

    /// The policies that follow from a CPU.
    #[must_use]
    pub fn from_raw(cpu: &RawCpu) -> Self {
        let raw = cpu.features();
        let xcr0 = sets::host_xcr0(cpu, raw);
        let controls = Controls::of(cpu);
        let features = sets::host(raw, xcr0, controls);
        let (phys_bits, linear_bits) = cpu.widths();
        Self {
            raw,
            features,
            max: with_wider(features),
            default: sets::default(features),
            vendor: cpu.vendor(),
            signature: cpu.signature(),
            max_leaf: cpu.max_leaf(),
            phys_bits,
            linear_bits,
            xcr0,
            xss: 0,
            tsc_hz: None,
            controls,
            cpu: cpu.clone(),
        }
    }

    /// The same host, whose TSC was measured to run at `hz`.
    #[must_use]
    pub fn with_tsc_hz(self, hz: u64) -> Self {
        Self { tsc_hz: Some(hz), ..self }
    }

    /// The CPU as it enumerates itself.
    #[must_use]
    pub fn cpu(&self) -> &RawCpu {
        &self.cpu
    }

    /// What a guest may arrive with: wider than what a new one is given where that is safe.
    #[must_use]
    pub fn max(&self) -> FeatureSet {
        self.max
    }

    /// What a new guest that names no level gets: the host set less what must be asked for by name, and with the
    /// losses that every guest is told of.
    #[must_use]
    pub fn default(&self) -> FeatureSet {
        self.default
    }

    /// What VMX can enforce; None where the capability MSRs are not known, as in a dump of CPUID alone.
    #[must_use]
    pub fn controls(&self) -> Option<Controls> {
        self.controls
    }

    /// The losses that a guest must be told of before it runs here.
    #[must_use]
    pub fn restrictions(&self) -> FeatureSet {
        self.features.of_polarity(Polarity::Restriction)
    }
}
