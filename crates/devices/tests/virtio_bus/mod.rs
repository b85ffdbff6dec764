//! A board with a virtio device on its PCI bus, and what a driver does to it by ports and memory.
#![allow(dead_code)]

use crate::machine::{NOW, Ram, config, config_read, config_write};
use devices::{Effect, FUNCTIONS, Function, LAPIC_BASE, Socket, Whole};
use virtio::{Broken, Host};
use vm_types::{Gpa, GuestMemory};

/// Its place: 00:02.0, whose INTA# is IRQ 10.
pub(crate) const DEVICE: u32 = 2;
pub(crate) const PORTS: u16 = 0xC000;
pub(crate) const MEMORY: u64 = 0xE000_0000;
pub(crate) const ISR: u64 = 0x1000;
pub(crate) const CONFIG: u64 = 0x2000;
pub(crate) const NOTIFY: u64 = 0x3000;
pub(crate) const TABLE: u64 = 0x4000;

/// Registers of the common configuration.
pub(crate) const FEATURE_SELECT: u64 = 0;
pub(crate) const FEATURES: u64 = 4;
pub(crate) const ACCEPT_SELECT: u64 = 8;
pub(crate) const ACCEPT: u64 = 12;
pub(crate) const CONFIG_VECTOR: u64 = 16;
pub(crate) const STATUS: u64 = 20;
pub(crate) const GENERATION: u64 = 21;
pub(crate) const SELECT: u64 = 22;
pub(crate) const SIZE: u64 = 24;
pub(crate) const VECTOR: u64 = 26;
pub(crate) const ENABLE: u64 = 28;
pub(crate) const DESCRIPTORS: u64 = 32;
pub(crate) const AVAILABLE: u64 = 40;
pub(crate) const USED: u64 = 48;

pub(crate) const EVENT_IDX: u64 = 1 << 29;
pub(crate) const VERSION_1: u64 = 1 << 32;

/// Entropy that counts, and what was told of drivers.
#[derive(Default)]
pub(crate) struct Outside {
    pub(crate) dry: bool,
    pub(crate) next: u8,
    pub(crate) told: Vec<String>,
}

impl Host for Outside {
    fn entropy(&mut self, out: &mut [u8]) -> bool {
        if self.dry {
            return false;
        }
        for byte in out {
            self.next = self.next.wrapping_add(1);
            *byte = self.next;
        }
        true
    }

    fn broken(&mut self, kind: &str, why: &Broken) {
        self.told.push(format!("{kind}: {why}"));
    }
}

pub(crate) struct Bench {
    pub(crate) board: Whole,
    pub(crate) ram: Ram,
    pub(crate) outside: Outside,
}

