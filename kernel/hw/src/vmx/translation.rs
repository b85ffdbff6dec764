//! Binds `crates/translation` to this machine: memory for tables, and the instructions that flush.

use ::translation::{Caches, CpuSet, Ept, Eptp, Features, Frames, Table, Tags};
use vmx_types::capability::Caps;

use super::insn::{self, Scope};
use crate::arch::cpu;
use crate::mm::{Hpa, PAGE, frame};

/// The translation of one VM.
pub type Translation = ::translation::Translation<'static, HostFrames>;

/// Pages of this host.
#[derive(Clone, Copy)]
pub struct HostFrames;

impl Frames<'static> for HostFrames {
    fn alloc(self) -> Option<Hpa> {
        frame::alloc_page()
    }

    fn free(self, page: Hpa) {
        frame::free(page, PAGE);
    }

    fn available(self) -> u64 {
        frame::stats().free / PAGE
    }

    #[inline(always)]
    fn table(self, page: Hpa) -> &'static Table {
        // SAFETY: `translation` asks for pages that it has from `alloc` and has not given back; they are 4 KiB of our own,
        // identity mapped, and the CPU's own accesses to them are what the atomics are for.
        unsafe {
            // Page 0 is never given out, nor mapped. Said, since each way to a table would look whether it has one.
            core::hint::assert_unchecked(page.0 != 0);
            &*(page.0 as *const Table)
        }
    }
}

/// Empty tables, of the kind that this host's VMs have; `None` when the host is out of memory.
pub fn new(caps: &Caps, executable_large_pages: bool) -> Option<Translation> {
    let features = Features { access_dirty: caps.ept_access_dirty(), executable_large_pages };
    Ept::new(HostFrames, features).map(Translation::Ept)
}

/// The caches of this CPU.
struct Here;

impl Caches for Here {
    fn invept(&self, eptp: Eptp) {
        insn::invept(Scope::Single, eptp.0);
    }

    fn invvpid(&self, vpid: u16) {
        insn::invvpid(Scope::Single, vpid);
    }
}

/// This CPU is about to run a vCPU, which was on CPU `last` before, of a VM with these tables that ran on those CPUs.
pub fn load(eptp: Option<Eptp>, ran_on: &CpuSet, last: Option<usize>, vpid: Option<u16>) {
    let tags = Tags { eptp, vpid };
    ::translation::load(ran_on, cpu::this().index, last, tags, &Here);
}
