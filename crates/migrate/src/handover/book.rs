//! What a host remembers of hand-overs that are over, for the other end that asks.

use alloc::collections::VecDeque;

use super::{Deal, Word, stranger};
use crate::body::{Fate, Id};

/// Hand-overs that a host remembers at most, some 150 bytes each.
pub const REMEMBERED: usize = 1024;

/// The last hand-over of each VM with each other host. An older one is none's question any more: a host that were still in
/// doubt about the VM would not have agreed to take or give it again.
///
/// Once a host remembered the last 64 migrations of whatever VM, refused offers among them. It told a peer that it knew
/// nothing of a VM that it ran, and the peer's operator was advised to run it there, too.
#[derive(Clone, Default, Debug)]
pub struct Book {
    /// The latest last.
    ended: VecDeque<(Deal, Word)>,
}

impl Book {
    /// Remembers what became of a migration, where the other end can ask: `last_word` of [`crate::Source`] and
    /// [`crate::Target`]. Where the book is full, one is forgotten of a VM that this host does not have (`has`, by uuid).
    pub fn remember(&mut self, deal: Deal, word: Word, has: impl Fn(&Id) -> bool) {
        self.ended.retain(|(old, _)| {
            let same = old.vm_uuid == deal.vm_uuid && old.there == deal.there;
            !same && old.migration != deal.migration
        });
        if self.ended.len() >= REMEMBERED {
            let gone = self.ended.iter().position(|(old, _)| !has(&old.vm_uuid));
            self.ended.remove(gone.unwrap_or(0));
        }
        self.ended.push_back((deal, word));
    }

    /// What this host, with this boot id, says to a peer that asks about a migration that is over here, or never was.
    #[must_use]
    pub fn answer(&self, asked: &Fate, boot: Id) -> Fate {
        let ended = self.ended.iter().find(|(deal, _)| deal.hear(asked).is_ok());
        ended.map_or_else(|| stranger(boot, asked), |(deal, word)| deal.say(*word, 0))
    }

    /// How many it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ended.len()
    }

    /// Whether it remembers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::{Doubt, Role, Settle};

    const HERE: Id = [3; 16];

    fn id(kind: u8, number: usize) -> Id {
        let mut id = [kind; 16];
        id[..8].copy_from_slice(&(number as u64).to_le_bytes());
        id
    }

    fn deal(role: Role, vm: usize, migration: usize, there: usize) -> Deal {
        Deal {
            role,
            migration: id(1, migration),
            vm_uuid: id(2, vm),
            here: HERE,
            there: id(4, there),
            secret: [5; 32],
        }
    }

    fn other(deal: &Deal) -> Deal {
        Deal { role: deal.role.other(), here: deal.there, there: deal.here, ..deal.clone() }
    }

    /// Fault 1.3: the VM runs here, the target has held a copy through a long cut, and much has happened since.
    #[test]
    fn what_this_host_runs_is_never_forgotten() {
        let kept = deal(Role::Source, 0, 0, 0);
        let mut book = Book::default();
        book.remember(kept.clone(), Word::Kept, |_| true);
        for number in 1..3 * REMEMBERED {
            book.remember(deal(Role::Target, number, number, number), Word::Destroyed, |vm| *vm == id(2, 0));
        }
        assert_eq!(book.len(), REMEMBERED);
        let mut held = Doubt::held(Some(other(&kept)));
        let answer = book.answer(&held.say(0).unwrap(), HERE);
        assert_eq!(held.hear(&answer), Ok(Settle::Destroy));
    }

    #[test]
    fn a_vm_has_one_place_for_each_other_host() {
        let mut book = Book::default();
        for number in 0..100 {
            let role = if number % 2 == 0 { Role::Source } else { Role::Target };
            book.remember(deal(role, 7, number, number % 3), Word::Runs, |_| false);
        }
        assert_eq!(book.len(), 3);
        let last = deal(Role::Target, 7, 99, 0);
        assert_eq!(other(&last).hear(&book.answer(&other(&last).say(Word::Commit, 0), HERE)), Ok(Word::Runs));
        let old = other(&deal(Role::Source, 7, 96, 0));
        assert_eq!(old.hear(&book.answer(&old.say(Word::Holds, 0), HERE)), Ok(Word::Unknown));
    }

    /// A host that has not started since is not said to have.
    #[test]
    fn what_is_forgotten_is_told_from_a_new_start() {
        for (boot, anew) in [(HERE, false), (id(9, 9), true)] {
            let mut left = Doubt::left(Some(other(&deal(Role::Target, 0, 0, 0))));
            let answer = Book::default().answer(&left.say(0).unwrap(), boot);
            assert_eq!(left.hear(&answer), Ok(Settle::Alone { anew }));
        }
    }
}
