//! `msr`.

use alloc::format;
use core::fmt::Write;
use shell::{Code, Failure, Output};

use super::out::{Out, json_line};
use hw::arch::msr;

/// Registers that the host or a guest lives by, as ranges: a write to one of these would be a crash, or a guest's.
const IN_USE: [(u32, u32); 20] = [
    (0x10, 0x10),               // TSC
    (0x1b, 0x1b),               // APIC_BASE
    (0x3a, 0x3b),               // FEATURE_CONTROL, TSC_ADJUST
    (0x48, 0x49),               // SPEC_CTRL, PRED_CMD: the mitigation slots'
    (0x79, 0x79),               // BIOS_UPDT_TRIG
    (0xc1, 0xc8),               // counters, which no host of ours owns alone
    (0x122, 0x122),             // TSX_CTRL
    (0x13c, 0x13c),             // FEATURE_CONFIG
    (0x140, 0x140),             // MISC_FEATURES_ENABLES
    (0x174, 0x176),             // SYSENTER
    (0x1a0, 0x1a0),             // MISC_ENABLE
    (0x1d9, 0x1d9),             // DEBUGCTL
    (0x200, 0x2ff),             // MTRRs, PAT
    (0x400, 0x47f),             // machine-check banks
    (0x600, 0x600),             // DS_AREA
    (0x6e0, 0x6e0),             // TSC_DEADLINE
    (0x800, 0x8ff),             // x2APIC
    (0xda0, 0xda0),             // XSS
    (0xc000_0080, 0xc000_0084), // EFER, STAR, LSTAR, CSTAR, FMASK
    (0xc000_0100, 0xc000_0103), // FS, GS, KERNEL_GS base, TSC_AUX
];

pub(super) fn read(number: u32, output: Output, out: &mut Out<'_>) -> Result<(), Failure> {
    let Some(value) = msr::read_safe(number) else {
        let text = format!("msr {number:#x} cannot be read: the CPU answers #GP");
        return Err(Failure::new(Code::Failed, text));
    };
    if output == Output::Json {
        json_line(out, |o| {
            o.field("msr", u64::from(number))?;
            o.field("value", value)
        });
    } else {
        let _ = writeln!(out, "msr {number:#x} = {value:#018x}");
    }
    Ok(())
}

pub(super) fn write(number: u32, value: u64, force: bool) -> Result<(), Failure> {
    if IN_USE.iter().any(|&(first, last)| (first..=last).contains(&number)) {
        let text = format!("msr {number:#x} is one that the host or its guests live by");
        return Err(Failure::new(Code::Unsupported, text));
    }
    if !force {
        let text = format!("writing msr {number:#x} can harm the host: say --force");
        return Err(Failure::new(Code::Force, text));
    }
    if !msr::write_safe(number, value) {
        let text = format!("msr {number:#x} does not take {value:#x}: the CPU answers #GP");
        return Err(Failure::new(Code::Failed, text));
    }
    log::warn!(target: "console", "msr {number:#x} set to {value:#x} by the operator");
    Ok(())
}
