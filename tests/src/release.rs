//! What a release is made of, each built from the same image; built twice they are the same bytes.

use crate::image::quote;
use crate::paths;
use crate::process::{MissingTool, run_tool};
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Magic numbers of Multiboot 1 and 2 in their headers.
const HEADERS: [u32; 2] = [0x1bad_b002, 0xe852_50d6];
/// A Multiboot 2 header lies in so many bytes from the file's beginning.
const HEADER_ROOM: usize = 32768;
/// All that has a date in it gets this one: 2000-01-01, in seconds since 1970 and as xorriso writes it.
const EPOCH: &str = "946684800";
const VOLUME_DATE: &str = "2000010100000000";

/// GRUB's own errors are seen, and it is spoken to, on COM1 as well.
const GRUB_SERIAL: &str = "if serial --unit=0 --speed=115200; then\n  terminal_input console serial\n  \
     terminal_output console serial\nfi\n";

/// The image for loaders that know PVH and would take it for a Multiboot one: QEMU's `-kernel` never looks at the PVH
/// note of a file with a Multiboot header. The same bytes but for the magic numbers of those headers.
///
/// # Errors
/// The image has no such header.
pub fn pvh(image: &[u8]) -> Result<Vec<u8>> {
    let mut image = image.to_vec();
    let room = image.len().min(HEADER_ROOM);
    for magic in HEADERS {
        let word =
            image[..room].as_chunks_mut().0.iter_mut().find(|word| u32::from_le_bytes(**word) == magic);
        word.with_context(|| format!("the image has no header {magic:#x}"))?.fill(0);
    }
    Ok(image)
}

/// The UEFI application around `image`.
///
/// # Errors
/// It does not build.
pub fn efi(image: &Path, out: &Path) -> Result<()> {
    let script = paths::root().join("scripts/build-efi");
    run_tool(Command::new(script).arg(image).arg(out), "lld").map(drop)
}

/// A disk with an EFI system partition over all of it, and these files: names with `/`, and what is in them.
///
/// # Errors
/// A tool is missing; the package is named.
pub fn efi_disk(files: &[(&str, &[u8])], out: &Path) -> Result<()> {
    const MIB: usize = 16;
    let image = format!("{}", out.display());
    let sectors = (MIB * 2048).to_string();
    run_tool(
        Command::new("mformat")
            .args(["-C", "-i", &image, "-T", &sectors, "-h", "16", "-s", "63", "-N", "464c5856", "::"]),
        "mtools",
    )?;
    for (name, bytes) in files {
        let mut folder = String::from("::");
        for part in name.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev() {
            folder.push('/');
            folder.push_str(part);
            // It may be there already.
            let _ = run_tool(Command::new("mmd").args(["-D", "s", "-i", &image, &folder]), "mtools");
        }
        let file = out.with_extension("part");
        fs::write(&file, bytes)?;
        run_tool(Command::new("mcopy").args(["-i", &image]).arg(&file).arg(format!("::/{name}")), "mtools")?;
        fs::remove_file(&file)?;
    }
    Ok(())
}

