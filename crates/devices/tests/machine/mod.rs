//! What tests of the PCI bus have in common: a machine, accesses to configuration space, RAM.
#![allow(dead_code)]

use devices::{PlatformConfig, Whole};
use std::sync::Mutex;
use virtio::{Broken, Host};
use vm_types::{Gpa, GuestMemory, MemRange, MemoryError, Now};

pub(crate) fn config() -> PlatformConfig {
    PlatformConfig {
        vcpus: 1,
        debug_exit: false,
        rtc_base_unix_secs: 1_795_375_858,
        low_ram: 1 << 20,
        high_ram: 0,
        x2apic: true,
        tsc_deadline: true,
        pci: true,
        rng: false,
    }
}

pub(crate) const NOW: Now = Now { tsc: 1000, hz: 20_000_000 };

/// The address register's value for a register of a function.
pub(crate) fn address(device: u32, function: u32, register: u8) -> u32 {
    1 << 31 | device << 11 | function << 8 | u32::from(register) & 0xFC
}

pub(crate) fn config_read(p: &mut Whole, device: u32, function: u32, register: u8, size: u8) -> u32 {
    p.io_write(0xCF8, 4, address(device, function, register), NOW);
    p.io_read(0xCFC + u16::from(register & 3), size, NOW)
}

pub(crate) fn config_write(p: &mut Whole, device: u32, function: u32, register: u8, size: u8, value: u32) {
    p.io_write(0xCF8, 4, address(device, function, register), NOW);
    assert_eq!(p.io_write(0xCFC + u16::from(register & 3), size, value, NOW), None);
}

/// A host that nobody asks for anything.
pub(crate) struct Nobody;

impl Host for Nobody {
    fn entropy(&mut self, _: &mut [u8]) -> bool {
        false
    }

    fn broken(&mut self, kind: &str, why: &Broken) {
        panic!("{kind}: {why}");
    }
}

/// RAM of one MiB.
pub(crate) struct Ram {
    ranges: [MemRange; 1],
    bytes: Mutex<Vec<u8>>,
}

impl Ram {
    pub(crate) fn new() -> Self {
        Self { ranges: [MemRange { start: Gpa(0), len: 1 << 20 }], bytes: Mutex::new(vec![0; 1 << 20]) }
    }
}

impl GuestMemory for Ram {
    fn ranges(&self) -> &[MemRange] {
        &self.ranges
    }

    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        let bytes = self.bytes.lock().unwrap();
        let from = usize::try_from(gpa.0).ok().and_then(|at| bytes.get(at..at.checked_add(buf.len())?));
        buf.copy_from_slice(from.ok_or(MemoryError { gpa, len: buf.len() })?);
        Ok(())
    }

    fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), MemoryError> {
        let mut bytes = self.bytes.lock().unwrap();
        let to = usize::try_from(gpa.0).ok().and_then(|at| bytes.get_mut(at..at.checked_add(data.len())?));
        to.ok_or(MemoryError { gpa, len: data.len() })?.copy_from_slice(data);
        Ok(())
    }
}
