//! MSR bitmaps (SDM 24.6.9): 1 traps. I/O needs none, every port exits.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, Ordering};

use crate::mm::Hpa;

/// Offsets of the bitmaps for reads and for writes.
const READS: usize = 0;
const WRITES: usize = 2048;

/// The four bitmaps of one VM: reads low, reads high, writes low, writes high, 1 KiB each.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct MsrBitmap([AtomicU8; 4096]);

impl MsrBitmap {
    /// Every access traps.
    #[must_use]
    pub fn trap_all() -> Arc<Self> {
        Arc::new(Self([const { AtomicU8::new(0xff) }; 4096]))
    }

    /// Every access traps again. No vCPU of the VM is on a CPU.
    pub fn close(&self) {
        self.0.iter().for_each(|byte| byte.store(0xff, Ordering::Relaxed));
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
        let base = match msr {
            0..=0x1fff => 0,
            0xc000_0000..=0xc000_1fff => 1024,
            _ => return, // outside the bitmaps every access exits
        };
        let bit = (msr & 0x1fff) as usize;
        for half in halves {
            self.0[half + base + bit / 8].fetch_and(!(1 << (bit % 8)), Ordering::Relaxed);
        }
    }

    /// Whether a read of this MSR, which has a place in the bitmaps, exits: for the host's tests.
    #[cfg(not(target_os = "none"))]
    #[must_use]
    pub fn read_exits(&self, msr: u32) -> bool {
        let base = if msr <= 0x1fff { 0 } else { 1024 };
        let bit = (msr & 0x1fff) as usize;
        self.0[READS + base + bit / 8].load(Ordering::Relaxed) >> (bit % 8) & 1 != 0
    }

    /// Its address for the VMCS.
    #[must_use]
    pub fn hpa(&self) -> Hpa {
        Hpa(core::ptr::from_ref(self) as u64)
    }
}
