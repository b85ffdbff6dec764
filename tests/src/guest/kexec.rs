//! A Linux whose process 1 starts another Linux by kexec.

use super::{Linux, debian, with_init};
use anyhow::Result;

/// Debian's kernel with an initramfs that holds the same kernel and the initramfs of [`debian`], and starts these.
pub fn kexec() -> Result<Linux> {
    let linux = debian()?;
    let files = [("next.cpio", linux.initrd.clone()), ("next.elf", linux.kernel.clone())];
    with_init("kexec", &linux, &["linux/kexec.c", "linux/check.h"], &["dev", "sys"], &files)
}
