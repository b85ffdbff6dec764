//! The configuration space of one function (PCI Local Bus Specification 3.0, chapter 6).

use super::function::{Bar, Identity};
use alloc::format;
use vm_types::StateError;

use crate::state::ensure;

/// Bytes of it.
pub(super) const LEN: usize = 256;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BAR0: usize = 0x10;
const BARS_END: usize = 0x28;
const CAPABILITIES: usize = 0x34;
const LINE: usize = 0x3C;
/// The first byte that is a function's own.
const OWN: usize = 0x40;

const IO_SPACE: u8 = 1;
const MEMORY_SPACE: u8 = 1 << 1;
const BUS_MASTER: u8 = 1 << 2;
/// Bits of the command register that can be written: I/O, memory, bus master, SERR#, INTx disable.
const COMMAND_WRITABLE: u16 = 0x0507;
const INTX_DISABLE: u16 = 1 << 10;
const STATUS_INTX: u8 = 1 << 3;
const STATUS_CAPABILITIES: u8 = 1 << 4;

const BAR_IO: u32 = 1;
const MSIX: u8 = 0x11;
const MSIX_ENABLE: u16 = 1 << 15;
const MSIX_MASK: u16 = 1 << 14;

/// The ID of a vendor-specific capability.
pub(super) const VENDOR_CAPABILITY: u8 = 0x09;
/// Access to windows by configuration space (virtio 1.2, 4.1.4.9): which one, where in it, how wide, and what is there.
const PORTAL_CFG: u8 = 5;
const PORTAL_BAR: usize = 4;
const PORTAL_OFFSET: usize = 8;
const PORTAL_WIDTH: usize = 12;
const PORTAL_DATA: usize = 16;
const PORTAL_LEN: usize = 20;

pub(super) struct ConfigSpace {
    bytes: [u8; LEN],
    writable: [u8; LEN],
    /// Where the MSI-X capability stands.
    msix: Option<usize>,
    /// Where the one stands that leads to the windows.
    portal: Option<usize>,
}

