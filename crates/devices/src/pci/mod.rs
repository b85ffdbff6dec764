//! A PCI bus: configuration by the ports 0xCF8 and 0xCFC (PCI Local Bus Specification 3.0, 3.2.2.3.2), windows, interrupts.

mod config;
mod function;
mod i440fx;
mod msix;
mod virtio;

pub use function::{Bar, Function, Identity, Register, Signals, Socket};
pub(crate) use i440fx::{HostBridge, IsaBridge, PowerManagement};
pub use msix::MsixShape;
pub use virtio::{OnBoard, VirtioPci};

use crate::config::PlatformConfig;
use crate::device::Touched;
use crate::effect::Effect;
use crate::lapic::Message;
use crate::state::{decode, encode, find, refuse};
use ::virtio::Host;
use alloc::boxed::Box;
use alloc::vec::Vec;
use config::ConfigSpace;
use minicbor::{Decode, Encode};
use msix::Msix;
use vm_types::{GuestMemory, Now, StateError, StateRecord};

const VERSION: u16 = 1;
/// The data ports: a window on the dword that the address register names.
const DATA: u16 = 0xCFC;
const DATA_LAST: u16 = DATA + 3;
const ENABLE: u32 = 1 << 31;

/// The ISA interrupt of a pin: the four lines take turns from device to device, and share two interrupts.
pub(crate) const fn irq(device: u8, pin: u8) -> u8 {
    if (device.wrapping_add(pin).wrapping_sub(2)) & 2 == 0 { 10 } else { 11 }
}

/// Both of them, as bits: those interrupts are levels.
pub(crate) const IRQS: u16 = 1 << 10 | 1 << 11;

pub(crate) struct Bus {
    /// What it is made of.
    sockets: Vec<Socket>,
    slots: Vec<Slot>,
    windows: Vec<Window>,
    sent: Vec<Message>,
}

struct Slot {
    /// Device and function.
    place: u8,
    kind: &'static str,
    pin: u8,
    bars: &'static [Bar],
    config: ConfigSpace,
    msix: Option<Msix>,
    /// It wants to work on the guest's memory.
    wants: bool,
    function: Box<dyn Function>,
}

/// Where a guest has put a base address register, and opened it.
#[derive(Clone, Copy)]
struct Window {
    first: u64,
    len: u64,
    io: bool,
    slot: usize,
    bar: usize,
}

/// What of a function travels.
#[derive(Encode, Decode)]
struct Fields {
    #[cbor(n(0), with = "minicbor::bytes")]
    config: Vec<u8>,
    #[n(1)]
    msix: Option<msix::State>,
    /// The function's own.
    #[cbor(n(2), with = "minicbor::bytes")]
    state: Vec<u8>,
}

impl Bus {
    pub(crate) fn new(sockets: &[Socket], config: &PlatformConfig) -> Self {
        let sockets: Vec<Socket> = sockets.iter().filter(|socket| socket.is_on(config)).copied().collect();
        let several = |device: u8| sockets.iter().filter(|socket| socket.place >> 3 == device).count() > 1;
        let slots = sockets.iter().map(|socket| {
            let function = (socket.build)(config);
            let identity = function.identity();
            let device = socket.place >> 3;
            let line = if identity.pin == 0 { 0 } else { irq(device, identity.pin) };
            Slot {
                place: socket.place,
                kind: socket.kind(),
                pin: identity.pin,
                bars: identity.bars,
                config: ConfigSpace::new(&identity, several(device), line),
                msix: identity.msix.map(Msix::new),
                wants: false,
                function,
            }
        });
        let slots = slots.collect();
        Self { sockets, slots, windows: Vec::new(), sent: Vec::new() }
    }

