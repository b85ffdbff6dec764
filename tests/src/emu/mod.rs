//! The emulators that play the hosts.

pub mod bochs;
pub mod qemu;

use crate::console::{Console, Port};
use crate::process::Process;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Emulated instructions per emulated second. One number for everything that has a network: Bochs' Ethernet takes in
/// one frame per emulated millisecond, so a smaller number makes the network faster against the CPU.
pub const IPS: u64 = 20_000_000;

/// What an emulator starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// An El Torito image in the CD drive.
    Cd(PathBuf),
    /// The same image as the first hard disk.
    Disk(PathBuf),
    /// The same image on a USB stick (QEMU only).
    Stick(PathBuf),
    /// A Multiboot 1 or PVH kernel loaded by the emulator itself (QEMU only), with a command line and modules.
    Kernel {
        /// The kernel's file.
        file: PathBuf,
        /// Its command line.
        cmdline: String,
        /// The argument of `-initrd`.
        modules: Option<String>,
    },
    /// What a boot server on the hub has for it.
    Network(Network),
}

/// What fetches the first file where a machine boots from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// iPXE in the option ROM of the card, under a BIOS.
    Ipxe,
    /// The PXE client of UEFI itself.
    Pxe,
    /// The HTTP client of UEFI itself.
    Http,
}

/// An 82540EM whose frames go to and come from the hub.
#[derive(Clone, Copy, Debug)]
pub struct Nic {
    /// UDP port that Bochs binds; it sends to the next one.
    pub udp_port: u16,
    /// Its Ethernet address.
    pub mac: [u8; 6],
}

/// Where a serial port of the emulated machine goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    /// No such port.
    Absent,
    /// A [`Console`].
    Console,
    /// The same on a PCI card in slot [`qemu::SERIAL_CARD`] (QEMU only).
    Card,
}

/// A running emulated machine. Dropping it ends it.
pub struct Machine {
    /// The emulator.
    pub process: Process,
    /// Serial ports that are consoles, by number from COM1 on.
    pub serial: Vec<Option<Console>>,
    /// The emulator's own log.
    pub log: PathBuf,
}

/// How long an emulator may take to connect its serial ports.
const CONNECT: Duration = Duration::from_secs(20);

/// A listening socket for each port that is to be a console. The emulators connect to us: no port number can be
/// taken by another between choice and use.
fn listen(serial: [Serial; 2]) -> Result<Vec<Option<Port>>> {
    let open = |kind| if kind == Serial::Absent { Ok(None) } else { Port::open().map(Some) };
    serial.into_iter().map(open).collect()
}

fn accept(
    ports: &[Option<Port>],
    name: &str,
    dir: &Path,
    process: &mut Process,
    log: &Path,
) -> Result<Vec<Option<Console>>> {
    let mut serial = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let Some(port) = port else {
            serial.push(None);
            continue;
        };
        let file = dir.join(format!("{name}-com{}.log", index + 1));
        let console = port.accept(&format!("{name} com{}", index + 1), &file, CONNECT);
        serial.push(Some(console.with_context(|| match process.ended() {
            Some(status) => format!("{} ended at once ({status}), see {}", process.name(), log.display()),
            None => format!("see {}", log.display()),
        })?));
    }
    Ok(serial)
}

impl Machine {
    /// An error with the emulator's last words if it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.process.ended() {
            let text = std::fs::read(&self.log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            bail!(
                "{} ended ({status}); last lines of {}:\n{}",
                self.process.name(),
                self.log.display(),
                crate::console::tail(&text, 15)
            );
        }
        Ok(())
    }
}
