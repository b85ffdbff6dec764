//! `image`: a bootable image for a real machine or an emulator.

use crate::tools;
use anyhow::{Result, bail, ensure};
use cmdline::{HostOptions, ModuleRole};
use std::path::{Path, PathBuf};
use testbench::host::VmSpec;
use testbench::image::Module;
use testbench::{guest, paths, release};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the image goes.
    #[arg(long, default_value = "build/flexvisor.iso")]
    output: PathBuf,
    /// The host's boot options.
    #[arg(long, default_value = "console=com1")]
    options: String,
    /// A boot module, more than once if wanted: a guest's kernel, its initrd (docs/boot-options.md).
    #[arg(long = "module", value_name = "FILE LINE")]
    modules: Vec<String>,
    /// Add a VM with Debian's kernel and the demo initramfs, at this CPU level.
    #[arg(long, value_name = "LEVEL")]
    linux: Option<String>,
    /// Make a release instead: all images and their sums, in build/release.
    #[arg(long, conflicts_with_all = ["output", "options", "modules", "linux", "mem"])]
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
    let mut modules = args.modules.iter().map(|row| module(row)).collect::<Result<Vec<_>>>()?;
    if let Some(level) = &args.linux {
        let linux = guest::debian()?;
        let mut vm = VmSpec::new("linux", &linux.kernel);
        vm.mem_mib = args.mem;
        vm.level.clone_from(level);
        vm.initrd = Some(linux.initrd);
        vm.cmdline = guest::SHELL_CMDLINE.to_string();
        modules.extend(vm.modules());
    }
    check(&args.options, &modules)?;
    release::iso(&image, &args.options, &modules, &args.output)?;
    println!("{}: boot line `{}`", args.output.display(), args.options);
    Ok(0)
}

fn module(row: &str) -> Result<Module> {
    let (file, line) = row.trim().split_once(' ').unwrap_or((row, ""));
    let file = PathBuf::from(file);
    ensure!(file.is_file(), "--module: there is no file {}", file.display());
    Ok(Module { file, line: line.trim().to_string() })
}

/// What the host would only say once it is up.
fn check(options: &str, modules: &[Module]) -> Result<()> {
    if let Some(warning) = HostOptions::parse(options).1.first() {
        bail!("--options: {}", warning.error);
    }
    for Module { file, line } in modules {
        let file = Path::new(file).display();
        match ModuleRole::parse(line) {
            Ok(ModuleRole::Other) => bail!("--module {file}: the line `{line}` has neither vm= nor for="),
            Ok(_) => {}
            Err(refused) => bail!("--module {file}: {refused}"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: &str, line: &str) -> String {
        let module = Module { file: "vmlinuz".into(), line: line.to_string() };
        check(options, &[module]).map_err(|error| error.to_string()).unwrap_err()
    }

    #[test]
    fn a_line_that_the_host_would_refuse_makes_no_image() {
        let good = Module { file: "vmlinuz".into(), line: "vm=web mem=512 -- console=ttyS0".to_string() };
        check("console=com2 ip=dhcp", &[good]).unwrap();
        assert!(refused("console=com2 ip=dchp", "vm=a").contains("dchp"));
        assert!(refused("", "vm=a mem=lots").contains("mem=lots"));
        assert!(refused("", "a b").contains("`a b`"));
        assert!(module("/nowhere/vmlinuz vm=a").unwrap_err().to_string().contains("/nowhere/vmlinuz"));
    }
}
