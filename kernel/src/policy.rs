//! TEMPORARY until crates/cpu-policy lands.
use alloc::string::String;
use alloc::vec::Vec;
pub(crate) struct GuestPolicy;
pub(crate) struct Dynamic {
    pub(crate) apic_id: u32,
    pub(crate) cr4: u64,
    pub(crate) xcr0: u64,
}
impl GuestPolicy {
    pub(crate) fn has_rdtscp(&self) -> bool {
        false
    }
    pub(crate) fn has_invpcid(&self) -> bool {
        false
    }
    pub(crate) fn has_xsaves(&self) -> bool {
        false
    }
    pub(crate) fn has_rdrand(&self) -> bool {
        false
    }
    pub(crate) fn has_rdseed(&self) -> bool {
        false
    }
    pub(crate) fn cr4_allowed(&self) -> u64 {
        0x7ff
    }
    pub(crate) fn efer_allowed(&self) -> u64 {
        0xd01
    }
    pub(crate) fn xcr0_allowed(&self) -> u64 {
        0
    }
    pub(crate) fn xcr0_valid(&self, _v: u64) -> bool {
        false
    }
    pub(crate) fn phys_bits(&self) -> u8 {
        40
    }
    pub(crate) fn x2apic(&self) -> bool {
        false
    }
    pub(crate) fn tsc_deadline(&self) -> bool {
        false
    }
    pub(crate) fn level(&self) -> &str {
        "none"
    }
    pub(crate) fn cpuid(&self, leaf: u32, sub: u32, f: impl FnOnce() -> Dynamic) -> [u32; 4] {
        let _ = || f();
        let r = core::arch::x86_64::__cpuid_count(leaf, sub);
        [r.eax, r.ebx, r.ecx, r.edx]
    }
    pub(crate) fn encode(&self) -> Vec<u8> {
        Vec::new()
    }
    pub(crate) fn decode(_b: &[u8]) -> Result<Self, String> {
        Ok(Self)
    }
}
pub(crate) fn render(_level: Option<&str>, _vcpus: u32, _hz: u64) -> Result<GuestPolicy, String> {
    Ok(GuestPolicy)
}
pub(crate) fn fits(_p: &GuestPolicy) -> Result<(), String> {
    Ok(())
}
