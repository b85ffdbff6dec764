//! The boot matrix: every way by which a machine can come to Flexvisor. Without VMX (QEMU) each ends at the line that says
//! so; with it (Bochs) in a running guest.

use super::{Case, Context};
use crate::emu::bochs::{self, Cpu};
use crate::emu::{Machine, Media};
use crate::emu::{Network, qemu};
use crate::hub::Hub;
use crate::hub::serve::{Rules, Server, Way as Given};
use crate::image::{self, Module, Protocol};
use crate::process::run_tool;
use crate::{guest, netboot, paths, release};
use anyhow::{Context as _, Result, anyhow, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
/// The first of these builds the UEFI application, the others wait for that.
pub(super) const LIMIT: u64 = 400;
/// SMBIOS UUID of the machines that boot from the network.
pub(super) const UUID: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
/// Without VMX the host says what is missing, and stays up.
pub(super) const NO_VMX: &str = "VMX is missing: not an Intel CPU";
/// The host in Bochs, and what its guest prints once it is in user space.
const MODEL: &str = "corei7_skylake_x";
const GUEST_RUNS: &str = "guest: init ran";
const GUEST_PATIENCE: Duration = Duration::from_secs(240);

/// One way.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    how: How,
    uefi: bool,
    /// What the banner says behind `via`.
    via: &'static str,
    /// What the loader calls itself.
    loader: &'static str,
    /// It is quick, and belongs to the ordinary run too.
    quick: bool,
}

#[derive(Clone, Copy)]
enum How {
    /// QEMU's `-kernel` with the image, or with the one for PVH.
    Kernel { pvh: bool },
    /// The release's hybrid image, as a CD or a USB stick.
    Iso { stick: bool },
    /// An image by the test's own use of GRUB.
    Grub,
    /// From the boot server; a file in place of the sample configuration's first choice.
    Net(Network, Option<&'static str>),
    /// In Bochs with a guest: from a CD, or the network.
    Guest { network: bool },
}

const fn way(name: &'static str, how: How, uefi: bool, via: &'static str, loader: &'static str) -> Way {
    Way { name, how, uefi, via, loader, quick: true }
}

const fn slow(way: Way) -> Way {
    Way { quick: false, ..way }
}

const GRUB: &str = "GRUB 2";
const UEFI: &str = "flexvisor.efi from ";

const WAYS: [Way; 18] = [
    way("multiboot1_qemu", How::Kernel { pvh: false }, false, "multiboot1", "qemu"),
    way("pvh_qemu", How::Kernel { pvh: true }, false, "pvh", "a nameless loader"),
    way("grub_bios", How::Grub, false, "multiboot2", GRUB),
    slow(way("grub_uefi", How::Grub, true, "multiboot2 (efi)", GRUB)),
    slow(way("iso_cd_bios", How::Iso { stick: false }, false, "multiboot2", GRUB)),
    way("iso_stick_bios", How::Iso { stick: true }, false, "multiboot2", GRUB),
    slow(way("iso_cd_uefi", How::Iso { stick: false }, true, "multiboot2 (efi)", GRUB)),
    way("iso_stick_uefi", How::Iso { stick: true }, true, "multiboot2 (efi)", GRUB),
    slow(way("pxelinux", How::Net(Network::Ipxe, Some("pxelinux.0")), false, "multiboot1", "PXELINUX")),
    way("ipxe_bios", How::Net(Network::Ipxe, None), false, "multiboot1", "iPXE"),
    slow(way("undionly", How::Net(Network::Ipxe, Some("undionly.kpxe")), false, "multiboot1", "iPXE")),
    slow(way("ipxe_uefi", How::Net(Network::Pxe, Some("snponly.efi")), true, "uefi", UEFI)),
    slow(way("grub_net_bios", How::Net(Network::Ipxe, Some("grub/bios.0")), false, "multiboot2", GRUB)),
    slow(way("grub_net_uefi", How::Net(Network::Pxe, Some("grub/uefi.efi")), true, "multiboot2 (efi)", GRUB)),
    way("pxe_uefi", How::Net(Network::Pxe, None), true, "uefi", UEFI),
    slow(way(
        "http_uefi",
        How::Net(Network::Http, None),
        true,
        "uefi",
        "flexvisor.efi from http://10.0.0.1/",
    )),
    slow(way("guest_iso", How::Guest { network: false }, false, "multiboot2", GRUB)),
    slow(way("guest_ipxe", How::Guest { network: true }, false, "multiboot1", "iPXE")),
];

pub(super) fn cases() -> Vec<Case> {
    let case = |way: &'static Way| {
        let case = Case::new(&format!("boot/{}", way.name), LIMIT, |context| way.run(context));
        Case { matrix: Some("boot"), slow: !way.quick, ..case }
    };
    WAYS.iter().map(case).collect()
}

