//! QEMU: TCG for the boot paths (it has no VMX), KVM where the machine lends a guest real VMX.

use super::{Machine, Media, Network, Nic, Serial, accept, listen};
use crate::process::{MissingTool, Process};
use anyhow::Result;
use std::fs::{self, OpenOptions};
use std::path::Path;

const OVMF: &str = "/usr/share/OVMF";

/// How QEMU runs the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// Software; no VMX.
    Tcg,
    /// KVM, with the machine's own CPU (`host`) or one of [`KVM_MODELS`], VMX on.
    Kvm(&'static str),
}

/// QEMU's CPU models that KVM can lend VMX with what Flexvisor needs (docs/nested.md), oldest first.
pub const KVM_MODELS: [&str; 9] = [
    "Nehalem",
    "Westmere",
    "SandyBridge",
    "IvyBridge",
    "Haswell-noTSX",
    "Broadwell-noTSX",
    "Skylake-Server-noTSX-IBRS",
    "Cascadelake-Server-noTSX",
    "Icelake-Server-noTSX",
];

/// One emulated machine.
#[derive(Clone, Debug)]
pub struct Config {
    /// How the CPU is run.
    pub accel: Accel,
    /// Number of processors.
    pub cpus: u32,
    /// RAM in MiB.
    pub mem_mib: u32,
    /// What it boots.
    pub media: Media,
    /// COM1 and COM2.
    pub serial: [Serial; 2],
    /// The network card.
    pub nic: Option<Nic>,
    /// UEFI (OVMF) instead of a BIOS.
    pub uefi: bool,
    /// Further arguments; a later `-machine` wins.
    pub extra: Vec<String>,
}

/// The PCI slot of [`Serial::Card`].
pub const SERIAL_CARD: u8 = 0x10;

impl Config {
    /// A one-CPU TCG machine with 512 MiB and a console on COM1.
    pub fn new(media: Media) -> Self {
        let serial = [Serial::Console, Serial::Absent];
        Self {
            accel: Accel::Tcg,
            cpus: 1,
            mem_mib: 512,
            media,
            serial,
            nic: None,
            uefi: false,
            extra: Vec::new(),
        }
    }

    /// Starts the machine; its files go to `dir` under names that begin with `name`.
    pub fn start(&self, name: &str, dir: &Path) -> Result<Machine> {
        let mut args = self.arguments(name, dir)?;
        let mut push = |list: &[&str]| args.extend(list.iter().map(ToString::to_string));
        let ports = listen(self.serial)?;
        for (index, port) in ports.iter().enumerate() {
            let Some(port) = port else { continue };
            let id = format!("com{}", index + 1);
            push(&["-chardev", &format!("socket,id={id},host=127.0.0.1,port={}", port.number()?)]);
            let device = match self.serial.get(index) {
                Some(Serial::Card) => format!("pci-serial,chardev={id},addr={SERIAL_CARD:#x}"),
                _ => format!("isa-serial,chardev={id},index={index}"),
            };
            push(&["-device", &device]);
        }
        let log = dir.join(format!("{name}-qemu.log"));
        let mut process = Process::start("qemu-system-x86_64", "qemu-system-x86", &args, &log)?;
        let serial = accept(&ports, name, dir, &mut process, &log)?;
        Ok(Machine { process, serial, log })
    }

