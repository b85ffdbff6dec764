//! What the terminal of a session is told to be.

/// What the terminal is told to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Term {
    /// Dumb until it sends the ESC sequence of a key.
    #[default]
    Auto,
    /// It gets no ESC sequence.
    Dumb,
    /// It knows the ESC sequences of ECMA-48 for moving the cursor and deleting.
    Ansi,
}

impl Term {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Dumb, Self::Ansi];

    /// The word for it on the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Dumb => "dumb",
            Self::Ansi => "ansi",
        }
    }
}
