//! What a machine is made of.

/// The most vCPUs of a machine: one bit each in a [`crate::VcpuSet`].
pub const MAX_VCPUS: u16 = vm_types::MAX_VCPUS as u16;

/// What a machine is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlatformConfig {
    /// 1 to [`MAX_VCPUS`]; values outside are brought to the nearest. The APIC ID of a vCPU is its index.
    pub vcpus: u16,
    /// A write to port 0xF4 is [`crate::Effect::DebugExit`].
    pub debug_exit: bool,
    /// The wall clock at guest TSC 0, in seconds since 1970 UTC.
    pub rtc_base_unix_secs: u64,
    /// Bytes of RAM below 4 GiB.
    pub low_ram: u64,
    /// Bytes of RAM above 4 GiB.
    pub high_ram: u64,
    /// CPUID.01H:ECX.x2APIC: IA32_APIC_BASE.EXTD can be set.
    pub x2apic: bool,
    /// CPUID.01H:ECX.TSC_Deadline: the APIC timer has that mode.
    pub tsc_deadline: bool,
    /// It has a PCI bus, with those of [`crate::FUNCTIONS`] on it that the machine has.
    pub pci: bool,
    /// It has an entropy device on that bus.
    pub rng: bool,
}

/// A machine whose make-up does not matter.
#[cfg(test)]
pub(crate) const fn for_tests() -> PlatformConfig {
    PlatformConfig {
        vcpus: 1,
        debug_exit: false,
        rtc_base_unix_secs: 0,
        low_ram: 64 << 20,
        high_ram: 0,
        x2apic: false,
        tsc_deadline: false,
        pci: false,
        rng: false,
    }
}
