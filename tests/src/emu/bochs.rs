//! Bochs: emulates Intel CPUs with VMX in software, so that it runs everywhere.

use super::{IPS, Machine, Media, Network, Nic, Serial, accept, listen};
use crate::console::Port;
use crate::paths;
use crate::process::Process;
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Intel models of every Bochs that have EPT, oldest first.
const MODELS_WITH_EPT: [&str; 10] = [
    "corei5_lynnfield_750",
    "corei5_arrandale_m520",
    "corei7_sandy_bridge_2600k",
    "corei7_ivy_bridge_3770k",
    "corei7_haswell_4770",
    "broadwell_ult",
    "corei7_skylake_x",
    "corei3_cnl",
    "corei7_icelake_u",
    "tigerlake",
];

/// Those that Bochs 3.0 has besides.
const MODELS_OF_BOCHS_3: [&str; 2] = ["sapphire_rapids", "arrow_lake"];

/// Which Bochs plays the hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edition {
    /// 2.7, installed from Debian 12.
    Bochs2,
    /// 3.0 of Debian 13, as `scripts/setup --bochs3` unpacks it.
    Bochs3,
}

impl Edition {
    /// As `FLEXVISOR_BOCHS` says: 2, which is meant without it, or 3.
    ///
    /// # Errors
    /// Another value.
    pub fn chosen() -> Result<Self> {
        match std::env::var("FLEXVISOR_BOCHS").as_deref() {
            Err(_) | Ok("" | "2") => Ok(Self::Bochs2),
            Ok("3") => Ok(Self::Bochs3),
            Ok(other) => bail!("FLEXVISOR_BOCHS={other}: 2 or 3 is possible"),
        }
    }

    /// The program and the folder of the BIOS images.
    ///
    /// # Errors
    /// It has not been unpacked.
    fn parts(self) -> Result<(PathBuf, PathBuf)> {
        match self {
            Self::Bochs2 => Ok(("bochs-bin".into(), "/usr/share/bochs".into())),
            Self::Bochs3 => {
                let program = paths::bochs3().join("bochs-bin");
                ensure!(program.is_file(), "Bochs 3.0 is not there: `scripts/setup --bochs3` unpacks it");
                Ok((program, paths::bochs3().join("usr/share/bochs")))
            }
        }
    }
}

/// Intel models with EPT of the Bochs that `FLEXVISOR_BOCHS` chooses, oldest first.
pub fn models_with_ept() -> impl Iterator<Item = &'static str> + Clone {
    let newer: &[&str] = match Edition::chosen() {
        Ok(Edition::Bochs3) => &MODELS_OF_BOCHS_3,
        _ => &[],
    };
    MODELS_WITH_EPT.into_iter().chain(newer.iter().copied())
}

/// Models on which Flexvisor must say what is missing: no EPT, and no VMX.
pub const MODELS_REFUSED: [&str; 7] = [
    "core2_penryn_t9600",
    "athlon64_venice",
    "turion64_tyler",
    "phenom_8650_toliman",
    "zambezi",
    "trinity_apu",
    "ryzen",
];

/// The emulated processor.
#[derive(Clone, Debug)]
pub enum Cpu {
    /// One of Bochs' models by name.
    Model(String),
    /// `model=bx_generic` with the text of a `cpuid:` line.
    Generic(String),
}

impl Cpu {
    /// A named model.
    pub fn model(name: &str) -> Self {
        Self::Model(name.to_string())
    }
}

/// One emulated machine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Processor model.
    pub cpu: Cpu,
    /// Number of processors.
    pub cpus: u32,
    /// Instructions per emulated second.
    pub ips: u64,
    /// RAM in MiB.
    pub mem_mib: u32,
    /// What it boots.
    pub media: Media,
    /// COM1 and COM2.
    pub serial: [Serial; 2],
    /// The network card.
    pub nic: Option<Nic>,
}

/// iPXE for the card, of the package ipxe-qemu, which QEMU depends on.
const IPXE: &str = "/usr/lib/ipxe/qemu/pxe-e1000.rom";

/// Held while an emulator starts. Bochs 2.7 binds its display to the first port from 5900 on with SO_REUSEADDR: two that
/// start in the same moment bind the same one, and the second, which cannot listen there, ends.
static STARTING: Mutex<()> = Mutex::new(());
const DISPLAY_PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the emulator's log says that its display has a port of its own.
fn wait_for_display(log: &Path) -> Result<()> {
    let deadline = Instant::now() + DISPLAY_PATIENCE;
    while !std::fs::read_to_string(log).is_ok_and(|text| text.contains("listening for connections on port")) {
        ensure!(Instant::now() < deadline, "Bochs has no display port yet, see {}", log.display());
        thread::park_timeout(Duration::from_millis(5));
    }
    Ok(())
}

impl Config {
    /// A one-CPU machine with 512 MiB and a console on COM1.
    pub fn new(cpu: Cpu, media: Media) -> Self {
        let serial = [Serial::Console, Serial::Absent];
        Self { cpu, cpus: 1, ips: IPS, mem_mib: 512, media, serial, nic: None }
    }

