//! PCI configuration space by ports 0xCF8 and 0xCFC, segment 0.
//!
//! A network boot leaves the card armed: its ring would still receive into memory that is ours by now. So the scan
//! takes bus mastering and INTx away from every function but bridges (which only pass on), before memory is reused.

use alloc::vec::Vec;
use core::fmt;

use bring_up::pci as setup;
use spin::{Mutex, Once};

use crate::arch::{io, tsc};

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const COMMAND: u8 = 0x04;
const HEADER: u8 = 0x0c;
const BAR0: u8 = 0x10;
const CLASS_BRIDGE: u8 = 0x06;

const COMMAND_IO: u16 = 1 << 0;
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_MASTER: u16 = 1 << 2;
const COMMAND_NO_INTX: u16 = 1 << 10;

static ACCESS: Mutex<()> = Mutex::new(());
static FUNCTIONS: Once<Vec<Function>> = Once::new();

/// Bus, device and function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// 0 to 255.
    pub bus: u8,
    /// 0 to 31.
    pub device: u8,
    /// 0 to 7.
    pub function: u8,
}

/// A base address register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bar {
    /// Memory.
    Memory {
        /// Physical address.
        base: u64,
        /// Bytes.
        len: u64,
    },
    /// Ports.
    Io {
        /// First port.
        base: u16,
        /// How many.
        len: u32,
    },
}

/// A function that answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// Where it is.
    pub address: Address,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Base class, sub-class.
    pub class: (u8, u8),
    /// Header type without the multi-function bit.
    header: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

impl Address {
    fn select(self, register: u8) {
        let [bus, device, function] = [self.bus, self.device & 31, self.function & 7].map(u32::from);
        let at = bus << 16 | device << 11 | function << 8 | u32::from(register & 0xfc);
        io::outl(ADDRESS, 1 << 31 | at);
    }

    /// Reads the 32-bit register at `register` (a multiple of 4).
    pub fn read(self, register: u8) -> u32 {
        let _lock = ACCESS.lock();
        self.select(register);
        io::inl(DATA)
    }

    /// Writes the 32-bit register at `register` (a multiple of 4).
    pub fn write(self, register: u8, value: u32) {
        let _lock = ACCESS.lock();
        self.select(register);
        io::outl(DATA, value);
    }

    fn command(self, clear: u16, set: u16) {
        // The upper half is status, cleared by ones: write zeros.
        let command = self.read(COMMAND) & 0xffff;
        self.write(COMMAND, command & !u32::from(clear) | u32::from(set));
    }
}

impl setup::Function for Address {
    fn read(&self, register: u8) -> u32 {
        Address::read(*self, register)
    }

    fn write(&self, register: u8, value: u32) {
        Address::write(*self, register, value);
    }

    fn delay_us(&self, us: u32) {
        tsc::delay(us.into());
    }
}

impl Function {
    /// Lets the function decode its memory and ports and use DMA.
    pub fn enable(&self) {
        self.address.command(0, COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER);
    }

    /// Lets the function decode its memory and ports.
    pub fn decode(&self) {
        self.address.command(0, COMMAND_IO | COMMAND_MEMORY);
    }

    /// Takes DMA away again.
    pub fn disable_bus_master(&self) {
        self.address.command(COMMAND_MASTER, 0);
    }

    /// Makes the function's registers answer and its DMA reach memory: the bridges above it opened, the one at the root
    /// first, itself in D0. Before its BARs are read.
    pub fn reach(&self) {
        setup::open_path(path_to(self.address.bus).into_iter());
        setup::wake(&self.address);
    }

    /// Keeps the link to the bridge above out of L0s and L1.
    pub fn keep_link_awake(&self) {
        setup::keep_link_awake(&self.address, bridge_to(self.address.bus).as_ref());
    }

