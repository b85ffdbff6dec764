//! `pxe-lab`: the netboot folder served to a machine that boots from the network, a boot server and QEMU without a network.

use crate::{run, tools};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use testbench::emu::Network;
use testbench::emu::bochs::{self, Cpu};
use testbench::emu::qemu::Config;
use testbench::emu::{Media, Serial};
use testbench::hub::Hub;
use testbench::hub::serve::{self, Rules, Server};
use testbench::{guest, netboot, paths, release};

#[derive(clap::Args)]
#[command(after_help = "QEMU has no VMX without KVM: the host says so and waits. Ctrl-A then X ends it.")]
pub(crate) struct Args {
    /// How the machine boots.
    #[arg(value_enum)]
    way: Way,
    /// Load this file first, of a line in netboot/dnsmasq.conf: undionly.kpxe, pxelinux.0, grub/bios.0; with uefi
    /// snponly.efi, grub/uefi.efi.
    #[arg(long, value_name = "FILE")]
    instead: Option<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Way {
    /// A BIOS with iPXE, which runs flexvisor.ipxe.
    Bios,
    /// UEFI's own PXE, which loads flexvisor.efi by TFTP.
    Uefi,
    /// UEFI HTTP boot, which loads flexvisor.efi by HTTP.
    Http,
    /// Bochs, which has VMX: a BIOS with iPXE, and Debian's kernel as a guest. Ctrl-] leaves.
    Guest,
}

pub(crate) fn main(args: &Args) -> Result<u8> {
    let image = tools::build()?;
    if matches!(args.way, Way::Guest) {
        return guest_runs(&image);
    }
    let dir = paths::fresh_dir(&paths::build().join("lab"))?;
    let folder = release::netboot(&image, &dir)?;
    let (network, uefi) = match args.way {
        Way::Bios => (Network::Ipxe, false),
        Way::Uefi => (Network::Pxe, true),
        Way::Http => (Network::Http, true),
        Way::Guest => bail!("not QEMU's"),
    };
    let rules = std::fs::read_to_string(folder.join(netboot::DNSMASQ))?;
    let rules = Rules::parse(&rules, args.instead.as_deref())?;
    let hub = Hub::new();
    let server = Server::boot(&hub, 1, &folder, rules)?;
    let nic = Some(hub.plug(netboot::SAMPLE_MAC)?);
    let config = Config { uefi, nic, serial: [Serial::Absent; 2], ..Config::new(Media::Network(network)) };
    let mut words = config.arguments("lab", &dir)?;
    words.extend(["-serial", "mon:stdio"].map(str::to_string));
    println!("serving {} at {}", folder.display(), serve::ADDRESS);
    println!("+ qemu-system-x86_64 {}", words.join(" "));
    let status = Command::new("qemu-system-x86_64").args(words).status();
    println!("\nasked for:\n{}", server.asked().join("\n"));
    match status.context("cannot start qemu-system-x86_64 (package qemu-system-x86)")?.code() {
        Some(0) => Ok(0),
        code => bail!("QEMU ended with {code:?}"),
    }
}

/// The whole way from power-on to a guest, in Bochs.
fn guest_runs(image: &Path) -> Result<u8> {
    let dir = paths::fresh_dir(&paths::build().join("lab"))?;
    let (elf, folder) = (dir.join("flexvisor.elf"), dir.join("netboot"));
    std::fs::copy(image, &elf)?;
    let linux = guest::debian()?;
    netboot::with_guest(&[&elf], &linux.kernel, &linux.initrd, &folder)?;
    let rules = std::fs::read_to_string(folder.join(netboot::DNSMASQ))?;
    let hub = Hub::new();
    let server = Server::boot(&hub, 1, &folder, Rules::parse(&rules, None)?)?;
    let nic = Some(hub.plug(netboot::SAMPLE_MAC)?);
    let (cpu, media) = (Cpu::model("corei7_skylake_x"), Media::Network(Network::Ipxe));
    let mut machine =
        bochs::Config { mem_mib: 1024, nic, ..bochs::Config::new(cpu, media) }.start("lab", &dir)?;
    println!("serving {} at {}", folder.display(), serve::ADDRESS);
    println!("this is the host's console: `console demo` shows the guest's, Ctrl-] leaves");
    let terminal = run::Terminal::open();
    let left = Arc::default();
    let (mut shown, console) = (0, machine.serial[0].take().context("no console")?);
    run::forward_input(&console, terminal.is_some(), &left)?;
    while !left.load(Ordering::Relaxed) && machine.process.ended().is_none() {
        run::show(&console, &mut shown)?;
        console.wait_news(shown, Duration::from_millis(50));
    }
    drop(terminal);
    println!("\nasked for:\n{}", server.asked().join("\n"));
    Ok(0)
}
