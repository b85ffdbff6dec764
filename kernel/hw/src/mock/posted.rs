//! Interrupts that reach a guest while it runs, on a CPU that takes posted ones (SDM 29.6).

use core::sync::atomic::{AtomicU64, Ordering};

use vm_types::apic_register::IRR;
use vmx_types::control::{ExitControls, PinBased};
use vmx_types::{ExitReason, field};

use super::state::{Guest, now, switch_to, with};

/// A posted-interrupt descriptor by its words: PIR in four of them, then ON in bit 0.
type Descriptor = [AtomicU64; 8];
const ON: u64 = 1 << 0;

/// The descriptor at that address.
fn descriptor(address: u64) -> &'static Descriptor {
    assert_eq!(address % 64, 0, "VM entry checks it");
    // SAFETY: the kernel has taken the address from such a descriptor, which lives as long as the VMCS; tests end before it does.
    unsafe { &*(address as *const Descriptor) }
}

impl Guest<'_> {
    /// Another CPU does this while the guest runs; what it sends to the guest's CPU arrives. True where the guest goes on.
    pub fn meanwhile(&mut self, cpu: usize, job: impl FnOnce()) -> bool {
        let (here, sent) = (now() as u32, with(|state| state.ipis.len()));
        let before = switch_to(cpu);
        job();
        switch_to(before);
        let ipis = with(|state| state.ipis[sent..].to_vec());
        ipis.into_iter()
            .filter(|ipi| ipi.to == here)
            .filter_map(|ipi| ipi.vector)
            .all(|vector| self.gets(vector))
    }

    /// An interrupt with this vector comes to the CPU. True where the guest goes on.
    pub fn gets(&mut self, vector: u8) -> bool {
        let pin = PinBased::from_bits_retain(self.read(field::PIN_BASED_CONTROLS) as u32);
        if pin.contains(PinBased::POSTED_INTERRUPTS)
            && u64::from(vector) == self.read(field::POSTED_INTERRUPT_VECTOR)
        {
            self.takes_posted();
            return true;
        }
        let exit = ExitControls::from_bits_retain(self.read(field::EXIT_CONTROLS) as u32);
        if exit.contains(ExitControls::ACKNOWLEDGE_INTERRUPT) {
            self.set(field::EXIT_INTERRUPTION_INFO, 1 << 31 | u64::from(vector));
        }
        self.exits(ExitReason::ExternalInterrupt as u32, 0);
        false
    }

    fn takes_posted(&mut self) {
        let posted = descriptor(self.read(field::POSTED_INTERRUPT_DESCRIPTOR));
        let page = self.apic();
        posted[4].fetch_and(!ON, Ordering::SeqCst);
        let status = self.read(field::GUEST_INTERRUPT_STATUS);
        let mut request = status as u8;
        for vector in 0..=u8::MAX {
            let bit = 1 << (vector & 63);
            if posted[usize::from(vector >> 6)].fetch_and(!bit, Ordering::SeqCst) & bit != 0 {
                page.set_bit(IRR, vector, true);
                request = request.max(vector);
            }
        }
        self.set(field::GUEST_INTERRUPT_STATUS, status & 0xff00 | u64::from(request));
        self.takes_virtual_interrupt();
    }
}
