//! What an operator can ask for, and what goes on with a VM.

use super::State;

/// What an operator does with one VM, from whichever session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Command {
    /// `vm pause`.
    Pause,
    /// `vm resume`.
    Resume,
    /// `vm start`.
    Start,
    /// `vm stop`, `vm nmi`: the power button, and an NMI.
    Stop,
    /// `vm reset`.
    Reset,
    /// `vm destroy`.
    Destroy,
    /// `vm rename`.
    Rename,
    /// `vm regs`, `vm mem`, `vm stack`: the vCPUs are held for a moment.
    Inspect,
    /// `vm dirty start`, `harvest`, `stop`.
    Dirty,
    /// `cpu audit start`, `stop`.
    Audit,
    /// `migrate check`.
    Check,
    /// `migrate`, `migrate all`.
    Move,
    /// `migrate cancel`, Ctrl-C.
    Cancel,
    /// `migrate resolve`.
    Resolve,
    /// A byte typed at its console, or at the host's port that is its COM1.
    Type,
    /// What only looks: `vm list`, `show`, `exits`, `log`, `console --read-only`, `cpu audit report`, `migrate status`.
    Look,
}

impl Command {
    /// All of them; the place is the row of the table.
    pub const ALL: [Self; 16] = [
        Self::Pause,
        Self::Resume,
        Self::Start,
        Self::Stop,
        Self::Reset,
        Self::Destroy,
        Self::Rename,
        Self::Inspect,
        Self::Dirty,
        Self::Audit,
        Self::Check,
        Self::Move,
        Self::Cancel,
        Self::Resolve,
        Self::Type,
        Self::Look,
    ];

    /// As it is typed, for the docs.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Pause => "`vm pause`",
            Self::Resume => "`vm resume`",
            Self::Start => "`vm start`",
            Self::Stop => "`vm stop`, `nmi`",
            Self::Reset => "`vm reset`",
            Self::Destroy => "`vm destroy`",
            Self::Rename => "`vm rename`",
            Self::Inspect => "`vm regs`, `mem`, `stack`",
            Self::Dirty => "`vm dirty`",
            Self::Audit => "`cpu audit start`, `stop`",
            Self::Check => "`migrate check`",
            Self::Move => "`migrate`, `migrate all`",
            Self::Cancel => "`migrate cancel`, Ctrl-C",
            Self::Resolve => "`migrate resolve`",
            Self::Type => "typing at its console",
            Self::Look => "what only looks",
        }
    }
}

/// What goes on with a VM, as its host sees it: how far its migration is, or what is done to all of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// Nothing. `migrate check` counts as nothing: it changes nothing.
    None,
    /// It is put back to where it booted: [`State::Resetting`](super::State::Resetting).
    Reset,
    /// It is destroyed: [`State::Ending`](super::State::Ending).
    Destroy,
    /// The source calls the target, and the target judges.
    Setup,
    /// Memory is sent; the guest runs.
    Memory,
    /// The guest stands still: last pages and state are sent.
    Still,
    /// COMMIT is queued: the VM is the target's.
    Commit,
    /// The source has lost the target after COMMIT.
    InDoubt,
    /// The target takes memory and state.
    Arriving,
    /// The target has all of it, and waits for COMMIT.
    Ready,
    /// The target has lost the source after READY.
    Held,
}

impl Phase {
    /// All of them; the place is the column of the table.
    pub const ALL: [Self; 11] = [
        Self::None,
        Self::Reset,
        Self::Destroy,
        Self::Setup,
        Self::Memory,
        Self::Still,
        Self::Commit,
        Self::InDoubt,
        Self::Arriving,
        Self::Ready,
        Self::Held,
    ];

    /// The word for it in messages and docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Reset => "reset",
            Self::Destroy => "destroy",
            Self::Setup => "setup",
            Self::Memory => "memory",
            Self::Still => "still",
            Self::Commit => "commit",
            Self::InDoubt => "in-doubt",
            Self::Arriving => "arriving",
            Self::Ready => "ready",
            Self::Held => "held",
        }
    }

    /// The phase of a VM in this state, where its migration, if it is in one, is that far.
    #[must_use]
    pub const fn with(self, state: State) -> Self {
        match (self, state) {
            (Self::None, State::Resetting) => Self::Reset,
            (Self::None, State::Ending) => Self::Destroy,
            (phase, _) => phase,
        }
    }
}
