//! What an access of the guest asks of the hypervisor.

/// A set of vCPUs, bit n for index n.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct VcpuSet(pub u64);

impl VcpuSet {
    /// Whether `vcpu` is in it.
    #[must_use]
    pub fn contains(self, vcpu: usize) -> bool {
        vcpu < 64 && self.0 >> vcpu & 1 != 0
    }

    /// Those that are in it.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let first = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(first)
        })
    }
}

/// What an access asks of the hypervisor, after its own effect on the devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// ACPI S5.
    PowerOff,
    /// The reset line: port 0xCF9, 0x92 or the keyboard controller.
    Reset,
    /// The value written to port 0xF4.
    DebugExit(u8),
    /// The UART's output queue is full: drain it before the guest runs on, or the next byte is lost.
    UartFull,
    /// A function on the PCI bus wants to work on the guest's memory: [`crate::Platform::service`], before the guest runs
    /// on.
    Service,
}
