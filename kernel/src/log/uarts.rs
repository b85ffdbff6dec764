//! Which serial ports the console is on: those of the boot line, else the one that firmware names, else COM1.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use acpi_tables::Spcr;
use bootinfo::BootInfo;
use cmdline::{COM1_PORT, COM2_PORT, Console, HostOptions, SerialUse, Uart};

use hw::platform::pci::{self, Bar};
use hw::platform::serial::{Registers, Serial};

/// PCI class 07: simple communication; 00 is a serial port, 02 a card with more than one.
const CLASS_SERIAL: [(u8, u8); 2] = [(7, 0), (7, 2)];
/// I/O ports of a 16550.
const PORTS: u64 = 8;
/// Where the boot loader's page tables end.
const MAPPED: u64 = 1 << 32;

/// What was opened.
#[derive(Default)]
pub(crate) struct Opened {
    /// The ports, in the order of the console's numbers.
    pub(crate) ports: Vec<Uart>,
    /// Registers in memory, which the page tables must map.
    pub(crate) in_memory: Vec<Registers>,
    /// For the log: which rule chose the ports.
    pub(crate) by: &'static str,
    /// For the log: what is wrong.
    pub(crate) warnings: Vec<String>,
}

impl Opened {
    /// The ports' names, for the line that says that the host is ready.
    pub(crate) fn names(ports: &[Uart]) -> String {
        let names: Vec<String> = ports.iter().map(|uart| format!("{uart}")).collect();
        names.join(" and ")
    }

    fn open(&mut self, console: Console, info: Option<&BootInfo>) -> Result<(), String> {
        let registers = registers(console.uart)?;
        if let Some((at, len)) = registers.memory() {
            let end = at.0.saturating_add(len);
            if end > MAPPED {
                return Err("it lies above 4 GiB, where the console cannot be".into());
            }
            if info.is_none_or(|info| {
                info.memory.iter().any(|r| r.kind.is_ram() && r.start < end && at.0 < r.end)
            }) {
                return Err("RAM is there".into());
            }
        }
        let serial = Serial::open(registers, console.baud).ok_or("no 16550 answers there")?;
        super::open(serial).ok_or("there are enough consoles")?;
        self.ports.push(console.uart);
        if registers.memory().is_some() {
            self.in_memory.push(registers);
        }
        Ok(())
    }
}

/// Opens the console's ports. `info` is missing where the boot loader said nothing of use.
pub(crate) fn open(options: &HostOptions, spcr: Option<Spcr>, info: Option<&BootInfo>) -> Opened {
    let mut opened = Opened { by: "boot line", ..Opened::default() };
    for console in &options.consoles {
        if let Err(why) = opened.open(*console, info) {
            opened.warnings.push(format!("no console on {}: {why}", console.uart));
        }
    }
    if options.consoles.is_empty()
        && let Some(spcr) = spcr
    {
        opened.by = "ACPI SPCR";
        if let Err(why) = by_firmware(options, spcr).and_then(|console| opened.open(console, info)) {
            opened.warnings.push(format!("the console that ACPI SPCR names is not used: {why}"));
        }
    }
    if opened.ports.is_empty() {
        opened.by = "default";
        opened.ports.push(Uart::Io(COM1_PORT));
        // With as few questions as can be: there is no other way to tell anybody anything.
        if let Some(serial) = Serial::open_com1() {
            super::open(serial);
        }
    }
    opened
}

fn by_firmware(options: &HostOptions, spcr: Spcr) -> Result<Console, String> {
    let uart = match spcr.uart() {
        Some(acpi_tables::Registers::Io(port)) => Uart::Io(port),
        Some(acpi_tables::Registers::Memory(address, stride)) => Uart::Memory { address, stride },
        None => return Err(format!("kind {:#x} at {:#x} is no 16550", spcr.interface, spcr.address.address)),
    };
    for (port, owner) in [(COM1_PORT, &options.com1), (COM2_PORT, &options.com2)] {
        if let (SerialUse::Vm(vm), true) = (owner, uart == Uart::Io(port)) {
            return Err(format!("the boot line gives {uart} to vm {vm}"));
        }
    }
    // A rate that no divisor gives stays as firmware has set it.
    Ok(Console { uart, baud: spcr.baud.filter(|baud| cmdline::MAX_BAUD.is_multiple_of(*baud)) })
}

fn registers(uart: Uart) -> Result<Registers, String> {
    match uart {
        Uart::Io(port) => Ok(Registers::Io(port)),
        Uart::Memory { address, stride } => Ok(Registers::Memory(address, stride)),
        Uart::Pci { bus, device, function, port } => on_card(pci::Address { bus, device, function }, port),
    }
}

/// Port number `port` of a card: the ports lie one behind the other in the first base address register, or each has one.
fn on_card(address: pci::Address, port: u8) -> Result<Registers, String> {
    let function = pci::at(address).ok_or("no card is there")?;
    if !CLASS_SERIAL.contains(&function.class) {
        let (base, sub) = function.class;
        return Err(format!("the card there is no 16550 serial port (class {base:02x}{sub:02x})"));
    }
    let none = || format!("the card has no port {port}");
    let offset = u64::from(port) * PORTS;
    let len = |bar: &Bar| match *bar {
        Bar::Io { len, .. } => len.into(),
        Bar::Memory { len, .. } => len,
    };
    let (bar, offset) = match function.bar(0) {
        Some(bar) if len(&bar) >= offset + PORTS => (bar, offset),
        _ => (function.bar(port).ok_or_else(none)?, 0),
    };
    if len(&bar) < PORTS {
        return Err(none());
    }
    let registers = match bar {
        Bar::Io { base, .. } if base != 0 => Registers::Io(base.wrapping_add(offset as u16)),
        Bar::Memory { base, .. } if base != 0 => Registers::Memory(base.saturating_add(offset), 1),
        _ => return Err("firmware gave the card no address".into()),
    };
    function.decode();
    Ok(registers)
}
