//! The whole machine as records: one a device, one for each local APIC.

use super::{Board, Bus, FUNCTIONS, Platform};
use crate::lapic::{self, LocalApic};
use crate::state::{find, refuse};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use vm_types::{StateError, StateRecord};

impl Platform {
    /// The kinds of its devices: what another host must know to take it over.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        Board::KINDS.iter().copied().chain([lapic::KIND]).chain(self.pci.iter().flat_map(Bus::kinds))
    }

    /// Whether boards of this version can have a device of this kind.
    #[must_use]
    pub fn knows(kind: &str) -> bool {
        kind == lapic::KIND || Board::KINDS.contains(&kind) || Self::on_pci(kind)
    }

    /// Whether it sits on the PCI bus: a machine with such a device has one.
    #[must_use]
    pub fn on_pci(kind: &str) -> bool {
        FUNCTIONS.iter().any(|socket| socket.kind() == kind)
    }

    /// The state of every device, with the records of the local APICs, by vCPU, at their place. Call [`Platform::advance`]
    /// first, so that no timer is overdue.
    #[must_use]
    pub fn export(&self, apics: impl IntoIterator<Item = StateRecord>) -> Vec<StateRecord> {
        let mut records = Vec::with_capacity(Board::KINDS.len() + usize::from(self.config.vcpus));
        self.board.export(&mut records);
        records.extend(apics);
        records.extend(self.pci.iter().flat_map(Bus::export));
        records
    }

    /// Takes over the state of a machine with the same configuration, all of it or nothing. The local APICs, by vCPU, are
    /// the caller's.
    ///
    /// # Errors
    /// [`StateError`] where a record is unknown, missing, twice there, or holds a value that the device
    /// cannot have; the machine is unchanged then.
    pub fn import(&mut self, records: &[StateRecord]) -> Result<Vec<LocalApic>, StateError> {
        for record in records {
            if !self.kinds().any(|kind| kind == record.kind) {
                return Err(refuse(&record.kind, "no such device".to_string()));
            }
        }
        let vcpus = self.config.vcpus;
        let functions = self.pci.as_ref().map_or(0, Bus::count);
        let expected = Board::KINDS.len() + usize::from(vcpus) + functions;
        let mut lapics = Vec::with_capacity(usize::from(vcpus));
        for id in 0..vcpus {
            lapics.push(LocalApic::import(find(records, lapic::KIND, id)?, &self.config, &self.apics)?);
        }
        let board = Board::import(records, &self.config)?;
        let pci = self.pci.as_ref().map(|bus| bus.import(&self.config, records)).transpose()?;
        // Each device has found its own, and no second one: what is more has none.
        if records.len() > expected {
            return Err(refuse("platform", format!("{} records, {expected} expected", records.len())));
        }
        *self = Self {
            config: self.config,
            board,
            pci,
            apics: self.apics.clone(),
            lines: 0,
            intr: false,
            kicks: self.apics.all(),
            // The deadlines are found at the first access.
            next: 0,
        };
        self.apics.set_deadline(0);
        self.lines = self.all_lines();
        self.apics.set_intr(false);
        self.update_intr();
        Ok(lapics)
    }
}
