//! What keeps from a VM what its policy hides, as it is told from host to host.

use cpu_policy::Companion;

use super::Vm;
use crate::policy::ledger;

impl Vm {
    /// What it takes along for the operator of the host that it goes to.
    pub(crate) fn parting(&self) -> Companion {
        let seen = self.audited(|findings, _| (!findings.is_empty()).then(|| findings.encode()));
        Companion { ledger: Some(ledger::of(&self.policy())), seen }
    }

    /// Logs where it became freer or tighter than it was on the host that it left.
    pub(crate) fn tell_changes(&self) {
        let Some(there) = &self.companion.ledger else { return };
        for change in ledger::of(&self.policy()).changes(there) {
            log::info!(target: "cpu", "vm {}: {change}", self.name);
        }
    }
}