impl Way {
    fn run(&self, context: &Context) -> Result<()> {
        let hub = Hub::new();
        if matches!(self.how, How::Net(..) | How::Guest { network: true }) {
            hub.capture(&context.dir.join("wire.pcap"))?;
        }
        let (mut machine, server) = self.start(context, &hub)?;
        let outcome = self.watch(context, &mut machine);
        if let Some(server) = server {
            let asked = server.asked();
            fs::write(context.dir.join("served.log"), asked.join("\n") + "\n")?;
            if let How::Net(_, Some(file)) = self.how {
                ensure!(asked.contains(&format!("tftp {file}")), "{file} was not loaded: {asked:?}");
            }
        }
        outcome
    }

    fn watch(&self, context: &Context, machine: &mut Machine) -> Result<()> {
        let bochs = matches!(self.how, How::Guest { .. });
        let ends = if bochs { "ready: 1 vm" } else { NO_VMX };
        let console = machine.serial[0].as_mut().context("no console")?;
        console.set_deadline(context.deadline);
        console.expect("Flexvisor *via ", PATIENCE)?;
        console.expect(ends, PATIENCE)?;
        if !bochs {
            console.expect("ready: 0 vms (no VMX)", PATIENCE)?;
        }
        let text = console.text();
        let after = |mark: &str| text.lines().find_map(|line| Some(line.split_once(mark)?.1.trim_end()));
        let via = after(" via ").unwrap_or_default();
        ensure!(via == self.via, "the banner says `via {via}`");
        let loader = after("loaded by ").unwrap_or_default();
        ensure!(loader.starts_with(self.loader), "loaded by `{loader}`");
        for part in self.parts() {
            ensure!(text.contains(part), "nothing on the console says {part}");
        }
        let loader = loader.split(", command line").next().unwrap_or_default();
        context.note(&format!("via {via}, loaded by {loader}"));
        if bochs {
            // A VM of this size is made while the console answers already.
            if !console.text().contains("vm demo: running") {
                console.expect("vm demo: running", GUEST_PATIENCE)?;
            }
            console.send_line("console demo")?;
            console.expect(GUEST_RUNS, GUEST_PATIENCE)?;
        }
        Ok(())
    }

    /// What the host must have got beside the image: the settings of this very host, which ask for this line, and two
    /// modules.
    fn parts(&self) -> &[&str] {
        match self.how {
            How::Net(..) => &["boot: memory 0x", "`vm=demo mem=512 -- console=ttyS0`", "KiB, `for=demo`"],
            How::Guest { .. } => &["vm=demo mem=512"],
            _ => &[],
        }
    }

    fn start(&self, context: &Context, hub: &Hub) -> Result<(Machine, Option<Server>)> {
        let dir = context.dir.as_path();
        let media = match self.how {
            How::Kernel { pvh } => {
                let cmdline = "console=com1".to_string();
                let file = if pvh { dir.join("flexvisor-pvh.elf") } else { paths::hypervisor() };
                if pvh {
                    fs::write(&file, release::pvh(&fs::read(paths::hypervisor())?)?)?;
                }
                Media::Kernel { file, cmdline, modules: None }
            }
            How::Iso { stick: true } => Media::Stick(iso(context)?),
            How::Iso { stick: false } => Media::Cd(iso(context)?),
            How::Grub => Media::Disk(self.grub(dir)?),
            How::Net(network, instead) => {
                return net(context, hub, &netboot(context)?, network, instead, false);
            }
            How::Guest { network } => return self.start_guest(context, hub, network),
        };
        let config = qemu::Config { uefi: self.uefi, ..qemu::Config::new(media) };
        Ok((config.start("host", dir)?, None))
    }

