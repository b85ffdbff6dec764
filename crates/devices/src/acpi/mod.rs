//! The ACPI tables that describe a [`crate::Platform`] to its guest (ACPI 6.5, chapter 5).

mod aml;
mod dsdt;
#[cfg(test)]
mod tests;

use crate::config::MAX_VCPUS;
use crate::ioapic::{self, IOAPIC_BASE};
use crate::lapic::LAPIC_BASE;
use crate::pm::{PM_TMR, PM1A_CNT, PM1A_EVT};
use alloc::vec::Vec;
use vm_types::Gpa;

/// Where [`build`] is usually told to put the tables: the read-only BIOS area, found by a search for the RSDP.
/// The guest's memory map must not give it out as RAM.
pub const DEFAULT_BASE: Gpa = Gpa(0xE_0000);
/// The tables never take more bytes than this.
pub const MAX_LEN: u64 = 0x4000;

const OEM_ID: &[u8; 6] = b"FLEXV ";
const OEM_TABLE_ID: &[u8; 8] = b"FLEXVISR";
const CREATOR_ID: &[u8; 4] = b"FLXV";
const SCI_IRQ: u8 = 9;
const HEADER: usize = 36;

/// What the tables depend on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcpiShape {
    /// Number of vCPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: u16,
    /// Where the first table, the RSDP, goes: a multiple of 64, all tables below 4 GiB.
    pub base: Gpa,
    /// Where there is a PCI bus: the first byte of the memory that its windows may lie in, which is the end of low RAM.
    pub pci: Option<Gpa>,
}

/// The tables in guest memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcpiTables {
    /// Address of the RSDP, for `hvm_start_info.rsdp_paddr` or `boot_params.acpi_rsdp_addr`.
    pub rsdp: Gpa,
    /// What to write where; the pieces do not overlap.
    pub pieces: Vec<(Gpa, Vec<u8>)>,
}

/// Builds all tables for `shape`.
#[must_use]
pub fn build(shape: &AcpiShape) -> AcpiTables {
    let vcpus = shape.vcpus.clamp(1, MAX_VCPUS);
    let mut place = Place { next: shape.base.0, pieces: Vec::new() };
    let rsdp = place.reserve(36);
    let facs = place.put(facs());
    let dsdt = place.put(dsdt::build(vcpus, shape.pci));
    let fadt = place.put(fadt(facs as u32, dsdt as u32, shape.pci.is_some()));
    let madt = place.put(madt(vcpus));
    let rsdt =
        place.put(table(b"RSDT", 1, &[(fadt as u32).to_le_bytes(), (madt as u32).to_le_bytes()].concat()));
    let xsdt = place.put(table(b"XSDT", 1, &[fadt.to_le_bytes(), madt.to_le_bytes()].concat()));
    place.pieces.push((Gpa(rsdp), rsdp_bytes(rsdt as u32, xsdt)));
    AcpiTables { rsdp: Gpa(rsdp), pieces: place.pieces }
}

/// Hands out addresses one after the other, aligned as the FACS wants it.
struct Place {
    next: u64,
    pieces: Vec<(Gpa, Vec<u8>)>,
}

impl Place {
    fn reserve(&mut self, len: usize) -> u64 {
        let at = self.next;
        self.next = (at + len as u64).next_multiple_of(64);
        at
    }

    fn put(&mut self, bytes: Vec<u8>) -> u64 {
        let at = self.reserve(bytes.len());
        self.pieces.push((Gpa(at), bytes));
        at
    }
}

/// A system description table: header, body, checksum.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(signature);
    bytes.extend(((HEADER + body.len()) as u32).to_le_bytes());
    bytes.extend([revision, 0]);
    bytes.extend(OEM_ID);
    bytes.extend(OEM_TABLE_ID);
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(CREATOR_ID);
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(body);
    bytes[9] = checksum(&bytes);
    bytes
}

/// The byte that brings the sum of all to 0.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

