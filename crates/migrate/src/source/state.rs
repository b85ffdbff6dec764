//! The state of the stopped VM, and the records that carry it.

use alloc::format;

use super::{Phase, Source};
use crate::body;
use crate::limits;
use crate::link::Link;
use crate::reason::Reason;
use crate::vm::SourceVm;
use crate::wire::RecordType;

impl Source {
    pub(super) fn export(&mut self, now: u64, vm: &mut impl SourceVm) -> Result<(), Reason> {
        self.send_history(vm);
        self.exported_at = now;
        self.states = vm.export_state().map_err(Reason::Vm)?.into_iter();
        if self.states.len() > limits::MAX_STATE_RECORDS {
            return Err(Reason::Vm(format!("{} state records", self.states.len())));
        }
        self.enter(Phase::SendState, now);
        Ok(())
    }

    /// No migration fails for it.
    pub(super) fn send_history(&mut self, vm: &mut impl SourceVm) {
        loop {
            let piece = vm.history();
            if !(1..=limits::MAX_HISTORY_BODY).contains(&piece.len()) {
                return;
            }
            self.outbox.put_raw(RecordType::History, &piece);
        }
    }

    pub(super) fn send_state(&mut self, now: u64, link: &mut impl Link) -> Result<(), Reason> {
        loop {
            self.outbox.flush(link, now);
            if !self.outbox.is_empty() {
                return Ok(());
            }
            let Some(record) = self.states.next() else { break };
            let kind = record.kind.clone();
            let encoded = body::encode(&body::State::from(record));
            self.state_bytes = self.state_bytes.saturating_add(encoded.len());
            if encoded.len() > limits::MAX_STATE_BODY || self.state_bytes > self.params.shape.most_state() {
                return Err(Reason::Vm(format!("state record {kind} of {} bytes", encoded.len())));
            }
            let seal = self.outbox.put_raw(RecordType::State, &encoded);
            self.totals.mix(seal);
            self.totals.state_records += 1;
        }
        self.outbox.put(RecordType::StateEnd, &self.totals.holding(self.params.hello.migration));
        self.told_all = true;
        self.enter(Phase::AwaitReady, now);
        Ok(())
    }
}
