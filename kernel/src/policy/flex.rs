//! The mask MSRs and CPUID faulting of the host's CPUs.

use alloc::string::ToString;
use core::fmt::{self, Write};
use flex::{Cpu, LeafLimit, Report, Survey};
use spin::Once;

use hw::arch::{cpu, msr};

/// The CPU that this runs on. The hypervisor runs with interrupts off, and no guest's CPUID reaches the hardware.
struct ThisCpu;

impl Cpu for ThisCpu {
    fn rdmsr(&mut self, index: u32) -> Option<u64> {
        msr::read_safe(index)
    }

    fn wrmsr(&mut self, index: u32, value: u64) -> bool {
        msr::write_safe(index, value)
    }

    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> [u32; 4] {
        cpu::cpuid(leaf, subleaf)
    }
}

/// What the first CPU's firmware had limited.
static LIMIT: Once<LeafLimit> = Once::new();

/// Lifts the firmware's limit of CPUID leaves on this CPU, before anybody asks for leaves.
pub(crate) fn unlock_leaves() {
    let limit = flex::unlock_leaves(&mut ThisCpu);
    LIMIT.call_once(|| limit);
}

/// Tries this CPU's MSRs, now: they are as before when this returns.
fn survey() -> Survey {
    let mut survey = flex::survey(&mut ThisCpu);
    if let Some(limit) = LIMIT.get().filter(|limit| **limit != LeafLimit::Off) {
        survey.limit = *limit;
    }
    survey
}

/// Writes what this CPU offers, with the masks for the highest level of this host, to `out`.
///
/// # Errors
/// Those of `out`.
pub(crate) fn report(out: &mut dyn Write, json: bool) -> fmt::Result {
    let survey = survey();
    let level = super::host().best_level().filter(|_| survey.masks());
    let plan = level.map(|level| (level.name, flex::plan(&mut ThisCpu, &survey, level.features())));
    let report = Report { survey: &survey, plan: plan.as_ref().map(|(name, plan)| (*name, plan)) };
    if json {
        report.write_json(out)?;
        out.write_char('\n')
    } else {
        out.write_str(&report.to_string())
    }
}
