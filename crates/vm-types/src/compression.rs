//! The operator's choice of how a VM's pages are packed.

/// How pages are made smaller on their way. A page that does not get smaller is sent as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4 for each page.
    Lz4,
    /// Pages that are sent again as what differs from the copy sent before.
    Delta,
    /// What is measured to be the fastest: none, LZ4, the difference where there is a copy and it is small, or the
    /// difference and LZ4 otherwise.
    Auto,
}

impl Compression {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::None, Self::Lz4, Self::Delta, Self::Auto];

    /// The word for it on the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Delta => "delta",
            Self::Auto => "auto",
        }
    }
}
