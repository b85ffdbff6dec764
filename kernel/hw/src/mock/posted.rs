//! Interrupts that reach a guest while it runs, on a CPU that takes posted ones (SDM 29.6).

use core::sync::atomic::{AtomicU64, Ordering};

use vm_types::apic_register::{ICR_LOW, IRR};
use vmx_types::apic::TERTIARY;
use vmx_types::control::{ExitControls, PinBased, ProcBased};
use vmx_types::{ExitReason, field};

use super::state::{Guest, Ipi, now, switch_to, with};

/// A posted-interrupt descriptor by its words: PIR in four of them, then ON in bit 0.
type Descriptor = [AtomicU64; 8];
const ON: u64 = 1 << 0;
/// What IPI virtualization has in the word of ON: SN, the vector, and the CPU.
const SN: u64 = 1 << 1;
const NV: u32 = 16;
const NDST: u32 = 32;

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

    /// WRMSR to the ICR in x2APIC mode, where the bitmap lets that pass (SDM 29.1.6, 29.5). True where the guest goes on; the
    /// notification, if there is one, is among the machine's IPIs.
    pub fn sends_ipi(&mut self, icr: u64) -> bool {
        let virtualised = self.primary().contains(ProcBased::TERTIARY_CONTROLS)
            && self.read(field::PROC_BASED_CONTROLS_3) & TERTIARY != 0;
        assert!(virtualised, "it would reach the host's APIC");
        let page = self.apic();
        page.set(ICR_LOW, icr as u32);
        page.set_upper(ICR_LOW, (icr >> 32) as u32);
        // Fixed, physical, edge-triggered, to an ID: vector, and level alone may differ.
        if icr & 0xffff_ffff & !0x40ff == 0 && self.posts(icr as u8, icr >> 32) {
            return true;
        }
        self.set(field::EXIT_QUALIFICATION, 0x300);
        self.exits(ExitReason::ApicWrite as u32, 0);
        false
    }

    /// Leaves an interrupt for that APIC ID. False where the table has no way to it.
    fn posts(&mut self, vector: u8, to: u64) -> bool {
        if vector < 16 || to > self.read(field::LAST_PID_POINTER_INDEX) {
            return false;
        }
        let entry = (self.read(field::PID_POINTER_TABLE) + to * 8) as *const AtomicU64;
        // SAFETY: an entry of the table that the kernel has given the address and the length of, aligned as entries are.
        let pointer = unsafe { &*entry }.load(Ordering::SeqCst);
        if pointer & 0x3f != 1 {
            return false;
        }
        let posted = descriptor(pointer & !1);
        posted[usize::from(vector >> 6)].fetch_or(1 << (vector & 63), Ordering::SeqCst);
        let notice = posted[4].load(Ordering::SeqCst);
        if notice & (ON | SN) == 0 {
            posted[4].fetch_or(ON, Ordering::SeqCst);
            let ipi = Ipi { to: (notice >> NDST) as u32, vector: Some((notice >> NV) as u8) };
            with(|state| state.ipis.push(ipi));
        }
        true
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
