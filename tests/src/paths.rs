//! Where things lie in the project's tree.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The top of the source tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Generated files that are not cargo's; not under version control.
pub fn build() -> PathBuf {
    root().join("build")
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The hypervisor's image: as `scripts/build` leaves it, or the one that `FLEXVISOR_ELF` names.
pub fn hypervisor() -> PathBuf {
    given_hypervisor().unwrap_or_else(|| build().join("flexvisor.elf"))
}

/// An image that is already built and to be used as it is.
pub fn given_hypervisor() -> Option<PathBuf> {
    std::env::var_os("FLEXVISOR_ELF").map(PathBuf::from)
}

/// Debian's kernel as `scripts/setup` leaves it.
pub fn debian_kernel() -> PathBuf {
    build().join("cache/linux/vmlinuz")
}

/// Bochs 3.0 as `scripts/setup --bochs3` leaves it.
pub fn bochs3() -> PathBuf {
    build().join("cache/bochs3")
}

/// Loaders for booting from the network as `scripts/setup` leaves them.
pub fn netboot_loaders() -> PathBuf {
    build().join("cache/netboot")
}

/// A folder that may hold files already; the user named it, so nothing in it is removed.
pub fn log_dir(path: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    path.canonicalize().with_context(|| format!("cannot resolve {}", path.display()))
}

/// An empty folder below [`build`] for the files of one run.
pub fn fresh_dir(path: &Path) -> Result<PathBuf> {
    if path.exists() {
        std::fs::remove_dir_all(path).with_context(|| format!("cannot empty {}", path.display()))?;
    }
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    path.canonicalize().with_context(|| format!("cannot resolve {}", path.display()))
}
