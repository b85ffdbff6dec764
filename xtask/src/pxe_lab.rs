//! `pxe-lab`: the netboot folder served to a machine that boots from the network, all in one QEMU without a network.

use crate::tools;
use anyhow::{Context, Result, bail};
use std::process::Command;
use testbench::emu::qemu::{Config, Network};
use testbench::emu::{Media, Serial};
use testbench::{paths, release};

#[derive(clap::Args)]
#[command(after_help = "QEMU has no VMX without KVM: the host says so and waits. Ctrl-A then X ends it.")]
pub(crate) struct Args {
    /// How the machine boots.
    #[arg(value_enum)]
    way: Way,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Way {
    /// A BIOS with iPXE, which runs flexvisor.ipxe.
    Bios,
    /// UEFI's own PXE, which loads flexvisor.efi.
    Uefi,
}

pub(crate) fn main(args: &Args) -> Result<u8> {
    let image = tools::build()?;
    let dir = paths::fresh_dir(&paths::build().join("release"))?;
    release::make(&image, &dir)?;
    let (network, uefi) = match args.way {
        Way::Bios => (Network::Ipxe("flexvisor.ipxe"), false),
        Way::Uefi => (Network::Uefi("flexvisor.efi"), true),
    };
    let media = Media::Network(dir.join("netboot"), network);
    let config = Config { uefi, serial: [Serial::Absent; 2], ..Config::new(media) };
    let mut words = config.arguments("lab", &dir)?;
    words.extend(["-serial", "mon:stdio"].map(str::to_string));
    println!("+ qemu-system-x86_64 {}", words.join(" "));
    let status = Command::new("qemu-system-x86_64").args(words).status();
    match status.context("cannot start qemu-system-x86_64 (package qemu-system-x86)")?.code() {
        Some(0) => Ok(0),
        code => bail!("QEMU ended with {code:?}"),
    }
}
