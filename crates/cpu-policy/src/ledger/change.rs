//! Where a guest becomes freer or tighter by a move: its ledger of one host against that of another.

use alloc::vec::Vec;
use core::fmt;

use super::{Ledger, LedgerRow};

/// One row that a move changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change<'a> {
    /// The row there; None where that ledger does not know it.
    pub before: Option<&'a LedgerRow>,
    /// The row here.
    pub now: &'a LedgerRow,
}

impl Change<'_> {
    /// True where something works here that did not work there; false for the reverse.
    #[must_use]
    pub fn freer(&self) -> bool {
        self.now.is_hole()
    }
}

impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.freer() { "freer" } else { "tighter" };
        write!(f, "{word}: {}: ", self.now.name)?;
        match self.before {
            Some(before) => f.write_str(&before.says())?,
            None => f.write_str("not in the ledger that came along")?,
        }
        write!(f, " -> {}", self.now.says())?;
        if !self.now.remains.is_empty() {
            write!(f, ", but {}", self.now.remains)?;
        }
        Ok(())
    }
}

impl Ledger {
    /// What changes for the guest against `before`, its ledger on the host that it came from.
    #[must_use]
    pub fn changes<'a>(&'a self, before: &'a Self) -> Vec<Change<'a>> {
        let found = |row: &LedgerRow| before.rows.iter().find(|other| other.name == row.name);
        let change = |now: &'a LedgerRow| {
            let before = found(now);
            let was_hole = before.is_some_and(LedgerRow::is_hole);
            (was_hole != now.is_hole()).then_some(Change { before, now })
        };
        self.rows.iter().filter_map(change).collect()
    }
}
