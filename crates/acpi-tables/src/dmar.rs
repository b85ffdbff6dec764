//! DMAR: DMA remapping units (VT-d specification 4.1, chapter 8).

use alloc::vec::Vec;

use crate::bytes::{records, u8_at, u16_at, u64_at};

/// A remapping unit (DRHD).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemappingUnit {
    /// PCI segment.
    pub segment: u16,
    /// Physical address of its registers.
    pub base: u64,
    /// It serves every device of the segment that no other unit names.
    pub all_devices: bool,
}

/// Memory that a device of the firmware may still reach by DMA (RMRR).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReservedMemory {
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub last: u64,
    /// The devices that use it.
    pub devices: Vec<DeviceScope>,
}

/// A device as a path from a root bus (8.3.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceScope {
    /// 1: an endpoint. 2: a bridge with all below it. Others are no PCI functions of their own.
    pub kind: u8,
    /// Where the path starts.
    pub bus: u8,
    /// Device and function, one pair for each bridge and the last for the device itself.
    pub path: Vec<(u8, u8)>,
}

impl DeviceScope {
    /// Bus, device and function, where `behind` tells the bus behind the bridge at such a place. None where there is no
    /// such bridge.
    pub fn resolve(&self, behind: impl Fn(u8, u8, u8) -> Option<u8>) -> Option<(u8, u8, u8)> {
        let (&(device, function), bridges) = self.path.split_last()?;
        let bus =
            bridges.iter().try_fold(self.bus, |bus, &(device, function)| behind(bus, device, function))?;
        Some((bus, device, function))
    }
}

/// The DMAR.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dmar {
    /// Width of a DMA address in bits.
    pub address_bits: u8,
    /// Interrupt remapping is supported.
    pub interrupt_remapping: bool,
    /// Firmware asks for the local APICs to be left in xAPIC mode.
    pub x2apic_opt_out: bool,
    /// Remapping units.
    pub units: Vec<RemappingUnit>,
    /// Reserved memory.
    pub reserved: Vec<ReservedMemory>,
}

pub(crate) fn parse(table: &[u8]) -> Option<Dmar> {
    let mut out = Dmar {
        address_bits: u8_at(table, 36)?.saturating_add(1),
        interrupt_remapping: u8_at(table, 37)? & 1 != 0,
        // Bit 1 means something only together with bit 0.
        x2apic_opt_out: u8_at(table, 37)? & 3 == 3,
        ..Dmar::default()
    };
    for (kind, r) in records(table, 48, |b| Some((u16_at(b, 0)?, u16_at(b, 2)?.into()))) {
        match kind {
            0 => out.units.extend(unit(r)),
            1 => out.reserved.extend(reserved(r)),
            _ => {}
        }
    }
    Some(out)
}

fn unit(r: &[u8]) -> Option<RemappingUnit> {
    Some(RemappingUnit { segment: u16_at(r, 6)?, base: u64_at(r, 8)?, all_devices: u8_at(r, 4)? & 1 != 0 })
}

fn reserved(r: &[u8]) -> Option<ReservedMemory> {
    let head = |b: &[u8]| Some((u8_at(b, 0)?.into(), u8_at(b, 1)?.into()));
    let devices = records(r, 24, head).filter_map(|(_, scope)| device(scope)).collect();
    Some(ReservedMemory { start: u64_at(r, 8)?, last: u64_at(r, 16)?, devices })
}

fn device(r: &[u8]) -> Option<DeviceScope> {
    let path = r.get(6..)?.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    Some(DeviceScope { kind: u8_at(r, 0)?, bus: u8_at(r, 5)?, path })
}
