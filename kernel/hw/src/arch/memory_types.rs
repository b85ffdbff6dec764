//! PAT and MTRRs: the same on every CPU, whatever firmware did to those that it did not boot on.

use bring_up::mtrr::{Msrs, Mtrrs, PAT, PAT_RESET};
use spin::Once;

use super::{cpu, insn, msr};

/// CPU 0's, which the others get.
static FIRST: Once<Option<Mtrrs>> = Once::new();

struct Registers;

impl Msrs for Registers {
    fn read(&mut self, msr: u32) -> u64 {
        msr::read(msr)
    }

    fn write(&mut self, msr: u32, value: u64) {
        msr::write(msr, value);
    }
}

/// The calling CPU's MTRRs; none where it has none.
pub fn mtrrs() -> Option<Mtrrs> {
    let there = cpu::id().get_feature_info().is_some_and(|f| f.has_mtrr());
    there.then(|| Mtrrs::read(&mut Registers))
}

/// The MTRRs that every CPU should have.
pub fn first() -> Option<&'static Mtrrs> {
    FIRST.get()?.as_ref()
}

/// Gives the calling CPU the PAT that the kernel's page tables are written by, and, where it is not the first, the first
/// CPU's MTRRs. No other CPU of its core runs anything yet. True where something had to be changed.
pub fn init_cpu() -> bool {
    let wanted = *FIRST.call_once(mtrrs);
    let new_pat = cpu::id().get_feature_info().is_some_and(|f| f.has_pat()) && msr::read(PAT) != PAT_RESET;
    let new_mtrrs = wanted.filter(|wanted| mtrrs().as_ref() != Some(wanted));
    if !new_pat && new_mtrrs.is_none() {
        return false;
    }
    with_caches_off(|| {
        if new_pat {
            msr::write(PAT, PAT_RESET);
        }
        if let Some(wanted) = new_mtrrs {
            wanted.load(&mut Registers);
        }
    });
    if cpu::this().index != 0 {
        log::warn!(target: "cpu", "CPU {}: firmware left it other memory types (MTRRs, PAT) than CPU 0: set", cpu::this().index);
    }
    true
}

/// Runs `change` with caches off and empty, and no translation kept (SDM 11.11.7.2, 11.12.4).
fn with_caches_off(change: impl FnOnce()) {
    let (cr0, cr4) = (insn::cr0(), insn::cr4());
    let caches_off = (cr0 | 1 << 30) & !(1 << 29);
    // SAFETY: without caches the same instructions run on the same memory, slower. WBINVD writes back what they hold; CR4.PGE
    // off and on, and CR3 written, drop all translations.
    unsafe {
        insn::set_cr0(caches_off);
        insn::wbinvd();
        insn::set_cr4(cr4 & !(1 << 7));
        insn::set_cr3(insn::cr3());
    }
    change();
    insn::wbinvd();
    // SAFETY: as above; CR0 and CR4 become what they were.
    unsafe {
        insn::set_cr3(insn::cr3());
        insn::set_cr0(cr0);
        insn::set_cr4(cr4);
    }
}
