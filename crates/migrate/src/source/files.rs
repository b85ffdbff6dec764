//! Files of the VM's origin, before its memory.

use alloc::vec;

use super::{Phase, Source};
use crate::body::{self, Verdict};
use crate::limits;
use crate::link::Link;
use crate::origin::{FILE_HEAD, Piece};
use crate::page::PAGE_BYTES;
use crate::reason::Reason;
use crate::source::Note;
use crate::vm::SourceVm;
use crate::wire::RecordType;

/// Bytes of a file in one record.
const CHUNK: usize = 2 * PAGE_BYTES;

impl Source {
    /// Says what the VM was made from. No migration fails for want of it.
    pub(super) fn put_origin(&mut self) -> Result<(), Reason> {
        let Some(origin) = self.params.origin.as_ref().filter(|_| !self.params.hello.check_only) else {
            return Ok(());
        };
        origin.validate()?;
        let encoded = body::encode(origin);
        if encoded.len() > limits::MAX_ORIGIN_BODY {
            self.notes.push(Note::LongOrigin);
            return Ok(());
        }
        self.outbox.put_raw(RecordType::Origin, &encoded);
        self.told_origin = true;
        Ok(())
    }

    /// The target has said what it wants of the VM's files.
    pub(super) fn files_wanted(&mut self, verdict: &Verdict) -> Result<(), Reason> {
        let Some(origin) = self.params.origin.as_ref().filter(|_| self.told_origin) else { return Ok(()) };
        match &verdict.files {
            None => self.notes.push(Note::NoOrigin),
            Some(wanted) => {
                origin.check_wanted(wanted)?;
                self.files = wanted.iter().copied().collect();
                self.file_at = 0;
            }
        }
        Ok(())
    }

    /// Sends a poll's share of them.
    pub(super) fn send_files(
        &mut self,
        now: u64,
        link: &mut impl Link,
        vm: &mut impl SourceVm,
    ) -> Result<(), Reason> {
        let pages = self.params.tuning.pages_per_poll.max(1) as usize;
        for _ in 0..pages.div_ceil(CHUNK / PAGE_BYTES) {
            self.outbox.flush(link, now);
            if !self.outbox.is_empty() {
                return Ok(());
            }
            let Some(number) = self.files.front().copied() else {
                self.enter(Phase::Track, now);
                return Ok(());
            };
            let file = self.params.origin.as_ref().and_then(|origin| origin.files.get(number as usize));
            let left = file.map_or(0, |file| file.len).saturating_sub(self.file_at);
            let count = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            if count > 0 {
                let mut body = vec![0; FILE_HEAD + count];
                let (head, bytes) = body.split_at_mut(FILE_HEAD);
                head.copy_from_slice(&Piece::head(number, self.file_at));
                vm.read_file(number, self.file_at, bytes).map_err(Reason::Vm)?;
                self.outbox.put_raw(RecordType::File, &body);
                self.file_at += count as u64;
            }
            if left == count as u64 {
                self.files.pop_front();
                self.file_at = 0;
            }
        }
        self.outbox.flush(link, now);
        Ok(())
    }
}
