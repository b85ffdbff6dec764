//! Which CPUs may have cached anything of a VM, and what a CPU drops before it runs one.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::words::Eptp;

/// The CPUs that ran a VM since it was made: those that a change of its tables has to reach, and no others.
#[derive(Debug)]
pub struct CpuSet(Vec<AtomicU64>);

impl CpuSet {
    /// None of CPUs `0..cpus`.
    #[must_use]
    pub fn new(cpus: usize) -> Self {
        Self((0..cpus.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Adds a CPU; true where it was not in.
    ///
    /// # Panics
    /// A CPU that the set has no room for.
    fn insert(&self, cpu: usize) -> bool {
        let bit = 1 << (cpu % 64);
        // Sequentially consistent, like the load below: see `load`.
        self.0[cpu / 64].fetch_or(bit, Ordering::SeqCst) & bit == 0
    }

    /// The CPUs in it. For a flush, read after the tables have been changed.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            let bits = bits.load(Ordering::SeqCst);
            (0..64).filter(move |bit| bits >> bit & 1 != 0).map(move |bit| word * 64 + bit)
        })
    }
}

/// Under which tags a CPU caches a vCPU's translations (SDM 28.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tags {
    /// EPT pointer of its VM; `None` where it has none, and drops combined translations at each entry and exit.
    pub eptp: Option<Eptp>,
    /// Its VPID; `None` where the CPU has none, and drops linear translations at each entry and exit.
    pub vpid: Option<u16>,
}

/// The caches of the CPU that this code runs on.
pub trait Caches {
    /// INVEPT, single context: guest-physical and combined mappings of an EPT pointer.
    fn invept(&self, eptp: Eptp);
    /// INVVPID, single context: linear and combined mappings of a VPID.
    fn invvpid(&self, vpid: u16);
}

/// CPU `here` is about to run a vCPU, which ran on CPU `last` before; `cpus` is its VM's.
///
/// The first time that a CPU runs a VM it drops whatever it has under the VM's EPT pointer: the root page may have been
/// another VM's, whose translations the CPU keeps. KVM does the same for each new root (Linux, `kvm_mmu_load`). To flush
/// all CPUs when a VM goes would do as well, but the last who holds a VM may hold locks then, and may not wait.
///
/// A vCPU that comes from another CPU changed its page tables and flushed there: what this CPU has of its linear
/// addresses is stale. The same for a vCPU that is new, whose VPID another one had.
///
/// *Order.* The CPU is in the set before it uses any entry of the tables. Whoever changes tables does that first and
/// reads the set then. Both are sequentially consistent, so one of the two sees the other: the CPU is flushed, or what
/// it reads is new.
pub fn load(cpus: &CpuSet, here: usize, last: Option<usize>, tags: Tags, caches: &impl Caches) {
    if cpus.insert(here)
        && let Some(eptp) = tags.eptp
    {
        caches.invept(eptp);
    }
    if let Some(vpid) = tags.vpid.filter(|_| last != Some(here)) {
        caches.invvpid(vpid);
    }
}
