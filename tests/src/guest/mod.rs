//! Guests to boot: Debian's kernel made ready for a fast start, and a small initramfs whose program prints what the
//! proofs need.

mod kexec;
mod kvm;
pub mod vmlinux;

pub use kexec::kexec;
pub use kvm::kvm_peer;

use crate::paths;
use crate::process::run_tool;
use anyhow::{Context, Result};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// A kernel with its initramfs.
#[derive(Clone, Debug)]
pub struct Linux {
    /// An ELF kernel with a PVH entry.
    pub kernel: PathBuf,
    /// The bzImage that it was taken from.
    pub bzimage: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
}

/// Command line of the demo guest: counter lines and the memory worker.
pub const DEMO_CMDLINE: &str = "console=ttyS0 quiet panic=-1 cryptomgr.notests pti=off guest=demo";
/// Command line for a guest that ends in a shell on its console.
pub const SHELL_CMDLINE: &str = "console=ttyS0 quiet panic=-1 cryptomgr.notests pti=off guest=shell";

static BUILDING: Mutex<()> = Mutex::new(());

/// Debian's kernel and the demo initramfs, made where they are missing or old.
pub fn debian() -> Result<Linux> {
    let _one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let bzimage = paths::debian_kernel();
    let dir = paths::build().join("guest");
    fs::create_dir_all(&dir)?;
    let kernel = dir.join("vmlinux");
    if !newer(&kernel, &[&bzimage]) {
        let image = fs::read(&bzimage)
            .with_context(|| format!("cannot read {}: run scripts/setup", bzimage.display()))?;
        let lean = vmlinux::lean(&vmlinux::unpack(&image)?).context("Debian's vmlinux")?;
        write_whole(&kernel, &lean)?;
    }
    Ok(Linux { kernel, bzimage, initrd: initramfs(&dir)? })
}

/// What Linux needs for an entropy device, in the order in which it is loaded.
pub const VIRTIO_RNG: [&str; 6] = [
    "virtio_ring.ko",
    "virtio.ko",
    "virtio_pci_modern_dev.ko",
    "virtio_pci_legacy_dev.ko",
    "virtio_pci.ko",
    "virtio-rng.ko",
];

/// Debian's kernel, and the demo initramfs with [`VIRTIO_RNG`] in its root.
pub fn with_virtio() -> Result<Linux> {
    let files = VIRTIO_RNG.map(|name| (name, paths::debian_modules().join(name)));
    let linux = debian()?;
    let inputs: Vec<&Path> =
        [&*linux.initrd].into_iter().chain(files.iter().map(|(_, file)| &**file)).collect();
    packed("virtio", &linux, &inputs, |tree| {
        copy_all(&files, tree)?;
        // The kernel unpacks one archive after the other.
        Ok([fs::read(&linux.initrd)?, cpio(tree, &VIRTIO_RNG)?].concat())
    })
}

/// Builds the small Multiboot payloads of `tests/guests`.
pub fn build_payloads() -> Result<()> {
    let _one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    run_tool(&mut Command::new(paths::root().join("tests/guests/build")), "gcc")?;
    Ok(())
}

/// The file of a payload.
pub fn payload(name: &str) -> PathBuf {
    paths::build().join(format!("guests/{name}.elf"))
}

fn initramfs(dir: &Path) -> Result<PathBuf> {
    let sources = paths::root().join("tests/guests/linux");
    let (init, worker) = (sources.join("init"), sources.join("worker.rs"));
    let out = dir.join("initrd.cpio");
    if newer(&out, &[&init, &worker]) {
        return Ok(out);
    }
    let tree = dir.join("initramfs");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    for name in ["bin", "proc", "sys", "dev"] {
        fs::create_dir_all(tree.join(name))?;
    }
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args([
        "--edition",
        "2024",
        "-O",
        "-C",
        "target-feature=+crt-static",
        "-C",
        "strip=symbols",
        "-o",
    ]);
    run_tool(command.arg(tree.join("worker")).arg(&worker), "rustc-web")?;
    fs::copy(&init, tree.join("init"))?;
    fs::copy("/bin/busybox", tree.join("bin/busybox"))
        .context("/bin/busybox: apt-get install busybox-static")?;
    run_tool(Command::new("chmod").arg("755").args([tree.join("init"), tree.join("worker")]), "coreutils")?;
    write_whole(&out, &cpio(&tree, &["bin", "bin/busybox", "dev", "init", "proc", "sys", "worker"])?)?;
    Ok(out)
}

