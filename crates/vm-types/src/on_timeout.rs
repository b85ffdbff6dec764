//! The operator's choice for a move that does not converge.

/// What is done with a guest that dirties its memory too fast.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnTimeout {
    /// It stays here.
    Cancel,
    /// It is slowed down, step by step, until it can be stopped for as long as was asked.
    Throttle,
    /// It is stopped, for as long as that takes.
    #[default]
    Force,
}

impl OnTimeout {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cancel, Self::Throttle, Self::Force];

    /// The word for it on the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Throttle => "throttle",
            Self::Force => "force",
        }
    }
}
