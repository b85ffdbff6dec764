//! Speculative execution: what this host's CPU is, and what a guest is told (`crates/mitigations`).

use alloc::vec::Vec;
use cpu_policy::{Dynamic, Feature, GuestPolicy, MsrRead, spec_ctrl_bits};
use mitigations::{Cpu, Smt};
use spin::Once;

use hw::arch::{cpu, msr};
use hw::vmx::bitmap::MsrBitmaps;

/// What the first CPU says, and whether threads share cores; the other CPUs are taken to be alike.
pub(crate) fn host() -> &'static Cpu {
    static HOST: Once<Cpu> = Once::new();
    HOST.call_once(|| Cpu::read(cpu::cpuid, msr::read_safe, smt()))
}

/// What a guest with this policy is told. The threads of a core are the host's.
pub(crate) fn told(policy: &GuestPolicy) -> Cpu {
    let cpuid = |leaf, subleaf| policy.cpuid(leaf, subleaf, || Dynamic { apic_id: 0, cr4: 0, xcr0: 1 });
    let msr = |index| match policy.read_msr(index) {
        MsrRead::Value(value) => Some(value),
        MsrRead::Emulate(_) | MsrRead::Gp => None,
    };
    Cpu::read(cpuid, msr, host().smt)
}

/// Whether a guest with this policy may write IA32_SPEC_CTRL without an exit: what it may set is all that this CPU
/// takes, so that the CPU refuses what the policy refuses.
pub(crate) fn spec_ctrl_passes(policy: &GuestPolicy) -> bool {
    let allowed = spec_ctrl_bits(policy.features());
    allowed != 0 && allowed == host().spec_ctrl()
}

/// Lets a guest at the registers that its policy offers and this CPU checks for itself.
pub(crate) fn pass(policy: &GuestPolicy, bitmaps: &MsrBitmaps) {
    const IA32_FLUSH_CMD: u32 = 0x10b;
    if spec_ctrl_passes(policy) {
        bitmaps.pass_through(msr::IA32_SPEC_CTRL);
    }
    for (command, feature) in [(msr::IA32_PRED_CMD, Feature::IbrsIbpb), (IA32_FLUSH_CMD, Feature::L1dFlush)] {
        if policy.has(feature) {
            bitmaps.pass_writes(command);
        }
    }
}

fn smt() -> Smt {
    let [max_leaf, ..] = cpu::cpuid(0, 0);
    let [shift, threads, ..] = if max_leaf >= 0xb { cpu::cpuid(0xb, 0) } else { [0; 4] };
    let ids: Vec<u32> = (0..cpu::count()).filter_map(cpu::get).map(|cpu| cpu.apic_id).collect();
    Smt::of((threads & 0xffff != 0).then_some(shift & 0x1f), &ids)
}
