//! What two hosts know of a migration that they have in common, and what they say of it when they are asked.

use alloc::string::String;
use core::fmt::{self, Write};

use blake2::Blake2sMac256;
use blake2::digest::{KeyInit, Mac};

use crate::body::{Fate, Id, SECRET_BYTES, Secret};

/// Which end of a migration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// The VM leaves.
    Source,
    /// The VM comes.
    Target,
}

impl Role {
    const fn number(self) -> u8 {
        match self {
            Self::Source => 0,
            Self::Target => 1,
        }
    }

    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Source => Self::Target,
            Self::Target => Self::Source,
        }
    }
}

/// What an end says of a migration when it is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Word {
    /// Nothing is decided here yet.
    Wait,
    /// Source: the VM is the target's; what COMMIT says.
    Commit,
    /// Source: the VM stays with it, for good.
    Kept,
    /// Target: all is here and verified.
    Holds,
    /// Target: it runs here, for good.
    Runs,
    /// Target: the copy is destroyed, for good.
    Destroyed,
    /// Either: it has started since, and knows nothing of it.
    Unknown,
}

impl Word {
    /// All of them; the place is the number on the wire.
    pub const ALL: [Self; 7] =
        [Self::Wait, Self::Commit, Self::Kept, Self::Holds, Self::Runs, Self::Destroyed, Self::Unknown];

    fn number(self) -> u8 {
        Self::ALL.iter().position(|word| *word == self).unwrap_or_default() as u8
    }
}

/// Why an answer counts for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FateError {
    /// Another VM or migration, or from the same end.
    #[error("it is about another migration")]
    Other,
    /// Not a word of this version.
    #[error("its word is {0}, of {count} that there are", count = Word::ALL.len())]
    Word(u8),
    /// The secret of the first connection is not behind it.
    #[error("its MAC does not fit")]
    Forged,
}

/// What an end knows of a migration, from HELLO and HELLO_ACK on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deal {
    /// Which end this is.
    pub role: Role,
    /// Of the migration.
    pub migration: Id,
    /// Of the VM.
    pub vm_uuid: Id,
    /// Of this host's start.
    pub here: Id,
    /// Of the other's.
    pub there: Id,
    /// Of the first connection.
    pub secret: Secret,
}

impl Deal {
    /// MAC over all that is said: BLAKE2s keyed with the secret (RFC 7693 section 2.9).
    fn mac(&self, kind: &[u8; 8], by: Role, word: u8, exported_ns: u64) -> Option<[u8; 32]> {
        let (from, to) = if by == self.role { (self.here, self.there) } else { (self.there, self.here) };
        let mut mac = <Blake2sMac256 as KeyInit>::new_from_slice(&self.secret).ok()?;
        for part in [&kind[..], &self.vm_uuid, &self.migration, &from, &to, &[by.number(), word]] {
            mac.update(part);
        }
        mac.update(&exported_ns.to_le_bytes());
        Some(mac.finalize().into_bytes().into())
    }

    /// Says a word. `exported_ns`: nanoseconds since the state was exported, with [`Word::Commit`].
    #[must_use]
    pub fn say(&self, word: Word, exported_ns: u64) -> Fate {
        let mac = self.mac(b"flexfate", self.role, word.number(), exported_ns);
        Fate {
            migration: self.migration,
            vm_uuid: self.vm_uuid,
            from: self.here,
            to: self.there,
            role: self.role.number(),
            word: word.number(),
            exported_ns,
            mac: mac.unwrap_or_default(),
        }
    }

    /// What the other end's message says.
    ///
    /// # Errors
    /// [`FateError`]; the message changes nothing then.
    pub fn hear(&self, fate: &Fate) -> Result<Word, FateError> {
        let same = fate.migration == self.migration && fate.vm_uuid == self.vm_uuid;
        if !same || fate.role != self.role.other().number() || fate.to != self.here {
            return Err(FateError::Other);
        }
        let word = *Word::ALL.get(usize::from(fate.word)).ok_or(FateError::Word(fate.word))?;
        // Who has started anew has no secret to sign with. It can say nothing but this.
        if word == Word::Unknown || fate.from != self.there {
            return if word == Word::Unknown { Ok(word) } else { Err(FateError::Other) };
        }
        let mac = self.mac(b"flexfate", self.role.other(), fate.word, fate.exported_ns);
        if mac.is_some_and(|mac| same_bytes(&mac, &fate.mac)) { Ok(word) } else { Err(FateError::Forged) }
    }

