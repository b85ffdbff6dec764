//! What the host image is made of.

use super::{Case, Context};
use crate::paths;
use anyhow::{Context as _, Result, ensure};
use std::process::Command;

/// What the image may have: a boot loader reads it from a slow medium, an operator over the network.
const MOST: u64 = 114 << 14;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("image/size", 60, size), Case::new("image/no_simd", 60, no_simd)]
}

fn size(_: &Context) -> Result<()> {
    let bytes = std::fs::metadata(paths::hypervisor())?.len();
    ensure!(bytes <= MOST, "the image has {bytes} bytes, more than {MOST}");
    Ok(())
}

/// Places with vector instructions that the image may have, each with its bytes at most: the cipher of the link
/// (`kernel/chacha`), and what keeps a guest's XMM registers around it where there is no XSAVE (`arch/vector.rs`).
const VECTORS: [u64; 2] = [8192, 512];
/// Instructions so far apart are of two places.
const APART: u64 = 256;

/// A guest's FPU and SSE registers stay in the hardware while the host runs: no code of the host may touch them but
/// the XSAVE and FXSAVE instructions of the one place that switches them, and the one that lends them to the cipher.
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
    let mut places: Vec<(u64, u64, &str)> = Vec::new();
    for line in text.lines().filter(bad) {
        let at = line.split(':').next().map(str::trim).unwrap_or_default();
        let at = u64::from_str_radix(at, 16).with_context(|| format!("no address: {line}"))?;
        match places.last_mut() {
            Some((_, end, _)) if at - *end <= APART => *end = at,
            _ => places.push((at, at, line)),
        }
    }
    places.sort_by_key(|(start, end, _)| std::cmp::Reverse(end - start));
    for (index, (start, end, line)) in places.iter().enumerate() {
        let most = VECTORS.get(index).copied().unwrap_or(0);
        ensure!(end - start < most, "the host uses a guest's registers:\n{line}");
    }
    let saves = text.lines().filter(|line| line.contains("xsave") || line.contains("fxsave")).count();
    ensure!((1..=8).contains(&saves), "{saves} instructions save that state, where one place should");
    Ok(())
}
