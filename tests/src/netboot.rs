//! The folder that a boot server serves: the images, the loaders that know how to fetch them, a sample configuration for
//! each, settings by host.

use crate::paths;
use crate::process::{MissingTool, run_tool};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The host that has settings of its own in the folder, as its file's name writes the address.
pub const SAMPLE_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
/// The sample configuration of the boot server.
pub const DNSMASQ: &str = "dnsmasq.conf";

/// The configuration samples, as they stand in the folder.
const FILES: [(&str, &str); 8] = [
    (DNSMASQ, include_str!("../netboot/dnsmasq.conf")),
    ("flexvisor.ipxe", include_str!("../netboot/flexvisor.ipxe")),
    ("pxelinux.cfg/default", include_str!("../netboot/pxelinux.cfg/default")),
    ("pxelinux.cfg/01-52-54-00-12-34-56", include_str!("../netboot/pxelinux.cfg/01-52-54-00-12-34-56")),
    ("grub/grub.cfg", include_str!("../netboot/grub/grub.cfg")),
    ("flexvisor.cfg", include_str!("../netboot/flexvisor.cfg")),
    ("host.cfg/52-54-00-12-34-56", include_str!("../netboot/host.cfg/52-54-00-12-34-56")),
    ("README", include_str!("../netboot/README")),
];

/// Loaders of others, from Debian's packages: `scripts/setup` unpacks them.
const LOADERS: [&str; 6] =
    ["pxelinux.0", "ldlinux.c32", "mboot.c32", "libcom32.c32", "undionly.kpxe", "snponly.efi"];

/// GRUB's images for the network: the file, GRUB's name for the kind, its package, what that kind needs beyond [`GRUB`].
const GRUBS: [(&str, &str, &str, &str); 2] = [
    ("grub/bios.0", "i386-pc-pxe", "grub-pc-bin", "pxe"),
    ("grub/uefi.efi", "x86_64-efi", "grub-efi-amd64-bin", "efinet"),
];
const GRUB: &str = "net tftp http normal configfile multiboot2 test regexp echo serial terminal";

/// Writes the folder: `images` are put into it under their names.
///
/// # Errors
/// A file that cannot be written or read, a tool or a loader that is missing: its package is named.
pub fn make(images: &[&Path], dir: &Path) -> Result<()> {
    for (name, text) in FILES {
        let file = dir.join(name);
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(&file, text).with_context(|| file.display().to_string())?;
    }
    let loaders = paths::netboot_loaders();
    for image in images.iter().copied().map(Path::to_path_buf).chain(LOADERS.map(|name| loaders.join(name))) {
        let name = image.file_name().context("a file's name")?;
        fs::copy(&image, dir.join(name))
            .with_context(|| format!("cannot read {}: run scripts/setup", image.display()))?;
    }
    for (file, format, package, extra) in GRUBS {
        let modules = Path::new("/usr/lib/grub").join(format.trim_end_matches("-pxe"));
        let tool = format!("GRUB for {format}");
        ensure!(modules.is_dir(), MissingTool { tool, package });
        let mut command = Command::new("grub-mkimage");
        command.arg("-d").arg(modules).args(["-O", format, "-p", "/grub", "-o"]).arg(dir.join(file));
        run_tool(command.args(GRUB.split(' ')).args(extra.split(' ')), "grub-common")?;
    }
    Ok(())
}

/// Writes the folder with `kernel` and `initrd` as the guest that the samples' module lines name, these in use.
///
/// # Errors
/// As [`make`].
pub fn with_guest(images: &[&Path], kernel: &Path, initrd: &Path, dir: &Path) -> Result<()> {
    make(images, dir)?;
    enable_modules(dir)?;
    for (file, name) in [(kernel, "vmlinuz"), (initrd, "initrd.img")] {
        fs::copy(file, dir.join(name)).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// Takes the comment signs off the module lines of every sample in the folder, as its reader is told to.
///
/// # Errors
/// A file that cannot be written or read.
pub fn enable_modules(dir: &Path) -> Result<()> {
    for (name, text) in FILES {
        let on = |line: &str| match line.strip_prefix("# ") {
            Some(rest) if is_module_line(rest) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        fs::write(dir.join(name), text.lines().map(on).collect::<String>())?;
    }
    Ok(())
}

fn is_module_line(line: &str) -> bool {
    let words = ["module ", "module2 ", "initrd ", "APPEND "];
    words.iter().any(|word| line.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_module_lines() {
        for name in ["flexvisor.ipxe", "pxelinux.cfg/default", "grub/grub.cfg", "flexvisor.cfg"] {
            let (_, text) = FILES.iter().find(|(file, _)| *file == name).unwrap();
            let lines = text.lines().filter_map(|line| line.strip_prefix("# "));
            assert!(lines.filter(|line| is_module_line(line)).any(|line| line.contains("vm=demo")), "{name}");
        }
    }
}
