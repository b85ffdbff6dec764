//! The DSDT: `_S5`, the processors, COM1, the RTC, the PCI root, and the ports that no driver may take.

use super::aml::{
    buses, device, eisa_id, integer, io, io_window, irq, memory_window, memory32, name, package, resources,
    scope, string,
};
use super::table;
use crate::ioapic::IOAPIC_BASE;
use crate::pci;
use crate::pm::{PM1A_EVT, SLP_TYP_S5};
use alloc::vec;
use alloc::vec::Vec;
use vm_types::Gpa;

/// The last byte before the IO-APIC.
const LAST_OF_WINDOW: u32 = IOAPIC_BASE as u32 - 1;

pub(super) fn build(vcpus: u16, pci: Option<Gpa>) -> Vec<u8> {
    let typ = || integer(SLP_TYP_S5.into());
    let s5 = name(b"\\_S5_", &package(&[typ(), typ(), integer(0), integer(0)]));
    let mut devices = Vec::new();
    devices.push(com1());
    devices.push(rtc());
    devices.push(board(pci.is_some()));
    devices.extend(pci.map(pci_root));
    devices.extend((0..vcpus).map(processor));
    table(b"DSDT", 2, &[s5, scope(b"\\_SB_", &devices)].concat())
}

fn hid(id: &[u8; 7]) -> Vec<u8> {
    name(b"_HID", &eisa_id(id))
}

fn crs(descriptors: &[Vec<u8>]) -> Vec<u8> {
    name(b"_CRS", &resources(descriptors))
}

fn com1() -> Vec<u8> {
    device(b"COM1", &[hid(b"PNP0501"), name(b"_UID", &integer(1)), crs(&[io(0x3F8, 8), irq(4)])])
}

fn rtc() -> Vec<u8> {
    device(b"RTC_", &[hid(b"PNP0B00"), crs(&[io(0x70, 2), irq(8)])])
}

/// Motherboard resources: PM blocks, ELCR, reset control, IO-APIC. The reset control is among a PCI root's own ports.
fn board(pci: bool) -> Vec<u8> {
    let mut reserved = vec![io(PM1A_EVT, 12), io(0x4D0, 2), io(0x92, 1)];
    if !pci {
        reserved.push(io(0xCF9, 1));
    }
    reserved.push(memory32(IOAPIC_BASE as u32, 0x1000));
    device(b"MBRD", &[hid(b"PNP0C02"), crs(&reserved)])
}

/// Bus 0, all ports but those of its configuration, memory from `first` to the IO-APIC. Nothing there moves, since
/// these tables are made before a guest gives out addresses.
fn pci_root(first: Gpa) -> Vec<u8> {
    let first = u32::try_from(first.0).unwrap_or(u32::MAX).min(LAST_OF_WINDOW);
    let windows = [
        buses(0, 0xFF),
        io(0xCF8, 8),
        io_window(0, 0xCF7),
        io_window(0xD00, 0xFFFF),
        memory_window(first, LAST_OF_WINDOW),
    ];
    device(
        b"PCI0",
        &[
            hid(b"PNP0A03"),
            name(b"_ADR", &integer(0)),
            name(b"_BBN", &integer(0)),
            name(b"_UID", &integer(0)),
            crs(&windows),
            name(b"_PRT", &routes()),
        ],
    )
}

/// Each pin of each device to an input of the IO-APIC, by no link device.
fn routes() -> Vec<u8> {
    let route = |device: u8, pin: u8| {
        let address = u32::from(device) << 16 | 0xFFFF;
        let input = pci::irq(device, pin + 1);
        package(&[integer(address), integer(pin.into()), integer(0), integer(input.into())])
    };
    let all: Vec<_> = (1..32).flat_map(|device| (0..4).map(move |pin| (device, pin))).collect();
    package(&all.into_iter().map(|(device, pin)| route(device, pin)).collect::<Vec<_>>())
}

fn processor(index: u16) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |shift: u16| HEX[usize::from(index >> shift & 0xF)];
    let path = [b'C', digit(8), digit(4), digit(0)];
    device(&path, &[name(b"_HID", &string("ACPI0007")), name(b"_UID", &integer(index.into()))])
}