    /// Reads base address register `index` (0 to 5) and its length. The function must not be in use: for a moment it
    /// decodes nothing.
    pub fn bar(&self, index: u8) -> Option<Bar> {
        if self.header != 0 || index > 5 {
            return None;
        }
        let at = BAR0 + index * 4;
        let command = self.address.read(COMMAND) as u16;
        self.address.command(COMMAND_IO | COMMAND_MEMORY, 0);
        let low = self.address.read(at);
        let wide = low & 0b111 == 0b100 && index < 5;
        let (low, low_mask) = self.probe(at);
        let (high, high_mask) = if wide { self.probe(at + 4) } else { (0, 0) };
        self.address.command(0, command & (COMMAND_IO | COMMAND_MEMORY));
        if low & 1 != 0 {
            let len = (low_mask & 0xfffc | 0xffff_0000).wrapping_neg();
            return (low_mask != 0).then_some(Bar::Io { base: low as u16 & 0xfffc, len });
        }
        let high_mask = if wide { high_mask } else { u32::MAX };
        let mask = u64::from(high_mask) << 32 | u64::from(low_mask & !0xf);
        let base = u64::from(high) << 32 | u64::from(low & !0xf);
        (low_mask & !0xf != 0).then_some(Bar::Memory { base, len: mask.wrapping_neg() })
    }

    /// A register's value, and which of its bits can be written.
    fn probe(&self, at: u8) -> (u32, u32) {
        let value = self.address.read(at);
        self.address.write(at, u32::MAX);
        let mask = self.address.read(at);
        self.address.write(at, value);
        (value, mask)
    }
}

/// The bridges between the root and `bus`, the one at the root first.
fn path_to(bus: u8) -> Vec<Address> {
    let mut path = Vec::new();
    let mut next = bridge_to(bus);
    // Bus numbers that firmware set wrong can go round.
    while let Some(bridge) = next.filter(|bridge| !path.contains(bridge)) {
        path.push(bridge);
        next = bridge_to(bridge.bus);
    }
    path.reverse();
    path
}

/// The bridge to `bus`; none for a root bus.
pub fn bridge_to(bus: u8) -> Option<Address> {
    functions().iter().map(|f| f.address).find(|&at| bus != 0 && behind(at) == Some(bus))
}

/// The bus behind the bridge at an address; none where there is no bridge.
pub fn behind(address: Address) -> Option<u8> {
    let bridge = functions().iter().find(|f| f.address == address && f.header == 1)?;
    Some((bridge.address.read(0x18) >> 8) as u8)
}

/// Every function that was found.
pub fn functions() -> &'static [Function] {
    FUNCTIONS.get().map_or(&[], Vec::as_slice)
}

/// The function at an address, before or after the scan.
pub fn at(address: Address) -> Option<Function> {
    identify(address).map(|(function, _)| function)
}

/// Scans every bus and silences what is there. Returns how many functions were found and how many had been armed.
pub fn quiesce() -> (usize, usize) {
    let mut armed = 0;
    let found = FUNCTIONS.call_once(|| {
        let mut found = Vec::new();
        for (bus, device) in (0..=255).flat_map(|bus| (0..32).map(move |device| (bus, device))) {
            let at = |function| Address { bus, device, function };
            let Some((first, multi)) = identify(at(0)) else { continue };
            found.push(first);
            if multi {
                found.extend((1..8).filter_map(|function| identify(at(function))).map(|(f, _)| f));
            }
        }
        for f in found.iter().filter(|f| f.class.0 != CLASS_BRIDGE) {
            armed += usize::from(f.address.read(COMMAND) as u16 & COMMAND_MASTER != 0);
            f.address.command(COMMAND_MASTER, COMMAND_NO_INTX);
        }
        found
    });
    (found.len(), armed)
}

/// The function at an address, and whether its device has more than one.
fn identify(address: Address) -> Option<(Function, bool)> {
    let id = address.read(0);
    if id & 0xffff == 0xffff || id == 0 {
        return None;
    }
    let class = address.read(0x08);
    let header = (address.read(HEADER) >> 16) as u8;
    let function = Function {
        address,
        vendor: id as u16,
        device: (id >> 16) as u16,
        class: ((class >> 24) as u8, (class >> 16) as u8),
        header: header & 0x7f,
    };
    Some((function, header & 0x80 != 0))
}
