//! The DSDT: `_S5`, the processors, COM1, the RTC and the ports that no driver may take. No PCI root yet.

use super::aml::{device, eisa_id, integer, io, irq, memory32, name, package, resources, scope, string};
use super::table;
use crate::ioapic::IOAPIC_BASE;
use crate::pm::{PM1A_EVT, SLP_TYP_S5};
use alloc::vec::Vec;

pub(super) fn build(vcpus: u16) -> Vec<u8> {
    let typ = || integer(SLP_TYP_S5.into());
    let s5 = name(b"\\_S5_", &package(&[typ(), typ(), integer(0), integer(0)]));
    let mut devices = Vec::new();
    devices.push(com1());
    devices.push(rtc());
    devices.push(board());
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

/// Motherboard resources: PM blocks, ELCR, reset control, IO-APIC.
fn board() -> Vec<u8> {
    let reserved =
        [io(PM1A_EVT, 12), io(0x4D0, 2), io(0x92, 1), io(0xCF9, 1), memory32(IOAPIC_BASE as u32, 0x1000)];
    device(b"MBRD", &[hid(b"PNP0C02"), crs(&reserved)])
}

fn processor(index: u16) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |shift: u16| HEX[usize::from(index >> shift & 0xF)];
    let path = [b'C', digit(8), digit(4), digit(0)];
    device(&path, &[name(b"_HID", &string("ACPI0007")), name(b"_UID", &integer(index.into()))])
}
