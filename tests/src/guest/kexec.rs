//! A Linux whose process 1 starts another Linux by kexec.

use super::{BUILDING, Linux, cpio, debian, gcc, newer, write_whole};
use crate::paths;
use crate::process::run_tool;
use anyhow::{Context, Result};
use std::fs;
use std::sync::PoisonError;

/// Debian's kernel with an initramfs that holds the same kernel and the initramfs of [`debian`], and starts these.
pub fn kexec() -> Result<Linux> {
    let linux = debian()?;
    let _one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let source = paths::root().join("tests/guests/linux/kexec.c");
    let initrd = paths::build().join("guest/kexec-initrd.cpio");
    if newer(&initrd, &[&source, &linux.kernel, &linux.initrd]) {
        return Ok(Linux { initrd, ..linux });
    }
    let tree = paths::fresh_dir(&paths::build().join("guest/kexec-initramfs"))?;
    for name in ["dev", "sys"] {
        fs::create_dir_all(tree.join(name))?;
    }
    run_tool(gcc().arg("-o").arg(tree.join("init")).arg(&source), "gcc libc6-dev")?;
    for (name, file) in [("next.elf", &linux.kernel), ("next.cpio", &linux.initrd)] {
        fs::copy(file, tree.join(name)).with_context(|| format!("cannot read {}", file.display()))?;
    }
    write_whole(&initrd, &cpio(&tree, &["dev", "init", "next.cpio", "next.elf", "sys"])?)?;
    Ok(Linux { initrd, ..linux })
}
