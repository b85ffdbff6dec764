//! A virtio device as a function on the bus (virtio 1.2, 4.1): modern, two windows, MSI-X or a pin.

use super::config::VENDOR_CAPABILITY;
use super::function::{Bar, Function, Identity, Signals};
use super::msix::MsixShape;
use crate::config::PlatformConfig;
use alloc::string::String;
use alloc::vec::Vec;
use virtio::{COMMON, Device, Host, Rng, Virtio};
use vm_types::{GuestMemory, Now};

/// A virtio device that a board can have.
pub trait OnBoard: Device + 'static {
    /// Class, subclass and programming interface, as 0xCCSSPP.
    const CLASS: u32;

    /// As it is after a reset, on a machine made by `config`.
    fn build(config: &PlatformConfig) -> Self;
}

/// A virtio device on the PCI bus.
pub struct VirtioPci<D>(Virtio<D>);

const VENDOR: u16 = 0x1AF4;
/// What a device's number is added to (4.1.2).
const DEVICES: u16 = 0x1040;

/// The window of ports: a notification is an exit that needs no decoder. A queue has two of them.
const PORTS: u8 = 0;
const PORTS_LEN: u32 = 32;
/// The window of memory, a page for each structure.
const MEMORY: u8 = 1;
const MEMORY_LEN: u32 = 0x8000;
const COMMON_AT: u32 = 0;
const ISR_AT: u32 = 0x1000;
const CONFIG_AT: u32 = 0x2000;
const NOTIFY_AT: u32 = 0x3000;
const TABLE_AT: u32 = 0x4000;
const PENDING_AT: u32 = 0x5000;
const PAGE: u32 = 0x1000;
/// Bytes from one queue's notification register to the next one's.
const NOTIFY_STEP: u32 = 2;

/// What a capability tells the place of (4.1.4).
const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;
const ISR_CFG: u8 = 3;
const DEVICE_CFG: u8 = 4;

/// What follows ID and link: length, what, the window, where in it, how long.
const fn place(what: u8, bar: u8, offset: u32, len: u32) -> [u8; 14] {
    let ([a, b, c, d], [e, f, g, h]) = (offset.to_le_bytes(), len.to_le_bytes());
    [16, what, bar, 0, 0, 0, a, b, c, d, e, f, g, h]
}

/// The same of notifications, with their step.
const fn notify(bar: u8, offset: u32, len: u32) -> [u8; 18] {
    let [_, _, _, _, _, _, a, b, c, d, e, f, g, h] = place(NOTIFY_CFG, bar, offset, len);
    let [i, j, k, l] = NOTIFY_STEP.to_le_bytes();
    [20, NOTIFY_CFG, bar, 0, 0, 0, a, b, c, d, e, f, g, h, i, j, k, l]
}

impl OnBoard for Rng {
    /// Other.
    const CLASS: u32 = 0x00_FF00;

    fn build(_: &PlatformConfig) -> Self {
        Self
    }
}

impl<D: OnBoard> VirtioPci<D> {
    /// The first of a kind is the one that drivers take: notifications by port.
    const CAPABILITIES: &'static [(u8, &'static [u8])] = &[
        (VENDOR_CAPABILITY, &place(COMMON_CFG, MEMORY, COMMON_AT, COMMON)),
        (VENDOR_CAPABILITY, &notify(PORTS, 0, PORTS_LEN)),
        (VENDOR_CAPABILITY, &notify(MEMORY, NOTIFY_AT, PAGE)),
        (VENDOR_CAPABILITY, &place(ISR_CFG, MEMORY, ISR_AT, 1)),
        (VENDOR_CAPABILITY, &place(DEVICE_CFG, MEMORY, CONFIG_AT, D::CONFIG)),
    ];

    const IDENTITY: Identity = Identity {
        revision: 1,
        pin: 1,
        bars: &[Bar::Io(PORTS_LEN), Bar::Memory(MEMORY_LEN)],
        msix: Some(MsixShape {
            vectors: Virtio::<D>::VECTORS,
            bar: MEMORY,
            table: TABLE_AT,
            pending: PENDING_AT,
        }),
        capabilities: if D::CONFIG == 0 {
            // A device without a configuration of its own has no capability for it.
            Self::CAPABILITIES.split_at(4).0
        } else {
            Self::CAPABILITIES
        },
        portal: true,
        ..Identity::bare(VENDOR, DEVICES + D::TYPE, D::CLASS)
    };
}

impl<D: OnBoard> Function for VirtioPci<D> {
    fn kind() -> &'static str {
        D::KIND
    }

    fn build(config: &PlatformConfig) -> Self {
        Self(Virtio::new(D::build(config)))
    }

    fn identity(&self) -> Identity {
        Self::IDENTITY
    }

    fn read(&mut self, bar: usize, offset: u64, _: u8, _: Now) -> u64 {
        if bar != MEMORY.into() {
            return 0;
        }
        let (page, at) = (offset as u32 & !(PAGE - 1), offset & u64::from(PAGE - 1));
        match page {
            COMMON_AT => self.0.common(at),
            ISR_AT if at == 0 => self.0.take_isr().into(),
            CONFIG_AT => self.0.config(at),
            _ => 0,
        }
    }

    fn write(&mut self, bar: usize, offset: u64, size: u8, value: u64, _: Now, signals: &mut Signals<'_>) {
        let (page, at) = (offset as u32 & !(PAGE - 1), offset & u64::from(PAGE - 1));
        let queue = (at / u64::from(NOTIFY_STEP)) as u16;
        let wanted = match (bar as u8, page) {
            (PORTS, _) | (MEMORY, NOTIFY_AT) => self.0.notify(queue),
            (MEMORY, COMMON_AT) => self.0.set_common(at, size, value),
            _ => false,
        };
        if wanted {
            signals.ask_service();
        }
    }

    fn service(&mut self, memory: &dyn GuestMemory, host: &mut dyn Host, _: Now, signals: &mut Signals<'_>) {
        if self.0.service(memory, host, &mut |vector| signals.interrupt(vector)) {
            signals.ask_service();
        }
    }

    fn line(&self) -> bool {
        self.0.line()
    }

    fn export(&self) -> Vec<u8> {
        self.0.export()
    }

    fn import(&mut self, state: &[u8]) -> Result<(), String> {
        self.0.import(state)
    }
}
