//! `cpu` and its questions.

use core::fmt::Write;
use shell::{CpuAbout, Failure, Output};

use super::commands::find;
use super::{Out, flex, ledger, mitigations};
use crate::arch::{cpu, tsc};
use crate::policy;
use crate::vm::Vm;
use crate::vmx::host;

pub(super) fn about(about: CpuAbout<'_>, output: Output) -> Result<(), Failure> {
    match about {
        CpuAbout::Ledger(vm) => ledger::show(find(vm)?.as_ref(), output),
        CpuAbout::Flex => flex::show(output),
        CpuAbout::Mitigations(vm) => {
            let vm = vm.map(find).transpose()?;
            mitigations::show(vm.as_deref(), output)
        }
        _ => Err(super::not_yet("cpu")),
    }
}

pub(super) fn summary() {
    let out = &mut Out;
    let brand = raw_cpuid::CpuId::new().get_processor_brand_string();
    let _ = writeln!(out, "model     {}", brand.as_ref().map_or("unnamed", |b| b.as_str().trim()));
    let _ = writeln!(out, "cpus      {}\ntsc       {} Hz", cpu::count(), tsc::hz());
    if let Some(host) = host::boot_cpu() {
        let _ = writeln!(out, "vmx       {}", host.caps);
    }
    let _ = writeln!(out, "tracking  {}", Vm::best_method().name());
    let _ = writeln!(out, "levels    {}", policy::levels_of_this_host());
}
