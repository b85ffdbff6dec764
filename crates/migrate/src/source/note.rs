//! What a source tells its operator besides events.

use core::fmt;

use vm_types::Compression;

use super::Source;
use crate::memory::{Choice, Chosen, Data};
use crate::reason::Reason;
use crate::wire::PACKED_VERSION;

/// What a source tells its operator besides events. Its `Display` is a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// The peer speaks a version that knows no packed pages: they are sent as they are.
    NotPacked {
        /// What was asked for.
        wanted: Compression,
        /// The version agreed on.
        version: u16,
    },
    /// The peer takes no kernel along: it cannot boot the VM anew.
    NoOrigin,
    /// What the VM was made from takes more words than a record holds: the peer cannot boot it anew.
    LongOrigin,
    /// `compress=auto` has chosen, or chosen anew.
    Chosen(Chosen),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPacked { wanted, version } => write!(
                f,
                "compress={} needs version {PACKED_VERSION} of the protocol, the peer speaks version {version}: pages are \
                 sent as they are",
                wanted.name()
            ),
            Self::NoOrigin => f.write_str(
                "the peer takes no kernel along with a VM: `vm reset` will not be possible there",
            ),
            Self::LongOrigin => f.write_str(
                "command line and names of modules are longer than a record: the kernel does not go along, `vm reset` will not be possible there",
            ),
            Self::Chosen(chosen) => write!(f, "compress=auto: {chosen}"),
        }
    }
}

impl Note {
    /// Whether something is not as the operator asked.
    #[must_use]
    pub const fn is_warning(&self) -> bool {
        !matches!(self, Self::Chosen(_))
    }
}

impl Source {
    /// What is to be told besides events; each is given once.
    pub fn take_note(&mut self) -> Option<Note> {
        if !self.notes.is_empty() {
            return Some(self.notes.remove(0));
        }
        let choice = self.choice.as_mut()?;
        if !choice.take_news() {
            return None;
        }
        choice.chosen(self.params.hz).map(Note::Chosen)
    }

    /// What `compress=auto` has chosen and measured by now; `None` before, and where it was not asked for.
    #[must_use]
    pub fn chosen(&self) -> Option<Chosen> {
        self.choice.as_ref().and_then(|choice| choice.chosen(self.params.hz))
    }

    /// How pages are packed by now; `None` unless `compress=auto` measures it.
    #[must_use]
    pub fn packs_by(&self) -> Option<Compression> {
        self.choice.as_ref().map(Choice::way)
    }

    /// The target has said which version it speaks: what was asked for has to be possible with it.
    pub(super) fn suits(&mut self) -> Result<(), Reason> {
        if self.version >= PACKED_VERSION {
            return Ok(());
        }
        let version = self.version;
        if self.params.tuning.verify {
            return Err(Reason::OldPeer { what: "verify=full", needs: PACKED_VERSION, version });
        }
        let wanted = self.params.tuning.compression;
        if wanted != Compression::None {
            self.notes.push(Note::NotPacked { wanted, version });
        }
        Ok(())
    }

    /// A turn that copies pages begins.
    pub(super) fn choose(&mut self, now: u64) {
        let Some(choice) = &mut self.choice else { return };
        let data: Data = self.encoder.data();
        choice.turn(now, data, !self.outbox.is_empty());
        self.encoder.pack_by(choice.way());
    }
}