fn rsdp_bytes(rsdt: u32, xsdt: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(36);
    bytes.extend(b"RSD PTR ");
    bytes.push(0);
    bytes.extend(OEM_ID);
    bytes.push(2);
    bytes.extend(rsdt.to_le_bytes());
    bytes[8] = checksum(&bytes);
    bytes.extend(36u32.to_le_bytes());
    bytes.extend(xsdt.to_le_bytes());
    bytes.extend([0; 4]);
    bytes[32] = checksum(&bytes);
    bytes
}

fn facs() -> Vec<u8> {
    let mut bytes = alloc::vec![0; 64];
    bytes[..4].copy_from_slice(b"FACS");
    bytes[4] = 64;
    bytes[32] = 1; // version
    bytes
}

/// FADT of ACPI 5.0: revision 5, 268 bytes.
fn fadt(facs: u32, dsdt: u32, pci: bool) -> Vec<u8> {
    const LEGACY_DEVICES: u16 = 1;
    const NO_VGA: u16 = 1 << 2;
    const NO_MSI: u16 = 1 << 3;
    const NO_ASPM: u16 = 1 << 4;
    /// WBINVD, C1 on all processors, no sleep button, RTC wake is not a fixed event, 32-bit timer, reset register, headless.
    const FLAGS: u32 = 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 12;
    const RESET_VALUE: u8 = 0x06;
    let mut bytes = table(b"FACP", 5, &[0; 268 - HEADER]);
    let mut set = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    set(36, &facs.to_le_bytes());
    set(40, &dsdt.to_le_bytes());
    set(45, &[4]); // preferred profile: enterprise server
    set(46, &u16::from(SCI_IRQ).to_le_bytes());
    set(56, &u32::from(PM1A_EVT).to_le_bytes());
    set(64, &u32::from(PM1A_CNT).to_le_bytes());
    set(76, &u32::from(PM_TMR).to_le_bytes());
    set(88, &[4, 2, 0, 4]); // lengths: PM1_EVT, PM1_CNT, PM2_CNT, PM_TMR
    set(96, &0xFFFFu16.to_le_bytes()); // no C2
    set(98, &0xFFFFu16.to_le_bytes()); // no C3
    set(108, &[0x32]); // CMOS index of the century
    let no_msi = if pci { 0 } else { NO_MSI };
    set(109, &(LEGACY_DEVICES | NO_VGA | no_msi | NO_ASPM).to_le_bytes());
    set(112, &FLAGS.to_le_bytes());
    set(116, &io_address(0xCF9, 8, 1));
    set(128, &[RESET_VALUE]);
    set(140, &u64::from(dsdt).to_le_bytes());
    set(148, &io_address(PM1A_EVT, 32, 2));
    set(172, &io_address(PM1A_CNT, 16, 2));
    set(208, &io_address(PM_TMR, 32, 3));
    bytes[9] = 0;
    bytes[9] = checksum(&bytes);
    bytes
}

/// Generic address structure in I/O space; `access` is 1 byte, 2 word, 3 dword.
fn io_address(port: u16, bits: u8, access: u8) -> [u8; 12] {
    let [low, high] = port.to_le_bytes();
    [1, bits, 0, access, low, high, 0, 0, 0, 0, 0, 0]
}

fn madt(vcpus: u16) -> Vec<u8> {
    const PCAT_COMPAT: u32 = 1;
    let mut body = Vec::new();
    body.extend((LAPIC_BASE as u32).to_le_bytes());
    body.extend(PCAT_COMPAT.to_le_bytes());
    for id in 0..vcpus as u8 {
        // Local APIC: ACPI processor UID, APIC ID, enabled.
        body.extend([0, 8, id, id, 1, 0, 0, 0]);
    }
    body.extend([1, 12, ioapic::id(vcpus), 0]);
    body.extend((IOAPIC_BASE as u32).to_le_bytes());
    body.extend(0u32.to_le_bytes());
    // ISA overrides: the PIT at pin 2; the SCI at its own pin, active high and level-triggered.
    body.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    body.extend([2, 10, 0, SCI_IRQ, SCI_IRQ, 0, 0, 0, 0x0D, 0]);
    // NMI at LINT1 of all processors.
    body.extend([4, 6, 0xFF, 0, 0, 1]);
    table(b"APIC", 4, &body)
}