    /// Proof that this end has given its copy up for good.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        Receipt(self.mac(b"flexgone", self.role, 0, 0).unwrap_or_default())
    }

    /// Whether a receipt proves that the other end has given its copy up for good.
    #[must_use]
    pub fn takes(&self, receipt: &str) -> bool {
        let mac = self.mac(b"flexgone", self.role.other(), 0, 0);
        let read = Receipt::parse(receipt);
        mac.zip(read).is_some_and(|(mac, read)| same_bytes(&mac, &read.0))
    }
}

/// An answer to a question about a migration that this host knows nothing of. `here`: its boot id.
#[must_use]
pub fn stranger(here: Id, asked: &Fate) -> Fate {
    Fate {
        from: here,
        to: asked.from,
        role: asked.role ^ 1,
        word: Word::Unknown.number(),
        exported_ns: 0,
        mac: [0; 32],
        ..asked.clone()
    }
}

/// Compares without telling by its time where they differ.
fn same_bytes(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// What `migrate resolve VM discard` prints: 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt([u8; 32]);

impl Receipt {
    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; SECRET_BYTES];
        if text.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
            let digit = |c: u8| char::from(c).to_digit(16);
            *byte = (digit(digits[0])? << 4 | digit(digits[1])?) as u8;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.iter().try_fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}")?;
            Ok::<_, fmt::Error>(text)
        })?;
        f.write_str(&text)
    }
}

#[cfg(test)]
pub(super) mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    /// What the two ends of one migration know.
    pub(in crate::handover) fn ends() -> (Deal, Deal) {
        let source = Deal {
            role: Role::Source,
            migration: [1; 16],
            vm_uuid: [2; 16],
            here: [3; 16],
            there: [4; 16],
            secret: [5; 32],
        };
        let target = Deal { role: Role::Target, here: source.there, there: source.here, ..source.clone() };
        (source, target)
    }

    #[test]
    fn each_end_understands_the_other_and_nobody_else() {
        let (source, target) = ends();
        for word in Word::ALL {
            assert_eq!(target.hear(&source.say(word, 7)), Ok(word));
            assert_eq!(source.hear(&target.say(word, 0)), Ok(word));
        }
        assert_eq!(source.hear(&source.say(Word::Kept, 0)), Err(FateError::Other), "its own words");
        let said = source.say(Word::Commit, 7);
        for (altered, error) in [
            (Fate { word: 2, ..said.clone() }, FateError::Forged),
            (Fate { exported_ns: 8, ..said.clone() }, FateError::Forged),
            (Fate { migration: [9; 16], ..said.clone() }, FateError::Other),
            (Fate { vm_uuid: [9; 16], ..said.clone() }, FateError::Other),
            (Fate { from: [9; 16], ..said.clone() }, FateError::Other),
            (Fate { to: [9; 16], ..said.clone() }, FateError::Other),
            (Fate { word: 7, ..said.clone() }, FateError::Word(7)),
        ] {
            assert_eq!(target.hear(&altered), Err(error), "{altered:?}");
        }
        let thief = Deal { secret: [6; 32], ..source };
        assert_eq!(target.hear(&thief.say(Word::Commit, 7)), Err(FateError::Forged));
    }

    #[test]
    fn who_started_anew_can_only_say_so() {
        let (source, target) = ends();
        let answer = stranger([8; 16], &source.say(Word::Commit, 1));
        assert_eq!(source.hear(&answer), Ok(Word::Unknown));
        let lie = Fate { word: Word::Destroyed.number(), ..answer };
        assert_eq!(source.hear(&lie), Err(FateError::Other));
        assert_eq!(target.hear(&stranger([8; 16], &target.say(Word::Holds, 0))), Ok(Word::Unknown));
    }

    #[test]
    fn a_receipt_is_of_one_end_of_one_migration() {
        let (source, target) = ends();
        let receipt = target.receipt().to_string();
        assert_eq!(receipt.len(), 64);
        assert!(source.takes(&receipt) && source.takes(&receipt.to_uppercase()));
        assert!(!target.takes(&receipt), "its own");
        assert!(target.takes(&source.receipt().to_string()));
        let other = Deal { migration: [9; 16], ..source.clone() };
        for wrong in
            ["", "00", &receipt[1..], &receipt.replace(&receipt[..1], "g"), &other.receipt().to_string()]
        {
            assert!(!source.takes(wrong), "{wrong}");
        }
    }
}
