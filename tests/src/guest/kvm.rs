//! A Linux that runs KVM on an emulated host, for figures beside ours.

use super::{BUILDING, Linux, cpio, debian, gcc, newer, write_whole};
use crate::paths;
use crate::process::run_tool;
use anyhow::{Context, Result};
use std::fs;
use std::sync::PoisonError;

/// In the order in which they are loaded.
const MODULES: [&str; 3] = ["irqbypass.ko", "kvm.ko", "kvm-intel.ko"];

/// Debian's kernel with an initramfs of KVM's modules and the program that makes the VM.
pub fn kvm_peer() -> Result<Linux> {
    let linux = debian()?;
    let _one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let sources = paths::root().join("tests/guests");
    let files = ["linux/kvm-ipi.c", "rt/ping.S", "rt/ping.h"].map(|name| sources.join(name));
    let modules = MODULES.map(|name| paths::debian_modules().join(name));
    let initrd = paths::build().join("guest/kvm-initrd.cpio");
    if newer(&initrd, &files.iter().chain(&modules).map(AsRef::as_ref).collect::<Vec<_>>()) {
        return Ok(Linux { initrd, ..linux });
    }
    let tree = paths::fresh_dir(&paths::build().join("guest/kvm-initramfs"))?;
    fs::create_dir_all(tree.join("dev"))?;
    run_tool(gcc().arg("-o").arg(tree.join("init")).args(&files[..2]), "gcc libc6-dev")?;
    for (name, file) in MODULES.iter().zip(&modules) {
        fs::copy(file, tree.join(name))
            .with_context(|| format!("cannot read {}: run scripts/setup", file.display()))?;
    }
    let names = [&["dev", "init"], &MODULES[..]].concat();
    write_whole(&initrd, &cpio(&tree, &names)?)?;
    Ok(Linux { initrd, ..linux })
}
