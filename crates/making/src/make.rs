//! A VM in the making.

use alloc::string::String;

use crate::{CLEARED, COPIED, ENTRIES};

/// What a VM is made of, bit by bit. Each call is one step.
pub trait Site {
    /// Clears up to `most` bytes of its memory. True while some is left.
    fn clear(&mut self, most: u64) -> bool;

    /// Makes up to `words` words of the sets of its pages. True while some are left.
    fn note(&mut self, words: usize) -> bool;

    /// Maps a piece of its memory, touching [`ENTRIES`] table entries at most. True while some is left.
    ///
    /// # Errors
    /// No memory for tables.
    fn map(&mut self) -> Result<bool, String>;

    /// Puts board and vCPUs together. True where a kernel is to be loaded.
    ///
    /// # Errors
    /// What the host cannot give.
    fn build(&mut self) -> Result<bool, String>;

    /// Lays kernel and modules out, and writes what is made up for them.
    ///
    /// # Errors
    /// Why the kernel cannot be loaded.
    fn load(&mut self) -> Result<(), String>;

    /// Copies up to `most` bytes of the files. True while some are left.
    ///
    /// # Errors
    /// They do not fit.
    fn copy(&mut self, most: usize) -> Result<bool, String>;
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Make {
    /// Its memory is cleared: it was anybody's.
    #[default]
    Clear,
    /// The sets of its pages are made.
    Note,
    /// Its memory is mapped.
    Map,
    /// It is put together.
    Build,
    /// Kernel and modules are laid out.
    Load,
    /// They are copied.
    Copy,
    /// It is made.
    Made,
}

impl Make {
    /// Does one step. True once the VM is made.
    ///
    /// # Errors
    /// Why it cannot be made; whatever there is of it is to be dropped.
    pub fn step<S: Site>(&mut self, site: &mut S) -> Result<bool, String> {
        *self = match *self {
            Self::Clear if site.clear(CLEARED) => Self::Clear,
            Self::Clear => Self::Note,
            Self::Note if site.note(ENTRIES) => Self::Note,
            Self::Note => Self::Map,
            Self::Map if site.map()? => Self::Map,
            Self::Map => Self::Build,
            Self::Build if site.build()? => Self::Load,
            Self::Build => Self::Made,
            Self::Load => {
                site.load()?;
                Self::Copy
            }
            Self::Copy if site.copy(COPIED)? => Self::Copy,
            Self::Copy | Self::Made => Self::Made,
        };
        Ok(*self == Self::Made)
    }
}