    /// A disk with GRUB: in its boot sector, or as UEFI's boot loader.
    fn grub(&self, dir: &Path) -> Result<PathBuf> {
        let (kernel, cmdline) = (paths::hypervisor(), "console=com1".to_string());
        let (protocol, file) = (Protocol::Multiboot2, dir.join("grub.img"));
        let spec = image::Spec { protocol, kernel, cmdline, modules: Vec::new() };
        if !self.uefi {
            image::build(&spec, &file)?;
            return Ok(file);
        }
        let core = dir.join("grub.efi");
        let mut command = Command::new("grub-mkimage");
        command.args(["-d", "/usr/lib/grub/x86_64-efi", "-O", "x86_64-efi", "-p", "/boot/grub", "-o"]);
        run_tool(command.arg(&core).args(["normal", "fat", "multiboot2"]), "grub-common")?;
        let menu = image::grub_cfg(&spec)?;
        let files: [(&str, &[u8]); 3] = [
            ("EFI/BOOT/BOOTX64.EFI", &fs::read(&core)?),
            ("boot/kernel", &fs::read(&spec.kernel)?),
            ("boot/grub/grub.cfg", menu.as_bytes()),
        ];
        release::efi_disk(&files, &file)?;
        Ok(file)
    }

    /// The samples as they are told to be used, with Debian's kernel as the guest.
    fn start_guest(&self, context: &Context, hub: &Hub, network: bool) -> Result<(Machine, Option<Server>)> {
        let dir = context.dir.as_path();
        let linux = guest::debian()?;
        let (media, server, nic) = if network {
            let folder = dir.join("netboot");
            let elf = dir.join("flexvisor.elf");
            fs::copy(paths::hypervisor(), &elf)?;
            netboot::with_guest(&[&elf], &linux.kernel, &linux.initrd, &folder)?;
            let rules = fs::read_to_string(folder.join(netboot::DNSMASQ))?;
            let server = Server::boot(hub, 1, &folder, Rules::parse(&rules, None)?)?;
            (Media::Network(Network::Ipxe), Some(server), Some(hub.plug(netboot::SAMPLE_MAC)?))
        } else {
            let module = |file: &Path, line: &str| Module { file: file.into(), line: line.to_string() };
            let modules = [
                module(&linux.kernel, "vm=demo mem=512 -- console=ttyS0"),
                module(&linux.initrd, "for=demo"),
            ];
            let file = dir.join("flexvisor.iso");
            release::iso(&paths::hypervisor(), "console=com1", &modules, &file)?;
            (Media::Cd(file), None, None)
        };
        let config = bochs::Config { mem_mib: 1024, nic, ..bochs::Config::new(Cpu::model(MODEL), media) };
        Ok((config.start("host", dir)?, server))
    }
}

/// A machine in QEMU that boots from `folder` by the network; `redirected`: what a BIOS shows on the screen comes to COM1,
/// too, as with a server's console redirection.
fn net(
    context: &Context,
    hub: &Hub,
    folder: &Path,
    network: Network,
    instead: Option<&str>,
    redirected: bool,
) -> Result<(Machine, Option<Server>)> {
    let rules = fs::read_to_string(folder.join(netboot::DNSMASQ))?;
    let server = Server::boot(hub, 1, folder, Rules::parse(&rules, instead)?)?;
    let nic = Some(hub.plug(netboot::SAMPLE_MAC)?);
    let uefi = network != Network::Ipxe;
    let mut extra = ["-uuid", UUID].map(str::to_string).to_vec();
    if redirected {
        extra.extend(["-machine", "pc,graphics=off"].map(str::to_string));
    }
    let config = qemu::Config { uefi, nic, extra, ..qemu::Config::new(Media::Network(network)) };
    Ok((config.start("host", &context.dir)?, Some(server)))
}

