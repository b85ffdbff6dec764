//! The longest turn of a loop that nobody may hold, and what it did.
//!
//! The host's CPU 0 does a little of everything in each turn of one loop: what takes long in one part holds up all
//! others, and nothing but the time that a turn took shows it. Times are ticks of any clock that never goes back.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

/// What a turn does, part by part; the finer ones stand for the part that they are done in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Part {
    /// Interrupts, and what other CPUs ask.
    #[default]
    Interrupts,
    /// Frames, TCP/IP, the card and the IOMMU.
    Net,
    /// Handshakes and links that end.
    Link,
    /// The audit of running code.
    Audit,
    /// Migrations.
    Migration,
    /// The pool.
    Pool,
    /// VMs that boot modules describe, and guests that boot anew.
    Boot,
    /// Serial consoles, their prompts and guests.
    Console,
    /// Consoles of others, over links.
    Management,
    /// Memory that came back is cleared.
    Scrub,
    /// One command, from its line to its first answer.
    Command,
    /// `vm create`.
    Create,
    /// `vm reset`.
    Reset,
    /// Writes of a guest begin or end to be noticed.
    Tracking,
}

impl Part {
    const ALL: [Self; 14] = [
        Self::Interrupts,
        Self::Net,
        Self::Link,
        Self::Audit,
        Self::Migration,
        Self::Pool,
        Self::Boot,
        Self::Console,
        Self::Management,
        Self::Scrub,
        Self::Command,
        Self::Create,
        Self::Reset,
        Self::Tracking,
    ];

    /// As texts and JSON have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupts => "interrupts",
            Self::Net => "net",
            Self::Link => "link",
            Self::Audit => "audit",
            Self::Migration => "migration",
            Self::Pool => "pool",
            Self::Boot => "boot",
            Self::Console => "console",
            Self::Management => "management",
            Self::Scrub => "scrub",
            Self::Command => "command",
            Self::Create => "create",
            Self::Reset => "reset",
            Self::Tracking => "tracking",
        }
    }

    /// The one of that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A turn that took longer than all before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Longest {
    /// Ticks of the whole turn.
    pub ticks: u64,
    /// The part that took most of it.
    pub part: Part,
    /// Ticks of that part.
    pub of_it: u64,
    /// When it ended.
    pub at: u64,
}

impl Longest {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { ticks: 0, part: Part::Interrupts, of_it: 0, at: 0 }
    }

    /// A turn is over. True where none was longer.
    #[inline]
    pub fn ended(&mut self, turn: &Turn, now: u64) -> bool {
        let ticks = now.saturating_sub(turn.began);
        let longest = ticks > self.ticks;
        if longest {
            *self = Self { ticks, part: turn.part, of_it: turn.of_it, at: now };
        }
        longest
    }
}

/// The clock of one turn. It is its loop's own: each part costs a few instructions, in turns that find nothing, too.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    began: u64,
    /// When the part before ended.
    last: u64,
    /// The part that took most so far.
    part: Part,
    of_it: u64,
}

impl Turn {
    /// A turn begins.
    #[must_use]
    #[inline]
    pub const fn new(now: u64) -> Self {
        Self { began: now, last: now, part: Part::Interrupts, of_it: 0 }
    }

    /// What was done since the last call, or since the turn began, was this.
    #[inline]
    pub fn did(&mut self, part: Part, now: u64) {
        let ticks = now.saturating_sub(self.last);
        self.last = now;
        if ticks >= self.of_it {
            (self.part, self.of_it) = (part, ticks);
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn the_longest_turn_and_its_longest_part() {
        let mut longest = Longest::new();
        let mut turn = Turn::new(100);
        turn.did(Part::Net, 130);
        turn.did(Part::Console, 140);
        assert!(longest.ended(&turn, 145));
        turn = Turn::new(1000);
        turn.did(Part::Net, 1010);
        turn.did(Part::Reset, 1300);
        assert!(longest.ended(&turn, 1310));
        turn = Turn::new(2000);
        turn.did(Part::Net, 2200);
        assert!(!longest.ended(&turn, 2200));
        assert_eq!(longest, Longest { ticks: 310, part: Part::Reset, of_it: 290, at: 1310 });
    }

    #[test]
    fn each_part_has_its_number_and_its_name() {
        for (number, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!((part as usize, Part::from_number(number as u8)), (number, Some(part)));
        }
        let names: std::collections::BTreeSet<_> = Part::ALL.iter().map(|part| part.name()).collect();
        assert_eq!((names.len(), Part::from_number(Part::ALL.len() as u8)), (Part::ALL.len(), None));
    }

    proptest! {
        /// Held against a plain list of what each turn did.
        #[test]
        fn agrees_with_a_list(turns in prop::collection::vec(prop::collection::vec((0_u8..14, 0_u64..1000), 1..8), 1..40)) {
            let (mut found, mut now, mut all) = (Longest::new(), 0, Vec::new());
            for parts in &turns {
                let mut turn = Turn::new(now);
                for (part, ticks) in parts {
                    now += ticks;
                    turn.did(Part::from_number(*part).unwrap(), now);
                }
                found.ended(&turn, now);
                all.push((parts.iter().map(|(_, ticks)| ticks).sum::<u64>(), parts.iter().map(|p| p.1).max().unwrap()));
            }
            let longest = all.iter().map(|turn| turn.0).max().unwrap();
            prop_assert_eq!(found.ticks, longest);
            prop_assert!(longest == 0 || all.contains(&(longest, found.of_it)));
        }
    }
}
