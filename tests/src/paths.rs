//! Where things lie in the project's tree.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The top of the source tree: the one that the running program lies in, so that a tree that was copied with what is
/// built in it works on itself; else the one that it was built from.
pub fn root() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let built_from = || Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(""));
    tree_of(&program).unwrap_or_else(built_from).to_path_buf()
}

/// The tree that a file lies in, by a file that only its top has.
fn tree_of(file: &Path) -> Option<&Path> {
    file.ancestors().skip(1).find(|folder| folder.join("x86_64-hypervisor.json").is_file())
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

/// KVM's modules of that kernel.
pub fn debian_modules() -> PathBuf {
    build().join("cache/linux/modules")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_tree_is_its_own() {
        let copy = std::env::temp_dir().join(format!("copied-tree-{}", std::process::id()));
        let program = copy.join("target/debug/xtask");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        assert_eq!(tree_of(&program), None);
        std::fs::copy(root().join("x86_64-hypervisor.json"), copy.join("x86_64-hypervisor.json")).unwrap();
        assert_eq!(tree_of(&program), Some(copy.as_path()));
        std::fs::remove_dir_all(copy).unwrap();
    }
}
