//! What the host image is made of.

use super::{Case, Context};
use crate::paths;
use anyhow::{Context as _, Result, ensure};
use std::process::Command;

/// What the image may have: a boot loader reads it from a slow medium, an operator over the network.
const MOST: u64 = 3 << 19;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("image/size", 60, size), Case::new("image/no_simd", 60, no_simd)]
}

fn size(_: &Context) -> Result<()> {
    let bytes = std::fs::metadata(paths::hypervisor())?.len();
    ensure!(bytes <= MOST, "the image has {bytes} bytes, more than {MOST}");
    Ok(())
}

/// A guest's FPU and SSE registers stay in the hardware while the host runs: no code of the host may touch them but
/// the XSAVE and FXSAVE instructions of the one place that switches them.
fn no_simd(_: &Context) -> Result<()> {
    let image = paths::hypervisor();
    let output = Command::new("objdump")
        .args(["--disassemble-all", "--no-show-raw-insn", "--section=.text"])
        .arg(&image)
        .output()
        .context("cannot start objdump (package binutils)")?;
    ensure!(output.status.success(), "objdump failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("vmresume"), "this is not the hypervisor's code");
    let bad =
        |line: &&str| ["%xmm", "%ymm", "%zmm", "%st", "%mm"].iter().any(|register| line.contains(register));
    let found: Vec<&str> = text.lines().filter(bad).take(5).collect();
    ensure!(found.is_empty(), "the host uses a guest's registers:\n{}", found.join("\n"));
    let saves = text.lines().filter(|line| line.contains("xsave") || line.contains("fxsave")).count();
    ensure!((1..=8).contains(&saves), "{saves} instructions save that state, where one place should");
    Ok(())
}
