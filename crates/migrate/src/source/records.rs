//! What the target says.

use super::{Phase, Source, SourceInput, SourceOutcome};
use crate::body::{self, HelloAck, Holding, Id, Running, Verdict, printable};
use crate::holding::differs;
use crate::inbox::Item;
use crate::limits;
use crate::link::Link;
use crate::reason::Reason;
use crate::vm::SourceVm;
use crate::wire::{RecordType, WireError};

impl Source {
    /// Reads what the peer sent; whether that was all there is.
    pub(super) fn listen(
        &mut self,
        now: u64,
        link: &mut impl Link,
        vm: &mut impl SourceVm,
    ) -> Result<bool, Reason> {
        for _ in 0..limits::RECORDS_PER_POLL {
            match self.inbox.next(link, now)? {
                None => return Ok(true),
                Some(Item::Skipped) => {}
                Some(Item::Stream(header)) => self.version = header.agree()?,
                Some(Item::Record(kind, _)) => {
                    self.record(kind, now, vm)?;
                    self.inbox.release();
                    if self.ending.has_come() {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    fn record(&mut self, kind: RecordType, now: u64, vm: &mut impl SourceVm) -> Result<(), Reason> {
        let body = self.inbox.body();
        match (kind, self.phase) {
            (RecordType::Ping, _) => {}
            (RecordType::Abort, _) => return Err(Reason::told(body)),
            (RecordType::HelloAck, Phase::AwaitAck) => {
                let ack: HelloAck = body::decode(kind, body)?;
                self.same_migration(kind, ack.migration)?;
                self.suits()?;
                self.target_boot = Some(ack.boot);
                self.hello_rtt = now.saturating_sub(self.since);
                self.outbox.put_raw(RecordType::Policy, &self.params.policy);
                if (1..=limits::MAX_COMPANION_BODY).contains(&self.params.companion.len()) {
                    self.outbox.put_raw(RecordType::Companion, &self.params.companion);
                }
                self.put_origin()?;
                self.outbox.put(RecordType::Shape, &self.params.shape);
                self.enter(Phase::AwaitVerdict, now);
            }
            (RecordType::Verdict, Phase::AwaitVerdict) => {
                let verdict: Verdict = body::decode(kind, body)?;
                if let Some(text) = verdict.refused {
                    return Err(Reason::Refused(printable(&text, limits::MAX_TEXT)));
                }
                if self.params.hello.is_copy() && verdict.purpose != self.params.hello.purpose {
                    return Err(Reason::TakesNoCopy);
                }
                self.files_wanted(&verdict)?;
                self.warning = verdict.warning.map(|text| printable(&text, limits::MAX_TEXT));
                if self.params.hello.check_only {
                    self.close(SourceOutcome::Checked, now);
                } else {
                    self.accepted_at = Some(now);
                    self.enter(if self.files.is_empty() { Phase::Track } else { Phase::Files }, now);
                }
            }
            (RecordType::Ready, Phase::AwaitReady) => {
                let held: Holding = body::decode(kind, body)?;
                self.same_migration(kind, held.migration)?;
                differs(&self.totals.holding(self.params.hello.migration), &held)?;
                self.ready_at = now;
                if self.params.hello.is_copy() {
                    // At once: the target has said all it will, and may be gone.
                    self.act(SourceInput::Copied, Reason::LinkLost, now, vm);
                } else {
                    self.enter(Phase::Commit, now);
                }
            }
            (RecordType::Running, Phase::AwaitRunning) => {
                let running: Running = body::decode(kind, body)?;
                self.same_migration(kind, running.migration)?;
                self.act(SourceInput::Running, Reason::LinkLost, now, vm);
            }
            (kind, phase) => return Err(WireError::Unexpected { kind, state: phase.unexpected() }.into()),
        }
        Ok(())
    }

    fn same_migration(&self, kind: RecordType, id: Id) -> Result<(), Reason> {
        if id == self.params.hello.migration { Ok(()) } else { Err(Reason::OtherMigration(kind)) }
    }
}
