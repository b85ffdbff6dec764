//! The whole board as records: one a device, one for each local APIC.

use super::{Platform, VcpuSet};
use crate::chipset::{self, Chipset};
use crate::ioapic::{self, IoApic};
use crate::lapic::{self, Lapic};
use crate::pic::{self, Pic};
use crate::pit::{self, Pit};
use crate::pm::{self, Pm};
use crate::rtc::{self, Rtc};
use crate::uart::{self, Uart};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use vm_types::{StateError, StateRecord};

/// The devices there is one of.
const SINGLE: [&str; 7] =
    [uart::KIND, pic::KIND, pit::KIND, rtc::KIND, pm::KIND, chipset::KIND, ioapic::KIND];

impl Platform {
    /// Whether [`Platform::import`] knows records of this kind.
    #[must_use]
    pub fn owns_record(kind: &str) -> bool {
        kind == lapic::KIND || SINGLE.contains(&kind)
    }

    /// The state of every device. Call [`Platform::advance`] first, so that no timer is overdue.
    #[must_use]
    pub fn export(&self) -> Vec<StateRecord> {
        let mut records = Vec::with_capacity(SINGLE.len() + self.lapics.len());
        records.push(self.uart.export());
        records.push(self.pic.export());
        records.push(self.pit.export());
        records.push(self.rtc.export());
        records.push(self.pm.export());
        records.push(self.chipset.export());
        records.push(self.ioapic.export());
        records.extend(self.lapics.iter().map(Lapic::export));
        records
    }

    /// Takes over the state of a machine with the same configuration, all of it or nothing.
    ///
    /// # Errors
    /// [`StateError`] where a record is unknown, missing, twice there, or holds a value that the device
    /// cannot have; the machine is unchanged then.
    pub fn import(&mut self, records: &[StateRecord]) -> Result<(), StateError> {
        for record in records {
            if !Self::owns_record(&record.kind) {
                return Err(refuse(&record.kind, "no such device".to_string()));
            }
        }
        let vcpus = self.config.vcpus;
        let expected = SINGLE.len() + usize::from(vcpus);
        if records.len() > expected {
            return Err(refuse("platform", format!("{} records, {expected} expected", records.len())));
        }
        // As many records as devices, and each device finds its own: none is twice there or left over.
        let features = self.config.features();
        let mut lapics = Vec::with_capacity(usize::from(vcpus));
        for id in 0..vcpus {
            lapics.push(Lapic::import(find(records, lapic::KIND, id)?, features)?);
        }
        let mut new = Self {
            config: self.config,
            uart: Uart::import(find(records, uart::KIND, 0)?)?,
            pic: Pic::import(find(records, pic::KIND, 0)?)?,
            pit: Pit::import(find(records, pit::KIND, 0)?)?,
            rtc: Rtc::import(find(records, rtc::KIND, 0)?)?,
            pm: Pm::import(find(records, pm::KIND, 0)?)?,
            chipset: Chipset::import(find(records, chipset::KIND, 0)?)?,
            ioapic: IoApic::import(find(records, ioapic::KIND, 0)?)?,
            lapics,
            lines: 0,
            intr: false,
            dirty: VcpuSet(0),
            // The deadlines are found at the first access.
            next: 0,
        };
        new.lines = new.device_lines();
        new.update_intr();
        new.dirty = VcpuSet(u64::MAX >> (64 - u32::from(vcpus.clamp(1, 64))));
        *self = new;
        Ok(())
    }
}

fn find<'r>(records: &'r [StateRecord], kind: &str, instance: u16) -> Result<&'r StateRecord, StateError> {
    let found = records.iter().find(|record| record.kind == kind && record.instance == instance);
    found.ok_or_else(|| refuse(kind, format!("instance {instance} is missing")))
}

fn refuse(kind: &str, why: alloc::string::String) -> StateError {
    StateError { kind: kind.to_string(), why }
}
