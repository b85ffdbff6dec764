//! MADT: CPUs and interrupt controllers (5.2.12).

use alloc::vec::Vec;

use crate::bytes::{records, u8_at, u16_at, u32_at, u64_at};

/// A CPU's local APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// Local APIC (or x2APIC) id.
    pub apic_id: u32,
    /// ACPI processor uid.
    pub uid: u32,
    /// Ready for use. Others may be brought in while the machine runs; we do not.
    pub enabled: bool,
}

/// An I/O APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApic {
    /// Its id.
    pub id: u8,
    /// Physical address of its registers.
    pub address: u32,
    /// Global system interrupt of its first pin.
    pub gsi_base: u32,
}

/// An ISA interrupt that is not wired one to one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceOverride {
    /// ISA interrupt.
    pub source: u8,
    /// Global system interrupt it arrives at.
    pub gsi: u32,
    /// MPS INTI flags: polarity in bits 0-1, trigger mode in bits 2-3.
    pub flags: u16,
}

/// The MADT.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Madt {
    /// Physical address of the local APICs.
    pub local_apic: u64,
    /// A PC-AT dual 8259 is there and must be masked.
    pub has_pic: bool,
    /// CPUs in the table's order, each APIC id once.
    pub cpus: Vec<Cpu>,
    /// I/O APICs.
    pub io_apics: Vec<IoApic>,
    /// ISA interrupt overrides.
    pub overrides: Vec<SourceOverride>,
}

pub(crate) fn parse(table: &[u8]) -> Option<Madt> {
    let mut out = Madt {
        local_apic: u32_at(table, 36)?.into(),
        has_pic: u32_at(table, 40)? & 1 != 0,
        ..Madt::default()
    };
    for (kind, r) in records(table, 44, |b| Some((u8_at(b, 0)?.into(), u8_at(b, 1)?.into()))) {
        entry(&mut out, kind, r);
    }
    Some(out)
}

/// One structure; one that is too short for its type is left out.
fn entry(out: &mut Madt, kind: u16, r: &[u8]) -> Option<()> {
    match kind {
        0 => cpu(out, u8_at(r, 3)?.into(), u8_at(r, 2)?.into(), u32_at(r, 4)?),
        1 => {
            out.io_apics.push(IoApic { id: u8_at(r, 2)?, address: u32_at(r, 4)?, gsi_base: u32_at(r, 8)? });
        }
        2 => out.overrides.push(SourceOverride {
            source: u8_at(r, 3)?,
            gsi: u32_at(r, 4)?,
            flags: u16_at(r, 8)?,
        }),
        5 => out.local_apic = u64_at(r, 4)?,
        9 => cpu(out, u32_at(r, 4)?, u32_at(r, 12)?, u32_at(r, 8)?),
        _ => {}
    }
    Some(())
}

fn cpu(out: &mut Madt, apic_id: u32, uid: u32, flags: u32) {
    // Firmware may list a CPU both as APIC and as x2APIC, and unused slots with the broadcast id.
    if !out.cpus.iter().any(|c| c.apic_id == apic_id) {
        out.cpus.push(Cpu { apic_id, uid, enabled: flags & 1 != 0 });
    }
}
