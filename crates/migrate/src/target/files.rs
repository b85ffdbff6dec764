//! Files of the VM's origin, as they come.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use sha2::{Digest, Sha256};

use super::Target;
use crate::origin::Piece;
use crate::reason::Reason;
use crate::vm::TargetVm;
use crate::wire::{RecordType, WireError};

/// What was asked for, and how far it is here.
#[derive(Clone)]
pub(super) struct Files {
    /// Numbers of those that are to come, the last first.
    left: Vec<u32>,
    /// Bytes of the one that comes.
    have: u64,
    hash: Sha256,
}

impl Files {
    pub(super) fn new(mut wanted: Vec<u32>) -> Self {
        wanted.reverse();
        Self { left: wanted, have: 0, hash: Sha256::new() }
    }

    /// The one that is not all here.
    pub(super) fn missing(&self) -> Option<u32> {
        self.left.last().copied()
    }
}

impl Target {
    /// A piece stands in the inbox.
    pub(super) fn file(&mut self, vm: &mut impl TargetVm) -> Result<(), Reason> {
        let bad = |why: String| Reason::from(WireError::body(RecordType::File, why));
        let piece = Piece::read(self.inbox.body())?;
        let (number, files) = (piece.number, &mut self.files);
        if files.missing() != Some(number) || piece.offset != files.have {
            let wanted = files
                .missing()
                .map_or_else(|| "none".into(), |due| format!("file {due} from {}", files.have));
            return Err(bad(format!("file {number} from {}, {wanted} is due", piece.offset)));
        }
        let origin = self.origin.as_ref().and_then(|origin| origin.files.get(number as usize));
        let Some((len, Some(sha256))) = origin.map(|file| (file.len, file.sha256)) else {
            return Err(bad(format!("file {number} was not offered")));
        };
        let count = piece.bytes.len() as u64;
        if count > len - files.have {
            return Err(bad(format!(
                "{count} bytes from {} of file {number}, which has {len}",
                piece.offset
            )));
        }
        vm.take_file(number, piece.bytes).map_err(Reason::Vm)?;
        files.hash.update(piece.bytes);
        files.have += count;
        if files.have == len {
            let found: [u8; 32] = core::mem::take(&mut files.hash).finalize().into();
            if found != sha256 {
                return Err(bad(format!(
                    "file {number} has the sha256 {}, not {}",
                    hex(&found),
                    hex(&sha256)
                )));
            }
            files.left.pop();
            files.have = 0;
            vm.end_file(number).map_err(Reason::Vm)?;
        }
        Ok(())
    }
}

fn hex(digest: &[u8; 32]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