/// The same kernel with an initramfs of its own: a program as process 1, made of `sources` below `tests/guests`, these folders, and
/// copies of files, by the names that they have there.
fn with_init(
    name: &str,
    linux: &Linux,
    sources: &[&str],
    folders: &[&str],
    files: &[(&str, PathBuf)],
) -> Result<Linux> {
    let sources: Vec<PathBuf> =
        sources.iter().map(|source| paths::root().join("tests/guests").join(source)).collect();
    let inputs: Vec<&Path> = sources.iter().chain(files.iter().map(|(_, file)| file)).map(|p| &**p).collect();
    packed(name, linux, &inputs, |tree| {
        for folder in folders {
            fs::create_dir_all(tree.join(folder))?;
        }
        let compiled = sources.iter().filter(|source| source.extension().is_none_or(|ext| ext != "h"));
        run_tool(gcc().arg("-o").arg(tree.join("init")).args(compiled), "gcc libc6-dev")?;
        copy_all(files, tree)?;
        let names: Vec<&str> = folders.iter().copied().chain(files.iter().map(|(name, _)| *name)).collect();
        cpio(tree, &[&names[..], &["init"]].concat())
    })
}

/// The same kernel with an initramfs that `pack` makes in an empty folder, where it is older than one of `inputs`.
fn packed(
    name: &str,
    linux: &Linux,
    inputs: &[&Path],
    pack: impl FnOnce(&Path) -> Result<Vec<u8>>,
) -> Result<Linux> {
    let _one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = paths::build().join("guest");
    let initrd = dir.join(format!("{name}-initrd.cpio"));
    if !newer(&initrd, inputs) {
        let tree = paths::fresh_dir(&dir.join(format!("{name}-initramfs")))?;
        write_whole(&initrd, &pack(&tree)?)?;
    }
    Ok(Linux { initrd, ..linux.clone() })
}

/// Copies files into a folder, by these names.
fn copy_all(files: &[(&str, PathBuf)], to: &Path) -> Result<()> {
    for (name, file) in files {
        fs::copy(file, to.join(name))
            .with_context(|| format!("cannot read {}: run scripts/setup", file.display()))?;
    }
    Ok(())
}

/// Compiles programs that run without a C library of their own.
fn gcc() -> Command {
    let mut gcc = Command::new("gcc");
    gcc.args(["-static", "-O2", "-s", "-Wall", "-Wextra", "-Werror", "-pthread"]);
    gcc
}

/// An archive of these files and folders below `tree`, and of the console.
fn cpio(tree: &Path, names: &[&str]) -> Result<Vec<u8>> {
    let mut child = Command::new("cpio")
        .args(["--create", "--format=newc", "--quiet", "--reproducible", "--owner=0:0"])
        .current_dir(tree)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cpio: apt-get install cpio")?;
    child.stdin.take().context("cpio's input")?.write_all(names.join("\n").as_bytes())?;
    let output = child.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "cpio failed ({})", output.status);
    let mut archive = console_node();
    archive.extend(output.stdout);
    Ok(archive)
}

/// A first archive with `/dev/console` (c 5 1), which process 1 needs open and which only root could make on disk.
fn console_node() -> Vec<u8> {
    let mut out = Vec::new();
    for (name, mode, major, minor) in
        [("dev", 0o040_755, 0, 0), ("dev/console", 0o020_600, 5, 1), ("TRAILER!!!", 0, 0, 0)]
    {
        let fields = [1, mode, 0, 0, 1, 0, 0, 0, 0, major, minor, name.len() + 1, 0];
        out.extend(b"070701");
        out.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        out.extend(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// `file` is there and newer than all of `sources`.
fn newer(file: &Path, sources: &[&Path]) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    let Ok(made) = time(file) else { return false };
    sources.iter().all(|source| time(source).is_ok_and(|changed| changed < made))
}

/// Writes beside and renames, so that a cut run leaves nothing half done.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes).with_context(|| format!("cannot write {}", beside.display()))?;
    fs::rename(&beside, path).with_context(|| format!("cannot write {}", path.display()))
}