/// A hybrid image: BIOS and UEFI, CD and USB stick, GRUB either way. `modules` are files with their lines.
///
/// # Errors
/// A tool or GRUB's own files are missing; the package is named.
pub fn iso(image: &Path, cmdline: &str, modules: &[crate::image::Module], out: &Path) -> Result<()> {
    for (folder, package) in [("i386-pc", "grub-pc-bin"), ("x86_64-efi", "grub-efi-amd64-bin")] {
        let tool = format!("GRUB for {folder}");
        ensure!(Path::new("/usr/lib/grub").join(folder).is_dir(), MissingTool { tool, package });
    }
    let tree = paths::fresh_dir(&out.with_extension("tree"))?;
    fs::create_dir_all(tree.join("boot/grub"))?;
    let mut menu = format!("set timeout=0\n{GRUB_SERIAL}");
    writeln!(menu, "multiboot2 /boot/flexvisor.elf {}", quote(cmdline))?;
    fs::copy(image, tree.join("boot/flexvisor.elf")).with_context(|| image.display().to_string())?;
    for (index, module) in modules.iter().enumerate() {
        fs::copy(&module.file, tree.join(format!("boot/module{index}")))
            .with_context(|| module.file.display().to_string())?;
        writeln!(menu, "module2 --nounzip /boot/module{index} {}", quote(&module.line))?;
    }
    menu.push_str("boot\n");
    fs::write(tree.join("boot/grub/grub.cfg"), menu)?;
    let mut command = Command::new("grub-mkrescue");
    command.env("SOURCE_DATE_EPOCH", EPOCH).env("TZ", "UTC").arg("-o").arg(out);
    command.args(["--fonts=", "--locales=", "--themes=", "--compress=no"]);
    command
        .args(["--install-modules=normal iso9660 multiboot2 part_gpt part_msdos fat serial terminal"])
        .arg(&tree);
    command.args([
        "--",
        "-volid",
        "FLEXVISOR",
        "-volume_date",
        "uuid",
        VOLUME_DATE,
        "-volume_date",
        "all_file_dates",
        &format!("={EPOCH}"),
    ]);
    run_tool(&mut command, "grub-common")?;
    fs::remove_dir_all(&tree)?;
    let mut bytes = fs::read(out)?;
    number(&mut bytes).context("the image has no EFI partition")?;
    fs::write(out, bytes)?;
    Ok(())
}

/// Gives the EFI partition, a FAT file system whose maker draws it, a volume serial number that is always the same.
fn number(image: &mut [u8]) -> Option<()> {
    const SECTOR: usize = 512;
    const SERIAL: core::ops::Range<usize> = 39..43;
    const KIND: core::ops::Range<usize> = 54..59;
    let fat = |sector: &&mut [u8]| matches!(sector.get(KIND), Some(b"FAT12" | b"FAT16"));
    image.chunks_exact_mut(SECTOR).find(fat)?.get_mut(SERIAL)?.copy_from_slice(b"FLXV");
    Some(())
}

/// Writes the images that boot servers serve into `dir`, and the folder that they serve, which is given back.
///
/// # Errors
/// As [`efi`] and [`crate::netboot::make`].
pub fn netboot(image: &Path, dir: &Path) -> Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let [elf, efi, folder] = ["flexvisor.elf", "flexvisor.efi", "netboot"].map(|name| dir.join(name));
    fs::copy(image, &elf).with_context(|| image.display().to_string())?;
    self::efi(&elf, &efi)?;
    crate::netboot::make(&[&elf, &efi], &folder)?;
    Ok(folder)
}

/// Writes a release into `dir`: the images, the hybrid ISO, their sums. Returns the files.
///
/// # Errors
/// As [`iso`].
pub fn make(image: &Path, dir: &Path) -> Result<Vec<PathBuf>> {
    let bytes = fs::read(image).with_context(|| image.display().to_string())?;
    let file = |name: &str| dir.join(name);
    netboot(image, dir)?;
    fs::write(file("flexvisor-pvh.elf"), pvh(&bytes)?)?;
    iso(&file("flexvisor.elf"), "console=com1", &[], &file("flexvisor.iso"))?;
    let names = ["flexvisor.elf", "flexvisor-pvh.elf", "flexvisor.efi", "flexvisor.iso"];
    let mut summed = names.map(PathBuf::from).to_vec();
    files_below(dir, Path::new("netboot"), &mut summed)?;
    let sums = run_tool(Command::new("sha256sum").args(&summed).current_dir(dir), "coreutils")?;
    fs::write(file("SHA256SUMS"), sums)?;
    Ok(names.into_iter().chain(["SHA256SUMS"]).map(file).collect())
}

/// Adds the files in `folder` of `dir` and below it, in the order of their names, each by its path from `dir` on.
fn files_below(dir: &Path, folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let shown = || folder.display().to_string();
    let mut names = Vec::new();
    for entry in fs::read_dir(dir.join(folder)).with_context(shown)? {
        names.push(entry.with_context(shown)?.file_name());
    }
    names.sort();
    for name in names {
        let path = folder.join(name);
        if dir.join(&path).is_dir() { files_below(dir, &path, found)? } else { found.push(path) }
    }
    Ok(())
}