impl ConfigSpace {
    /// As firmware leaves it, but for the base addresses: the operating system gives those out. `line`: the ISA interrupt
    /// of its pin.
    pub(super) fn new(identity: &Identity, multifunction: bool, line: u8) -> Self {
        let mut space = Self { bytes: [0; LEN], writable: [0; LEN], msix: None, portal: None };
        space.put(0x00, &identity.vendor.to_le_bytes());
        space.put(0x02, &identity.device.to_le_bytes());
        space.put(0x08, &[identity.revision]);
        space.put(0x09, &identity.class.to_le_bytes()[..3]);
        space.put(0x0E, &[if multifunction { 0x80 } else { 0 }]);
        space.put(0x2C, &identity.subsystem_vendor.to_le_bytes());
        space.put(0x2E, &identity.subsystem.to_le_bytes());
        space.put(LINE, &[line, identity.pin]);
        space.allow(LINE, &[0xFF]);
        space.allow(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        for (index, bar) in identity.bars.iter().enumerate().take(6) {
            let at = BAR0 + 4 * index;
            match *bar {
                Bar::None => {}
                Bar::Io(len) => {
                    space.put(at, &BAR_IO.to_le_bytes());
                    space.allow(at, &(len.max(4).next_power_of_two().wrapping_neg()).to_le_bytes());
                }
                Bar::Memory(len) => {
                    space.allow(at, &(len.max(0x1000).next_power_of_two().wrapping_neg()).to_le_bytes());
                }
            }
        }
        for register in identity.registers {
            space.put(register.at.into(), register.reset);
            space.allow(register.at.into(), register.writable);
        }
        space.add_capabilities(identity);
        space
    }

    fn add_capabilities(&mut self, identity: &Identity) {
        let mut free = OWN;
        let mut link = CAPABILITIES;
        if let Some(msix) = &identity.msix {
            let bar = u32::from(msix.bar & 7);
            let [a, b] = (msix.vectors.clamp(1, 2048) - 1).to_le_bytes();
            let table = (msix.table & !7 | bar).to_le_bytes();
            let pending = (msix.pending & !7 | bar).to_le_bytes();
            self.msix = Some(free);
            self.put(free + 2, &[a, b]);
            self.allow(free + 2, &(MSIX_ENABLE | MSIX_MASK).to_le_bytes());
            self.put(free + 4, &table);
            self.put(free + 8, &pending);
            self.link(&mut link, &mut free, MSIX, 12);
        }
        for (id, body) in identity.capabilities {
            self.put(free + 2, body);
            self.link(&mut link, &mut free, *id, 2 + body.len());
        }
        if identity.portal {
            self.portal = Some(free);
            self.put(free + 2, &[PORTAL_LEN as u8, PORTAL_CFG]);
            self.allow(free + PORTAL_BAR, &[0xFF]);
            self.allow(free + PORTAL_OFFSET, &[0xFF; 8]);
            self.link(&mut link, &mut free, VENDOR_CAPABILITY, PORTAL_LEN);
        }
        if link != CAPABILITIES {
            self.bytes[STATUS] |= STATUS_CAPABILITIES;
        }
    }

    /// Ends the list of capabilities with the one at `free`.
    fn link(&mut self, link: &mut usize, free: &mut usize, id: u8, len: usize) {
        self.put(*link, &[*free as u8]);
        self.put(*free, &[id, 0]);
        *link = *free + 1;
        *free = (*free + len).next_multiple_of(4);
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    }

    fn allow(&mut self, at: usize, mask: &[u8]) {
        self.writable.iter_mut().skip(at).zip(mask).for_each(|(to, from)| *to = *from);
    }

    /// The dword at `at`. `intx`: the level of the pin.
    pub(super) fn read(&self, at: u8, intx: bool) -> u32 {
        let at = usize::from(at & !3);
        let mut dword = self.bytes[at..at + 4].try_into().unwrap_or([0; 4]);
        if at == COMMAND && intx {
            dword[STATUS - COMMAND] |= STATUS_INTX;
        }
        u32::from_le_bytes(dword)
    }

    /// Changes what can be written of up to four bytes at `at`. True where a window may have moved.
    pub(super) fn write(&mut self, at: u8, size: u8, value: u32) -> bool {
        let at = usize::from(at);
        for (at, value) in (at..LEN).zip(value.to_le_bytes()).take(size.into()) {
            let mask = self.writable[at];
            self.bytes[at] = self.bytes[at] & !mask | value & mask;
        }
        at & !3 == COMMAND || (BAR0..BARS_END).contains(&at)
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn dword(&self, at: usize) -> u32 {
        self.bytes[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// What an access to the byte at `at` reaches, where that is the portal's data: window, offset in it, width.
    pub(super) fn portal(&self, at: u8) -> Option<(usize, u64, u8)> {
        let portal = self.portal.filter(|portal| usize::from(at) == portal + PORTAL_DATA)?;
        let width = self.dword(portal + PORTAL_WIDTH);
        let offset = self.dword(portal + PORTAL_OFFSET);
        let fits = matches!(width, 1 | 2 | 4) && offset.is_multiple_of(width);
        fits.then_some((self.bytes[portal + PORTAL_BAR].into(), offset.into(), width as u8))
    }

    /// Where the window of a base address register lies, if it is open: its first address, and whether that is a port.
    pub(super) fn window(&self, index: usize) -> Option<(u64, bool)> {
        let at = BAR0 + 4 * index;
        let bar = self.dword(at);
        let io = bar & BAR_IO != 0;
        let open = self.bytes[COMMAND] & if io { IO_SPACE } else { MEMORY_SPACE } != 0;
        let base = bar & if io { !3 } else { !15 };
        (open && base != 0).then_some((base.into(), io))
    }

    pub(super) fn is_master(&self) -> bool {
        self.bytes[COMMAND] & BUS_MASTER != 0
    }

    pub(super) fn takes_intx(&self) -> bool {
        self.word(COMMAND) & INTX_DISABLE == 0 && !self.msix_enabled()
    }

    pub(super) fn msix_enabled(&self) -> bool {
        self.msix.is_some_and(|at| self.word(at + 2) & MSIX_ENABLE != 0)
    }

    pub(super) fn msix_masked(&self) -> bool {
        self.msix.is_some_and(|at| self.word(at + 2) & MSIX_MASK != 0)
    }

    pub(super) fn export(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes over bytes of another host: only what a guest can write may differ from what is here.
    pub(super) fn import(&mut self, kind: &str, bytes: &[u8]) -> Result<(), StateError> {
        ensure(bytes.len() == LEN, kind, "length of the configuration space", bytes.len())?;
        for (at, (&new, (&here, &mask))) in
            bytes.iter().zip(self.bytes.iter().zip(&self.writable)).enumerate()
        {
            ensure((new ^ here) & !mask == 0, kind, &format!("configuration byte {at:#x}"), new)?;
        }
        self.put(0, bytes);
        Ok(())
    }
}
