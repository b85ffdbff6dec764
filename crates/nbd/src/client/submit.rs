//! What the caller asks for, and whether it can be taken.

use super::{Answer, Client};
use crate::request::{Command, Request, Tag};

/// Why a request is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// No server has described the export so far.
    #[error("the disk is not attached")]
    NotAttached,
    /// The client is about to end.
    #[error("the disk is about to be detached")]
    Stopping,
    /// The server has no such command.
    #[error("the server does not know {0}")]
    Unsupported(&'static str),
    /// A change of a disk that is only read.
    #[error("the disk is read-only")]
    ReadOnly,
    /// Not within the disk, or nothing.
    #[error("{len} bytes at {offset:#x} are not within the disk, which has {size:#x} bytes")]
    Range {
        /// Where.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Bytes of the disk.
        size: u64,
    },
    /// Not whole blocks.
    #[error("{len} bytes at {offset:#x} are not whole blocks of {block} bytes")]
    Unaligned {
        /// Where.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Bytes of a block.
        block: u32,
    },
    /// A longer write than a client can hold.
    #[error("a write of {len} bytes, at most {most} are taken")]
    Long {
        /// Bytes.
        len: usize,
        /// Most.
        most: usize,
    },
    /// There is no room now: see [`Client::room`].
    #[error("no room for another request")]
    Full,
}

impl Client {
    /// Whether a request with so many bytes to write is taken now. Where what is not durable is in the way, a flush follows by
    /// itself, and there will be room.
    pub fn room(&mut self, bytes: usize) -> bool {
        let too_much =
            self.held + bytes > self.limits.bytes || self.kept.len() + self.open.len() >= self.limits.writes;
        self.full |= too_much && !self.kept.is_empty();
        !too_much && self.open.len() + self.waited_for + self.answers.len() < self.limits.requests
    }

    /// Takes a request; its answer comes by [`Self::answer`].
    ///
    /// # Errors
    /// Why it cannot be; [`Refused::Full`] passes.
    pub fn submit(&mut self, tag: Tag, command: Command, now_us: u64) -> Result<(), Refused> {
        self.check(&command)?;
        let (len, most) = (command.data().len(), self.limits.bytes);
        if len > most {
            return Err(Refused::Long { len, most });
        }
        if !self.room(len) {
            return Err(Refused::Full);
        }
        self.held += len;
        self.push(Some(tag), command);
        self.pump(now_us);
        Ok(())
    }

    /// The next answer, as they came.
    pub fn answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    pub(super) fn push(&mut self, tag: Option<Tag>, command: Command) {
        self.number += 1;
        self.open.push_back(Request::new(self.number, tag, command));
    }

    fn check(&self, command: &Command) -> Result<(), Refused> {
        let export = self.export.as_ref().ok_or(Refused::NotAttached)?;
        if self.stopping {
            return Err(Refused::Stopping);
        }
        let missing = match command {
            Command::Flush if !export.flush() => Some("FLUSH"),
            Command::Trim { .. } if !export.trim() => Some("TRIM"),
            Command::WriteZeroes { .. } if !export.write_zeroes() => Some("WRITE_ZEROES"),
            _ => None,
        };
        if let Some(name) = missing {
            return Err(Refused::Unsupported(name));
        }
        let (offset, len) = match command {
            Command::Flush => return Ok(()),
            command => command.range(),
        };
        if (self.disk.read_only || export.read_only()) && !matches!(command, Command::Read { .. }) {
            return Err(Refused::ReadOnly);
        }
        let size = export.size;
        if len == 0 || offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(Refused::Range { offset, len, size });
        }
        let block = export.block();
        if !(offset | len).is_multiple_of(u64::from(block)) {
            return Err(Refused::Unaligned { offset, len, block });
        }
        Ok(())
    }
}