impl Bench {
    /// The device has its windows, and is bus master.
    pub(crate) fn new<F: Function + 'static>() -> Self {
        let functions = [FUNCTIONS, &[Socket::of::<F>(DEVICE as u8, 0)]].concat();
        let board = Whole::with_functions(&config(), &functions);
        let mut bench = Self { board, ram: Ram::new(), outside: Outside::default() };
        bench.set_config(0x10, 4, PORTS.into());
        bench.set_config(0x14, 4, MEMORY as u32);
        bench.set_config(0x04, 2, 7);
        bench
    }

    /// Another host's machine with the state of this one, and the same memory.
    pub(crate) fn moved<F: Function + 'static>(self) -> Self {
        let functions = [FUNCTIONS, &[Socket::of::<F>(DEVICE as u8, 0)]].concat();
        let mut board = Whole::with_functions(&config(), &functions);
        let records = self.board.export();
        board.import(&records).unwrap();
        assert_eq!(board.export(), records);
        Self { board, ..self }
    }

    pub(crate) fn config(&mut self, register: u8, size: u8) -> u32 {
        config_read(&mut self.board, DEVICE, 0, register, size)
    }

    pub(crate) fn set_config(&mut self, register: u8, size: u8, value: u32) {
        config_write(&mut self.board, DEVICE, 0, register, size, value);
    }

    pub(crate) fn load(&mut self, offset: u64, size: u8) -> u64 {
        self.board.mmio_read(0, Gpa(MEMORY + offset), size, NOW)
    }

    /// A store, and the work that it asks for.
    pub(crate) fn store(&mut self, offset: u64, size: u8, value: u64) {
        let effect = self.board.mmio_write(0, Gpa(MEMORY + offset), size, value, NOW);
        self.serve(effect);
    }

    /// A notification by port.
    pub(crate) fn kick(&mut self, queue: u16) {
        let effect = self.board.io_write(PORTS + 2 * queue, 2, queue.into(), NOW);
        self.serve(effect);
    }

    fn serve(&mut self, effect: Option<Effect>) {
        if let Some(effect) = effect {
            assert_eq!(effect, Effect::Service);
            self.service();
        }
    }

    pub(crate) fn service(&mut self) {
        while self.board.service(&self.ram, &mut self.outside, NOW) {}
    }

    /// What is offered.
    pub(crate) fn features(&mut self) -> u64 {
        let mut half = |select: u64| {
            self.store(FEATURE_SELECT, 4, select);
            self.load(FEATURES, 4)
        };
        half(0) | half(1) << 32
    }

    pub(crate) fn accept(&mut self, features: u64) {
        for half in 0..2 {
            self.store(ACCEPT_SELECT, 4, half);
            self.store(ACCEPT, 4, features >> (32 * half) & 0xFFFF_FFFF);
        }
    }

    /// Negotiates `features`: status so far.
    pub(crate) fn negotiate(&mut self, features: u64) -> u64 {
        self.store(STATUS, 1, 0);
        self.store(STATUS, 1, 1);
        self.store(STATUS, 1, 3);
        self.accept(features);
        self.store(STATUS, 1, 0xB);
        self.load(STATUS, 1)
    }

    /// Sets up a queue whose three areas are on the pages from `page` on.
    pub(crate) fn queue(&mut self, index: u16, size: u16, page: u64) {
        self.store(SELECT, 2, index.into());
        self.store(SIZE, 2, size.into());
        self.store(VECTOR, 2, index.into());
        self.store(DESCRIPTORS, 8, page);
        self.store(AVAILABLE, 4, page + 0x1000);
        self.store(AVAILABLE + 4, 4, 0);
        self.store(USED, 8, page + 0x2000);
        self.store(ENABLE, 2, 1);
    }

    /// MSI-X on: entry `entry` is vector `0x50 + entry` of the first vCPU.
    pub(crate) fn route(&mut self, entries: u64) {
        let msix = self.config(0x34, 1) as u8;
        self.set_config(msix + 2, 2, 1 << 15);
        self.board.mmio_write(0, Gpa(LAPIC_BASE + 0xF0), 4, 0x1FF, NOW);
        for entry in 0..entries {
            self.store(TABLE + 16 * entry, 8, LAPIC_BASE);
            self.store(TABLE + 16 * entry + 8, 8, 0x50 + entry);
        }
    }

    /// The interrupts that wait, taken and ended.
    pub(crate) fn interrupts(&mut self) -> Vec<u8> {
        let mut vectors = Vec::new();
        while let Some(vector) = self.board.pending_interrupt(0) {
            self.board.accept(0, vector);
            self.board.mmio_write(0, Gpa(LAPIC_BASE + 0xB0), 4, 0, NOW);
            vectors.push(vector);
        }
        vectors
    }

    pub(crate) fn put(&self, at: u64, bytes: &[u8]) {
        self.ram.write(Gpa(at), bytes).unwrap();
    }

    pub(crate) fn get<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.ram.read(Gpa(at), &mut bytes).unwrap();
        bytes
    }

    /// Writes a descriptor of the table at `page`.
    pub(crate) fn describe(&self, page: u64, index: u64, at: u64, len: u32, flags: u16, next: u16) {
        let fields = [&at.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()];
        self.put(page + 16 * index, &fields.concat());
    }

    /// Makes the chain at `head` the available ring's number `index`; rings of 4.
    pub(crate) fn offer(&self, page: u64, index: u16, head: u16) {
        self.put(page + 0x1004 + 2 * u64::from(index % 4), &head.to_le_bytes());
        self.put(page + 0x1002, &(index + 1).to_le_bytes());
    }

    /// The used ring's index.
    pub(crate) fn used(&self, page: u64) -> u16 {
        u16::from_le_bytes(self.get(page + 0x2002))
    }
}
