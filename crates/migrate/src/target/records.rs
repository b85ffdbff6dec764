//! What the source says.

use alloc::format;

use super::{Applying, Phase, Target, TargetEvent};
use crate::body::{self, Commit, Hello, HelloAck, Holding, Shape};
use crate::limits;
use crate::memory::{RamDigest, Runs};
use crate::origin::Origin;
use crate::reason::Reason;
use crate::vm::TargetVm;
use crate::wire::{RecordType, WireError};

impl Target {
    pub(super) fn record(
        &mut self,
        kind: RecordType,
        seal: u64,
        now: u64,
        vm: &mut impl TargetVm,
    ) -> Result<Option<TargetEvent>, Reason> {
        let body = self.inbox.body();
        match (kind, self.phase) {
            (RecordType::Ping, _) => {}
            (RecordType::Abort, _) => return Err(Reason::told(body)),
            (RecordType::Hello, Phase::Hello) => {
                let hello: Hello = body::decode(kind, body)?;
                body::check_name(kind, "VM name", &hello.vm_name)?;
                let ack = HelloAck { migration: hello.migration, boot: self.params.boot };
                self.outbox.put(RecordType::HelloAck, &ack);
                self.hello = Some(hello);
                self.phase = Phase::Policy;
                return Ok(Some(TargetEvent::Greeted));
            }
            (RecordType::Fate, Phase::Hello | Phase::Inquiry) => {
                let fate = body::decode(kind, body)?;
                self.phase = Phase::Inquiry;
                return Ok(Some(TargetEvent::Asked(fate)));
            }
            (RecordType::Policy, Phase::Policy) => {
                self.policy = body::copied(body).ok_or(WireError::NoMemory(body.len()))?;
                self.phase = Phase::Shape;
            }
            (RecordType::Companion, Phase::Shape) if self.companion.is_empty() => {
                self.companion = body::copied(body).ok_or(WireError::NoMemory(body.len()))?;
            }
            (RecordType::Origin, Phase::Shape) if self.origin.is_none() => {
                let origin: Origin = body::decode(kind, body)?;
                origin.validate()?;
                self.origin = Some(origin);
            }
            (RecordType::File, Phase::Fill) if self.states.is_empty() => self.file(vm)?,
            (RecordType::History, Phase::Fill) => vm.take_history(body),
            (RecordType::Shape, Phase::Shape) => {
                let shape: Shape = body::decode(kind, body)?;
                shape.validate()?;
                self.shape = Some(shape);
                self.check(now, vm);
            }
            (RecordType::Memory, Phase::Fill) if self.states.is_empty() => {
                self.applying = Some(Applying { runs: Runs::default(), run: None, seal });
            }
            (RecordType::RoundEnd, Phase::Fill) if self.states.is_empty() => {
                return self.round_end().map(Some);
            }
            (RecordType::State, Phase::Fill) if self.round > 0 => self.state(seal)?,
            (RecordType::StateEnd, Phase::Fill) if self.round > 0 => {
                let sent: Holding = body::decode(kind, body)?;
                if sent.ram.is_some() {
                    self.ram_digest = Some(RamDigest::new());
                    return Ok(None);
                }
                return self.verified(now, vm).map(Some);
            }
            // A COMMIT that no READY has called for commits nothing.
            (RecordType::Commit, Phase::Ready) if self.outbox.is_empty() => {
                let commit: Commit = body::decode(kind, body)?;
                if self.migration() != Some(commit.migration) {
                    return Err(Reason::OtherMigration(kind));
                }
                let downtime_ns = commit.paused_ns.saturating_add(commit.transit_ns);
                if downtime_ns > limits::MAX_DOWNTIME_NS || commit.exported_ns > commit.paused_ns {
                    let why =
                        format!("downtime of {downtime_ns} ns, {} since the export", commit.exported_ns);
                    return Err(WireError::body(kind, why).into());
                }
                let here_ns = self.clock.ns(now.saturating_sub(self.inbox.came()));
                let elapsed_ns = commit.exported_ns.saturating_add(commit.transit_ns).saturating_add(here_ns);
                return Ok(self.commit(elapsed_ns, downtime_ns, now, vm));
            }
            (kind, phase) => return Err(WireError::Unexpected { kind, state: phase.unexpected() }.into()),
        }
        Ok(None)
    }
}
