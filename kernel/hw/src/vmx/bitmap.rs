//! MSR bitmaps (SDM 24.6.9): 1 traps. I/O needs none, every port exits.
//!
//! A VM has two. One is for vCPUs whose local APIC is in x2APIC mode: MSRs of the APIC that the CPU virtualises do not exit
//! there. In any other mode the same access would reach the APIC of the host.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, Ordering};

use vmx_types::apic::ApicVirt;

use crate::mm::Hpa;

/// Offsets of the bitmaps for reads and for writes.
const READS: usize = 0;
const WRITES: usize = 2048;

/// Four bitmaps: reads low, reads high, writes low, writes high, 1 KiB each.
type Bitmap = [AtomicU8; 4096];
/// What of the address of a bitmap says which one it is.
const X2APIC: u64 = 1 << 12;

/// Those of one VM: the usual one, and after it the one for x2APIC mode, so that a bit of the address tells.
#[repr(C, align(8192))]
#[derive(Debug)]
pub struct MsrBitmaps([Bitmap; 2]);

impl MsrBitmaps {
    /// Every access traps.
    #[must_use]
    pub fn trap_all() -> Arc<Self> {
        // Where it stays from the first: on the way there it would take 16 KiB of stack.
        let mut bitmaps = Arc::<Self>::new_uninit();
        let place = Arc::get_mut(&mut bitmaps).expect("nobody else has it yet");
        // SAFETY: the memory is ours, and bytes of any value are bitmaps.
        unsafe {
            place.as_mut_ptr().write_bytes(0xff, 1);
            bitmaps.assume_init()
        }
    }

    /// Every access traps again. No vCPU of the VM is on a CPU.
    pub fn close(&self) {
        self.0.iter().flatten().for_each(|byte| byte.store(0xff, Ordering::Relaxed));
    }

    /// Lets the guest at the MSRs of an APIC in x2APIC mode that the CPU virtualises, while it is in that mode.
    pub fn pass_x2apic(&self, virt: ApicVirt) {
        let [_, x2apic] = &self.0;
        virt.read_msrs().for_each(|msr| clear(x2apic, msr, READS));
        virt.written_msrs().for_each(|msr| clear(x2apic, msr, WRITES));
    }

    /// Lets the guest read and write this MSR without an exit; the vCPU's switch code must save and load it.
    pub fn pass_through(&self, msr: u32) {
        self.clear(msr, &[READS, WRITES]);
    }

    /// Lets the guest read it; writes are checked.
    pub fn pass_reads(&self, msr: u32) {
        self.clear(msr, &[READS]);
    }

    /// Lets the guest write it; there is nothing to save.
    pub fn pass_writes(&self, msr: u32) {
        self.clear(msr, &[WRITES]);
    }

    fn clear(&self, msr: u32, halves: &[usize]) {
        for bitmap in &self.0 {
            halves.iter().for_each(|half| clear(bitmap, msr, *half));
        }
    }

    /// Whether a read of this MSR, which has a place in the bitmaps, exits: for the host's tests.
    #[cfg(not(target_os = "none"))]
    #[must_use]
    pub fn read_exits(&self, msr: u32) -> bool {
        place(msr).is_none_or(|(byte, bit)| self.0[0][READS + byte].load(Ordering::Relaxed) & bit != 0)
    }

    /// Its address for the VMCS.
    #[must_use]
    pub fn hpa(&self) -> Hpa {
        Hpa(core::ptr::from_ref(self) as u64)
    }
}

/// Where an MSR is in each half of a bitmap: byte and bit. Outside them every access exits.
const fn place(msr: u32) -> Option<(usize, u8)> {
    let base = match msr {
        0..=0x1fff => 0,
        0xc000_0000..=0xc000_1fff => 1024,
        _ => return None,
    };
    let bit = (msr & 0x1fff) as usize;
    Some((base + bit / 8, 1 << (bit % 8)))
}

fn clear(bitmap: &Bitmap, msr: u32, half: usize) {
    if let Some((byte, bit)) = place(msr) {
        bitmap[half + byte].fetch_and(!bit, Ordering::Relaxed);
    }
}

/// The address of the bitmap for that mode, of the VM that `address` is one of.
pub(super) const fn for_mode(address: u64, x2apic: bool) -> u64 {
    if x2apic { address | X2APIC } else { address & !X2APIC }
}