    /// QEMU's arguments but for the serial ports; files of its own go to `dir` under names that begin with `name`.
    ///
    /// # Errors
    /// OVMF is missing.
    pub fn arguments(&self, name: &str, dir: &Path) -> Result<Vec<String>> {
        let mut args: Vec<String> = Vec::new();
        let mut push = |list: &[&str]| args.extend(list.iter().map(ToString::to_string));
        match self.accel {
            Accel::Tcg => push(&["-accel", "tcg", "-cpu", "max"]),
            // a model that this machine cannot give is refused by QEMU, by feature
            Accel::Kvm(model) => push(&["-accel", "kvm", "-cpu", &format!("{model},+vmx,enforce")]),
        }
        push(&["-machine", "pc", "-display", "none", "-no-reboot", "-nodefaults", "-monitor", "none"]);
        push(&["-m", &self.mem_mib.to_string(), "-smp", &self.cpus.to_string()]);
        if self.uefi {
            let vars = dir.join(format!("{name}-vars.fd"));
            let missing = || MissingTool { tool: OVMF.to_string(), package: "ovmf" };
            fs::copy(format!("{OVMF}/OVMF_VARS_4M.fd"), &vars).map_err(|_| missing())?;
            push(&["-drive", &format!("if=pflash,format=raw,readonly=on,file={OVMF}/OVMF_CODE_4M.fd")]);
            push(&["-drive", &format!("if=pflash,format=raw,file={}", vars.display())]);
        }
        match &self.media {
            Media::Cd(image) => push(&["-cdrom", &image.to_string_lossy(), "-boot", "d"]),
            // What the machine writes is its own: several may boot one image.
            Media::Disk(image) => {
                push(&["-drive", &format!("format=raw,snapshot=on,file={}", image.display())]);
            }
            Media::Stick(image) => {
                push(&[
                    "-drive",
                    &format!("if=none,id=stick,format=raw,snapshot=on,file={}", image.display()),
                ]);
                push(&["-device", "qemu-xhci", "-device", "usb-storage,drive=stick,bootindex=0"]);
            }
            Media::Kernel { file, cmdline, modules } => {
                push(&["-kernel", &file.to_string_lossy(), "-append", cmdline]);
                if let Some(modules) = modules {
                    push(&["-initrd", modules]);
                }
            }
            Media::Network(_) => {}
        }
        let card = match self.media {
            Media::Network(Network::Ipxe) => "e1000,bootindex=0",
            // Without the card's ROM, which holds iPXE for UEFI as well.
            Media::Network(_) => "virtio-net-pci,romfile=,bootindex=0",
            _ => "e1000",
        };
        if self.media == Media::Network(Network::Http) {
            for version in ["IPv4", "IPv6"] {
                push(&["-fw_cfg", &format!("name=opt/org.tianocore/{version}PXESupport,string=n")]);
            }
        }
        if let Some(Nic { udp_port, mac }) = self.nic {
            let address =
                |side: &str, port: u16| format!("{side}.type=inet,{side}.host=127.0.0.1,{side}.port={port}");
            let ends = [address("local", udp_port), address("remote", udp_port + 1)].join(",");
            push(&["-netdev", &format!("dgram,id=net,{ends}")]);
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            push(&["-device", &format!("{card},netdev=net,mac={mac}")]);
        }
        args.extend(self.extra.iter().cloned());
        Ok(args)
    }
}

/// Asks whether this machine can lend real VMX to a guest; an error names what is missing and the cure.
pub fn kvm_vmx() -> Result<(), String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpu.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    if !flags.split_whitespace().any(|flag| flag == "vmx") {
        return Err("this machine has no VMX to lend: /proc/cpuinfo shows no flag vmx (an Intel CPU with VT-x is wanted)".into());
    }
    let parameter = "/sys/module/kvm_intel/parameters/nested";
    let nested = fs::read_to_string(parameter).unwrap_or_default();
    if !matches!(nested.trim(), "Y" | "1") {
        return Err(format!(
            "this machine's KVM lends no VMX: {parameter} is `{}`; load kvm_intel with nested=1",
            nested.trim()
        ));
    }
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => Ok(()),
        Err(e) => Err(format!("/dev/kvm does not open: {e}; be in the group kvm")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_those_whose_capabilities_are_recorded() {
        let recorded = include_str!("../../../crates/vmx-types/tests/qemu-models.txt");
        for model in KVM_MODELS {
            assert!(recorded.contains(&format!("\n{model}:")), "{model}");
        }
    }
}
