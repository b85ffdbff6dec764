//! What a file is in the life of its VM.

use core::fmt;

/// Who owns the VM that the file holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum State {
    /// Nobody can run it from here: memory or state are missing.
    Incomplete = 1,
    /// All is here, and the source was told so; whether it gave the VM up is not known here.
    Held = 2,
    /// This file owns the VM.
    Owner = 3,
    /// The VM was given to a host; whether that runs it is not known here.
    Given = 4,
    /// A host runs the VM: the file starts it never again.
    Used = 5,
    /// A copy of a VM that ran on elsewhere: the file starts clones of it, never that VM.
    Checkpoint = 6,
}

impl State {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::Held => "held",
            Self::Owner => "owner",
            Self::Given => "given",
            Self::Used => "used",
            Self::Checkpoint => "checkpoint",
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        [Self::Incomplete, Self::Held, Self::Owner, Self::Given, Self::Used, Self::Checkpoint]
            .into_iter()
            .find(|state| *state as u32 == number)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
