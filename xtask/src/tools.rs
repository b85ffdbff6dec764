//! What several tasks share.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;
use testbench::paths;

/// Runs one of the project's scripts, saying so.
pub(crate) fn script(name: &str, args: &[&str]) -> Result<()> {
    let path = paths::root().join("scripts").join(name);
    eprintln!("+ scripts/{name} {}", args.join(" "));
    let status = Command::new(&path)
        .args(args)
        .status()
        .with_context(|| format!("cannot start {}", path.display()))?;
    if !status.success() {
        bail!("scripts/{name} failed ({status})");
    }
    Ok(())
}

/// Builds the hypervisor (unless `FLEXVISOR_ELF` names one) and gives back its image.
pub(crate) fn build() -> Result<PathBuf> {
    build_as(false)
}

/// The same; `fast` by the profile that builds in seconds, else as the environment says.
pub(crate) fn build_as(fast: bool) -> Result<PathBuf> {
    if paths::given_hypervisor().is_none() {
        script("build", if fast { &["--profile", "fast", "--quiet"] } else { &["--quiet"] })?;
    }
    Ok(paths::hypervisor())
}
