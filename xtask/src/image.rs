//! `image`: a bootable image for a real machine or an emulator.

use crate::tools;
use anyhow::Result;
use std::path::PathBuf;
use testbench::guest;
use testbench::host::{HostSpec, LinkKey, VmSpec};
use testbench::{paths, release};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the image goes.
    #[arg(long, default_value = "build/flexvisor.iso")]
    output: PathBuf,
    /// The host's boot options.
    #[arg(long, default_value = "console=com1")]
    options: String,
    /// Add a VM with Debian's kernel and the demo initramfs, at this CPU level.
    #[arg(long, value_name = "LEVEL")]
    linux: Option<String>,
    /// Make a release instead: all images and their sums, in build/release.
    #[arg(long, conflicts_with_all = ["output", "options", "linux", "mem"])]
    release: bool,
    /// The VM's RAM in MiB.
    #[arg(long, default_value_t = 256)]
    mem: u32,
}

pub(crate) fn main(args: &Args) -> Result<u8> {
    let image = tools::build()?;
    if args.release {
        for file in release::make(&image, &paths::fresh_dir(&paths::build().join("release"))?)? {
            println!("{}", file.display());
        }
        return Ok(0);
    }
    let mut host = HostSpec::new("image", "");
    // A seed in an image would be used again with each boot, and a key is the operator's to give.
    host.link = LinkKey::Operator;
    host.options = args.options.split_whitespace().map(str::to_string).collect();
    if let Some(level) = &args.linux {
        let linux = guest::debian()?;
        let mut vm = VmSpec::new("linux", &linux.kernel);
        vm.mem_mib = args.mem;
        vm.level.clone_from(level);
        vm.initrd = Some(linux.initrd);
        vm.cmdline = guest::SHELL_CMDLINE.to_string();
        host.vms.push(vm);
    }
    host.image(&args.output)?;
    println!("{}: boot line `{}`", args.output.display(), host.boot_line());
    Ok(0)
}
