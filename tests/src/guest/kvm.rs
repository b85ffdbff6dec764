//! A Linux that runs KVM on an emulated host, for figures beside ours.

use super::{Linux, debian, with_init};
use crate::paths;
use anyhow::Result;

/// In the order in which they are loaded.
const MODULES: [&str; 3] = ["irqbypass.ko", "kvm.ko", "kvm-intel.ko"];

/// Debian's kernel with an initramfs of KVM's modules and the program that makes the VM.
pub fn kvm_peer() -> Result<Linux> {
    let files = MODULES.map(|name| (name, paths::debian_modules().join(name)));
    let sources = ["linux/kvm-ipi.c", "rt/ping.S", "linux/check.h", "rt/ping.h"];
    with_init("kvm", &debian()?, &sources, &["dev"], &files)
}