    /// Starts the machine; its files go to `dir` under names that begin with `name`.
    pub fn start(&self, name: &str, dir: &Path) -> Result<Machine> {
        let (program, images) = Edition::chosen()?.parts()?;
        let ports = listen(self.serial)?;
        let numbers = ports.iter().map(|port| port.as_ref().map(Port::number).transpose());
        let numbers = numbers.collect::<Result<Vec<_>>>()?;
        let log = dir.join(format!("{name}-bochs.log"));
        let rc = dir.join(format!("{name}-bochsrc"));
        let commands = dir.join(format!("{name}-bochs-commands"));
        std::fs::write(&rc, self.rc(&numbers, &images, &log)?)
            .with_context(|| format!("cannot write {}", rc.display()))?;
        // Debian's build has the debugger in, which waits for the order to go on.
        std::fs::write(&commands, "c\n")?;
        let args = [c("-q"), c("-f"), rc.into(), c("-rc"), commands.into()];
        let starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut process = Process::start(
            &program.to_string_lossy(),
            "bochs",
            args,
            &dir.join(format!("{name}-bochs.out")),
        )?;
        let serial = accept(&ports, name, dir, &mut process, &log)?;
        wait_for_display(&log)?;
        drop(starting);
        Ok(Machine { process, serial, log })
    }

    /// The configuration, with serial lines to these TCP ports.
    fn rc(&self, serial: &[Option<u16>], images: &Path, log: &Path) -> Result<String> {
        let mut rc = String::new();
        let Self { cpus, ips, mem_mib, .. } = self;
        let images = images.display();
        writeln!(rc, "romimage: file={images}/BIOS-bochs-latest")?;
        writeln!(rc, "vgaromimage: file={images}/VGABIOS-lgpl-latest")?;
        writeln!(rc, "display_library: rfb, options=\"timeout=0\"")?;
        // Without these two Bochs 2.7 dies of a buffer overflow in its mixer on machines that have no sound card.
        writeln!(rc, "sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy")?;
        writeln!(rc, "speaker: enabled=0")?;
        writeln!(rc, "megs: {mem_mib}")?;
        let (model, cpuid) = match &self.cpu {
            Cpu::Model(name) => (name.as_str(), None),
            Cpu::Generic(cpuid) => ("bx_generic", Some(cpuid)),
        };
        writeln!(rc, "cpu: model={model}, count={cpus}, ips={ips}, reset_on_triple_fault=0")?;
        if let Some(cpuid) = cpuid {
            writeln!(rc, "cpuid: {cpuid}")?;
        }
        writeln!(rc, "clock: sync=none")?;
        match &self.media {
            Media::Cd(image) => {
                writeln!(rc, "ata0-master: type=cdrom, path={}, status=inserted", image.display())?;
                writeln!(rc, "boot: cdrom")?;
            }
            Media::Disk(image) => {
                writeln!(rc, "ata0-master: type=disk, path={}, mode=flat, cylinders=0", image.display())?;
                writeln!(rc, "boot: disk")?;
            }
            Media::Kernel { file, .. } => bail!("Bochs cannot load {} by itself", file.display()),
            Media::Stick(_) => bail!("Bochs starts from no USB stick"),
            Media::Network(Network::Ipxe) => writeln!(rc, "boot: network")?,
            Media::Network(other) => bail!("Bochs has no UEFI: {other:?}"),
        }
        for (index, port) in serial.iter().enumerate() {
            match port {
                Some(port) => {
                    writeln!(rc, "com{}: enabled=1, mode=socket-client, dev=127.0.0.1:{port}", index + 1)?;
                }
                None => writeln!(rc, "com{}: enabled=0", index + 1)?,
            }
        }
        if let Some(Nic { udp_port, mac }) = self.nic {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            let rom = match self.media {
                Media::Network(_) => format!(", bootrom={IPXE}"),
                _ => String::new(),
            };
            writeln!(rc, "pci: enabled=1, chipset=i440fx, slot1=e1000")?;
            writeln!(rc, "e1000: enabled=1, card=0, mac={mac}, ethmod=socket, ethdev={udp_port}{rom}")?;
        }
        writeln!(rc, "log: {}", log.display())?;
        // A panic (a guest's wild access to a device, say) goes to the log; the run's own time-outs do the rest.
        writeln!(rc, "panic: action=report")?;
        Ok(rc)
    }
}

fn c(text: &str) -> std::ffi::OsString {
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rc_names_all_parts() {
        let mut config = Config::new(Cpu::Generic("level=6".into()), Media::Cd("/x.iso".into()));
        config.nic = Some(Nic { udp_port: 21000, mac: [0x52, 0x54, 0, 0, 0, 0x1a] });
        let rc = config.rc(&[Some(4000), None], Path::new("/b"), Path::new("/l")).unwrap();
        for line in [
            "romimage: file=/b/BIOS-bochs-latest",
            "cpu: model=bx_generic, count=1, ips=20000000, reset_on_triple_fault=0",
            "cpuid: level=6",
            "com1: enabled=1, mode=socket-client, dev=127.0.0.1:4000",
            "com2: enabled=0",
            "ata0-master: type=cdrom, path=/x.iso, status=inserted",
            "e1000: enabled=1, card=0, mac=52:54:00:00:00:1a, ethmod=socket, ethdev=21000",
            "log: /l",
        ] {
            assert!(rc.lines().any(|l| l == line), "{line} is not in\n{rc}");
        }
    }

    #[test]
    fn kernel_media_is_refused() {
        let media = Media::Kernel { file: "/k".into(), cmdline: String::new(), modules: None };
        assert!(
            Config::new(Cpu::model("x"), media).rc(&[None, None], Path::new("/b"), Path::new("/l")).is_err()
        );
    }
}
