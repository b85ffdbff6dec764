//! What becomes of the VM at its source.

use alloc::vec::Vec;

use super::{Phase, Source, SourceInput, SourceOutcome};
use crate::body::Commit;
use crate::ending::Ending;
use crate::handover::SourceAction;
use crate::reason::Reason;
use crate::stats::Summary;
use crate::vm::SourceVm;
use crate::wire::RecordType;
use crate::writers::Shares;

impl Source {
    /// The migration cannot go on.
    pub(super) fn end(&mut self, reason: Reason, now: u64, vm: &mut impl SourceVm) {
        let input = match reason {
            Reason::Peer(_) | Reason::Refused(_) => SourceInput::Aborted,
            Reason::LinkLost | Reason::Wire(_) | Reason::Differs { .. } | Reason::OtherMigration(_) => {
                if self.deal().is_some() { SourceInput::Lost } else { SourceInput::Cut }
            }
            _ => SourceInput::Stop,
        };
        self.act(input, reason, now, vm);
    }

    /// The one place that touches the VM's fate: [`SourceOwner`] decides, this carries out.
    pub(super) fn act(&mut self, input: SourceInput, reason: Reason, now: u64, vm: &mut impl SourceVm) {
        let (owner, action) = self.owner.step(input);
        // Nobody is told that the VM is the target's before it cannot run here.
        if action == SourceAction::Commit
            && let Err(why) = vm.give_up()
        {
            return self.act(SourceInput::Stop, Reason::Vm(why), now, vm);
        }
        self.owner = owner;
        match action {
            SourceAction::Nothing => {}
            SourceAction::Commit => {
                let paused = now.saturating_sub(self.paused_at.unwrap_or(now));
                self.outbox.put(
                    RecordType::Commit,
                    &Commit {
                        migration: self.params.hello.migration,
                        paused_ns: self.clock.ns(paused),
                        exported_ns: self.clock.ns(now.saturating_sub(self.exported_at)),
                        transit_ns: self.clock.ns(self.hello_rtt / 2),
                    },
                );
                self.enter(Phase::AwaitRunning, now);
            }
            SourceAction::Free => {
                vm.free();
                self.close(SourceOutcome::Done(self.summed(now)), now);
            }
            SourceAction::Keep => {
                self.run_on(vm);
                self.close(SourceOutcome::Copied(self.summed(now)), now);
            }
            SourceAction::Resume => {
                self.run_on(vm);
                if self.phase != Phase::Open {
                    self.outbox.put_abort(&reason);
                }
                self.close(SourceOutcome::Failed(reason), now);
            }
            SourceAction::Ask => {
                self.undo(vm);
                vm.mark_unknown();
                self.close(SourceOutcome::Asking(reason), now);
            }
            SourceAction::MarkUnknown => {
                self.undo(vm);
                vm.mark_unknown();
                self.close(SourceOutcome::Unknown(reason), now);
            }
        }
    }

    /// Everything that was done to the VM is undone: it runs here as before.
    fn run_on(&mut self, vm: &mut impl SourceVm) {
        self.undo(vm);
        if self.pausing {
            vm.resume();
        }
    }

    /// Everything that was done to the VM is undone, but for its pause. Also where it stays paused in doubt: whoever lets
    /// it run later knows nothing of this migration's tracking and share.
    fn undo(&mut self, vm: &mut impl SourceVm) {
        if core::mem::take(&mut self.tracking) {
            vm.give_back();
            vm.stop_tracking();
        }
        if self.convergence.share() != 100 {
            vm.throttle(&Shares::All(100));
        }
    }

    fn summed(&self, now: u64) -> Summary {
        let paused_at = self.paused_at.unwrap_or(self.last_page_at);
        Summary {
            ram: self.ram(),
            hz: self.params.hz,
            ticks: now.saturating_sub(self.began),
            bytes: self.outbox.queued(),
            pages_ticks: self.last_page_at.saturating_sub(paused_at),
            state_ticks: self.ready_at.saturating_sub(self.last_page_at),
            resume_ticks: now.saturating_sub(self.ready_at),
            chosen: self.chosen().map(|chosen| chosen.way),
            ..self.summary
        }
    }

    pub(super) fn close(&mut self, outcome: SourceOutcome, now: u64) {
        self.states = Vec::new().into_iter();
        self.files.clear();
        self.encoder.unprepare();
        self.ending = Ending::Closing(outcome, now);
    }
}