    /// The kinds of its functions, each once.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &'static str> {
        let new = |i: &usize| self.slots[..*i].iter().all(|slot| slot.kind != self.slots[*i].kind);
        (0..self.slots.len()).filter(new).map(|i| self.slots[i].kind)
    }

    /// IN. `address` is the configuration address register. `None` where the bus takes no access of this size at `port`.
    pub(crate) fn input(&mut self, address: u32, port: u16, size: u8, now: Now) -> Option<(u32, Touched)> {
        if let Some(at) = data(port, size) {
            let register = address as u8 & 0xFC;
            let Some(index) = self.addressed(address) else {
                return Some((ones(size) as u32, Touched::NOTHING));
            };
            if let Some((bar, offset, width)) = self.slots[index].portal(register | at) {
                let value = self.read(index, bar, offset, width, now) & ones(size);
                return Some((value as u32, Touched::LINE));
            }
            let slot = &self.slots[index];
            let value = slot.config.read(register, slot.intx()) >> (8 * at);
            return Some((value & ones(size) as u32, Touched::NOTHING));
        }
        let (window, offset) = self.window(port.into(), size, true)?;
        Some((self.read(window.slot, window.bar, offset, size, now) as u32, Touched::LINE))
    }

    /// OUT, likewise.
    pub(crate) fn output(
        &mut self,
        address: u32,
        port: u16,
        size: u8,
        value: u32,
        now: Now,
    ) -> Option<(Option<Effect>, Touched)> {
        if let Some(at) = data(port, size) {
            let Some(slot) = self.addressed(address) else { return Some((None, Touched::NOTHING)) };
            let register = address as u8 & 0xFC | at;
            if let Some((bar, offset, width)) = self.slots[slot].portal(register) {
                return Some(self.write(slot, bar, offset, width, value.into(), now));
            }
            if self.slots[slot].config.write(register, size, value) {
                self.map();
            }
            return Some((None, self.settle(slot)));
        }
        let (window, offset) = self.window(port.into(), size, true)?;
        Some(self.write(window.slot, window.bar, offset, size, value.into(), now))
    }

    /// A load from memory that is no RAM. `None` where no function has it.
    pub(crate) fn load(&mut self, gpa: u64, size: u8, now: Now) -> Option<(u64, Touched)> {
        let (window, offset) = self.window(gpa, size, false)?;
        Some((self.read(window.slot, window.bar, offset, size, now), Touched::LINE))
    }

    /// A store, likewise.
    pub(crate) fn store(
        &mut self,
        gpa: u64,
        size: u8,
        value: u64,
        now: Now,
    ) -> Option<(Option<Effect>, Touched)> {
        let (window, offset) = self.window(gpa, size, false)?;
        Some(self.write(window.slot, window.bar, offset, size, value, now))
    }

    /// Lets the functions that want to work on the guest's memory. True where one has work left.
    pub(crate) fn service(
        &mut self,
        memory: &dyn GuestMemory,
        host: &mut dyn Host,
        now: Now,
    ) -> (bool, Touched) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if slot.wants {
                let mut signals = Signals { msix: slot.msix.as_mut(), service: false };
                slot.function.service(memory, host, now, &mut signals);
                slot.wants = signals.service;
                self.settle(index);
            }
        }
        (self.slots.iter().any(|slot| slot.wants), Touched::LINE | Touched::MESSAGES)
    }

    /// The levels of the interrupts that pins lead to.
    pub(crate) fn lines(&self) -> u16 {
        let line = |slot: &Slot| {
            let drives = slot.intx() && slot.config.takes_intx();
            if drives { 1 << irq(slot.place >> 3, slot.pin) } else { 0 }
        };
        self.slots.iter().fold(0, |lines, slot| lines | line(slot))
    }

    /// The next of the messages that go out.
    pub(crate) fn take_sent(&mut self) -> Option<Message> {
        self.sent.pop()
    }

    /// A record for each function; its instance is the place on the bus.
    pub(crate) fn export(&self) -> impl Iterator<Item = StateRecord> {
        self.slots.iter().map(|slot| {
            let fields = Fields {
                config: slot.config.export().to_vec(),
                msix: slot.msix.as_ref().map(Msix::export),
                state: slot.function.export(),
            };
            encode(slot.kind, slot.place.into(), VERSION, &fields)
        })
    }

    /// A bus like this one, with the state of these records.
    ///
    /// # Errors
    /// The function whose record is missing or cannot be; and why.
    pub(crate) fn import(
        &self,
        config: &PlatformConfig,
        records: &[StateRecord],
    ) -> Result<Self, StateError> {
        let mut bus = Self::new(&self.sockets, config);
        for slot in &mut bus.slots {
            let fields: Fields = decode(find(records, slot.kind, slot.place.into())?, VERSION)?;
            slot.config.import(slot.kind, &fields.config)?;
            match (&mut slot.msix, fields.msix) {
                (Some(msix), Some(state)) => msix.import(slot.kind, state, slot.config.msix_enabled())?,
                (None, None) => {}
                _ => return Err(refuse(slot.kind, "MSI-X is there on one side only".into())),
            }
            // What another host was told may be lost: each looks for itself.
            slot.wants = true;
            slot.function.import(&fields.state).map_err(|why| refuse(slot.kind, why))?;
        }
        bus.map();
        Ok(bus)
    }

    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

    /// The function that the address register names, on bus 0.
    fn addressed(&self, address: u32) -> Option<usize> {
        if address & (ENABLE | 0x00FF_0000) != ENABLE {
            return None;
        }
        self.slots.iter().position(|slot| u32::from(slot.place) == address >> 8 & 0xFF)
    }

    fn window(&self, at: u64, size: u8, io: bool) -> Option<(Window, u64)> {
        let holds = |window: &&Window| {
            let offset = at.wrapping_sub(window.first);
            window.io == io && offset < window.len && window.len - offset >= u64::from(size)
        };
        let window = self.windows.iter().find(holds)?;
        Some((*window, at - window.first))
    }

    fn read(&mut self, slot: usize, bar: usize, offset: u64, size: u8, now: Now) -> u64 {
        let slot = &mut self.slots[slot];
        let table = slot.msix.as_ref().and_then(|msix| msix.read(bar, offset));
        table.unwrap_or_else(|| slot.function.read(bar, offset, size, now)) & ones(size)
    }

    fn write(
        &mut self,
        index: usize,
        bar: usize,
        offset: u64,
        size: u8,
        value: u64,
        now: Now,
    ) -> (Option<Effect>, Touched) {
        let slot = &mut self.slots[index];
        let mut service = false;
        let in_table = slot.msix.as_mut().is_some_and(|msix| msix.write(bar, offset, size, value));
        if !in_table {
            let mut signals = Signals { msix: slot.msix.as_mut(), service };
            slot.function.write(bar, offset, size, value & ones(size), now, &mut signals);
            service = signals.service;
            slot.wants |= service;
        }
        (service.then_some(Effect::Service), self.settle(index))
    }

    /// After an access to a function: sends what its MSI-X table lets out.
    fn settle(&mut self, slot: usize) -> Touched {
        let slot = &mut self.slots[slot];
        if let Some(msix) = &mut slot.msix {
            let open = slot.config.is_master() && !slot.config.msix_masked();
            msix.settle(slot.config.msix_enabled(), open, &mut self.sent);
        }
        if self.sent.is_empty() { Touched::LINE } else { Touched::LINE | Touched::MESSAGES }
    }

    /// Finds the open windows.
    fn map(&mut self) {
        self.windows.clear();
        for (index, slot) in self.slots.iter().enumerate() {
            for (bar, shape) in slot.bars.iter().enumerate().take(6) {
                let len = match *shape {
                    Bar::None => continue,
                    Bar::Io(len) | Bar::Memory(len) => u64::from(len),
                };
                if let Some((first, io)) = slot.config.window(bar) {
                    self.windows.push(Window { first, len, io, slot: index, bar });
                }
            }
        }
    }
}

impl Slot {
    /// The level of its pin.
    fn intx(&self) -> bool {
        self.pin != 0 && self.function.line()
    }

    /// What an access to a byte of configuration space reaches of its windows: window, offset, width.
    fn portal(&self, at: u8) -> Option<(usize, u64, u8)> {
        let (bar, offset, width) = self.config.portal(at)?;
        let len = match *self.bars.get(bar)? {
            Bar::None => 0,
            Bar::Io(len) | Bar::Memory(len) => len.into(),
        };
        (offset + u64::from(width) <= len).then_some((bar, offset, width))
    }
}

/// Which byte of the data dword an access begins at, where it is one: it does not reach beyond.
fn data(port: u16, size: u8) -> Option<u8> {
    let inside = (DATA..=DATA_LAST).contains(&port) && u16::from(size) <= DATA_LAST + 1 - port;
    inside.then(|| (port - DATA) as u8)
}

fn ones(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)))
}
