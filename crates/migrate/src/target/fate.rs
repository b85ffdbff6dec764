//! What becomes of the VM at its target.

use alloc::vec::Vec;

use super::{Phase, Target, TargetEvent, TargetInput, TargetOutcome};
use crate::body::Running;
use crate::ending::Ending;
use crate::handover::TargetAction;
use crate::reason::Reason;
use crate::vm::TargetVm;
use crate::wire::RecordType;

impl Target {
    pub(super) fn commit(
        &mut self,
        elapsed_ns: u64,
        downtime_ns: u64,
        now: u64,
        vm: &mut impl TargetVm,
    ) -> Option<TargetEvent> {
        let (owner, action) = self.owner.step(TargetInput::Commit);
        self.owner = owner;
        if action != TargetAction::Run {
            return None;
        }
        vm.run(elapsed_ns);
        if let Some(migration) = self.migration() {
            self.outbox.put(RecordType::Running, &Running { migration });
        }
        self.close(TargetOutcome::Runs, now);
        Some(TargetEvent::Running { downtime_ns })
    }

    /// The migration cannot go on.
    pub(super) fn end(&mut self, reason: Reason, now: u64, vm: &mut impl TargetVm) {
        if self.phase == Phase::Inquiry {
            return self.close(TargetOutcome::Answered, now);
        }
        let input = match reason {
            Reason::Peer(_) => TargetInput::Aborted,
            _ if self.deal().is_none() => TargetInput::Cut,
            Reason::LinkLost | Reason::Wire(_) | Reason::Differs { .. } | Reason::OtherMigration(_) => {
                TargetInput::Lost
            }
            _ => TargetInput::Stop,
        };
        self.act(input, reason, now, vm);
    }

    /// Carries out what [`TargetOwner`] decides; running the VM is [`Target::commit`]'s.
    pub(super) fn act(&mut self, input: TargetInput, reason: Reason, now: u64, vm: &mut impl TargetVm) {
        let (owner, action) = self.owner.step(input);
        self.owner = owner;
        match action {
            TargetAction::Nothing | TargetAction::Run => {}
            TargetAction::SendReady => {
                if let Some(migration) = self.migration() {
                    self.outbox.put(RecordType::Ready, &self.totals.holding(migration));
                }
                self.told_ready = true;
                self.phase = Phase::Ready;
            }
            TargetAction::Hold => self.close(TargetOutcome::Held(reason), now),
            TargetAction::Destroy => {
                if core::mem::take(&mut self.made) {
                    vm.destroy();
                }
                if self.phase != Phase::Stream {
                    self.outbox.put_abort(&reason);
                }
                self.close(TargetOutcome::Failed(reason), now);
            }
        }
    }

    pub(super) fn close(&mut self, outcome: TargetOutcome, now: u64) {
        self.applying = None;
        self.ram_digest = None;
        self.states = Vec::new();
        self.policy = Vec::new();
        self.companion = Vec::new();
        self.origin = None;
        self.ending = Ending::Closing(outcome, now);
    }
}