/// Files that `flexvisor.efi` does not find where it was loaded from, or gets in part: each is named, and so is the VM that
/// lacks one. The host's own settings, by its UUID, are there.
pub(super) fn missing(context: &Context, network: Network) -> Result<()> {
    let folder = context.dir.join("netboot");
    fs::create_dir(&folder)?;
    for name in [netboot::DNSMASQ, "flexvisor.efi", "flexvisor.cfg", "initrd.img"] {
        fs::copy(netboot(context)?.join(name), folder.join(name))?;
    }
    fs::create_dir(folder.join("host.cfg"))?;
    let own = "loglevel=debug\nmodule cut for=demo\nmodule silent for=demo\n";
    fs::write(folder.join(format!("host.cfg/{UUID}")), own)?;
    let hub = Hub::new();
    let (mut machine, server) = net(context, &hub, &folder, network, None, false)?;
    let server = server.context("a server")?;
    server.put("cut", vec![1; 40_000], Given::EndsAfter(20_000));
    server.put("silent", vec![1; 40_000], Given::SilentAfter(20_000));
    let console = machine.serial[0].as_mut().context("no console")?;
    console.set_deadline(context.deadline);
    console.expect(&format!("flexvisor.efi: settings from host.cfg/{UUID}"), PATIENCE)?;
    // On the firmware's console, then on the host's own.
    for said in ["flexvisor.efi: error: ", "boot: error: flexvisor.efi: "] {
        for line in [
            &format!("host.cfg/{UUID} line 2: module cut: truncated: 20000 of 40000 bytes"),
            &format!("host.cfg/{UUID} line 3: module silent: "),
            "flexvisor.cfg line 3: module vmlinuz is not there",
            "vm demo is left out: a file of it is missing",
        ] {
            console.expect(&format!("{said}{line}"), PATIENCE)?;
        }
    }
    console.expect(NO_VMX, PATIENCE)?;
    ensure!(!console.text().contains("vm=demo"), "a VM without its kernel came through");
    let asked = server.asked();
    ensure!(asked.iter().any(|line| line.ends_with("vmlinuz (none)")), "{asked:?}");
    Ok(())
}

/// Half an image, by TFTP: the loader says so on the serial line.
pub(super) fn cut_short(context: &Context, first: &str, said: &str) -> Result<()> {
    let hub = Hub::new();
    let (mut machine, server) = net(context, &hub, &netboot(context)?, Network::Ipxe, Some(first), false)?;
    let image = fs::read(paths::hypervisor())?;
    let half = Given::EndsAfter(image.len() / 2);
    let server = server.context("a server")?;
    server.put("flexvisor.elf", image, half);
    let console = machine.serial[0].as_mut().context("no console")?;
    console.set_deadline(context.deadline);
    console.expect(said, PATIENCE)?;
    Ok(())
}

/// The image is not on the server yet: iPXE says so, tries again, and boots once it is.
pub(super) fn comes_later(context: &Context) -> Result<()> {
    let folder = context.dir.join("netboot");
    fs::create_dir(&folder)?;
    for name in [netboot::DNSMASQ, "flexvisor.ipxe", "vmlinuz", "initrd.img"] {
        fs::copy(netboot(context)?.join(name), folder.join(name))?;
    }
    let hub = Hub::new();
    let (mut machine, server) = net(context, &hub, &folder, Network::Ipxe, None, true)?;
    let console = machine.serial[0].as_mut().context("no console")?;
    console.set_deadline(context.deadline);
    for line in ["flexvisor.elf... No such file or directory", "Flexvisor cannot be loaded: again in 30 s"] {
        console.expect(line, PATIENCE)?;
    }
    let server = server.context("a server")?;
    server.put("flexvisor.elf", fs::read(paths::hypervisor())?, Given::Whole);
    console.expect("Flexvisor *via multiboot1", PATIENCE)?;
    console.expect(NO_VMX, PATIENCE)?;
    Ok(())
}

/// The folder of the boot server with its samples in use, one for all cases of a run. The guest's files are none: no guest
/// runs without VMX.
fn netboot(context: &Context) -> Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&FOLDER, || {
        let dir = release::netboot(&paths::hypervisor(), &shared(context)?)?;
        netboot::enable_modules(&dir)?;
        for (name, size) in [("vmlinuz", 5000), ("initrd.img", 70_000)] {
            fs::write(dir.join(name), vec![7; size])?;
        }
        Ok(dir)
    })
}

/// The hybrid image, one for all cases of a run.
fn iso(context: &Context) -> Result<PathBuf> {
    static IMAGE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&IMAGE, || {
        let file = shared(context)?.join("flexvisor.iso");
        release::iso(&paths::hypervisor(), "console=com1", &[], &file)?;
        Ok(file)
    })
}

fn shared(context: &Context) -> Result<PathBuf> {
    let dir = context.dir.parent().context("a run's folder")?.join("release");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn once(cell: &OnceLock<Result<PathBuf, String>>, make: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    cell.get_or_init(|| make().map_err(|error| format!("{error:#}"))).clone().map_err(|error| anyhow!(error))
}
