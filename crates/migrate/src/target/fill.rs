//! Memory and state as they come.

use alloc::format;
use alloc::string::String;

use super::{Target, TargetEvent, TargetInput, TargetOutcome};
use crate::body::{self, Hello, Holding, RoundEnd, State};
use crate::holding::differs;
use crate::limits;
use crate::memory::{Content, Run, apply};
use crate::reason::Reason;
use crate::vm::TargetVm;
use crate::wire::{RecordType, WireError};

impl Target {
    /// Puts the memory record at hand in place; whether it is done.
    pub(super) fn apply(&mut self, budget: &mut u64, vm: &mut impl TargetVm) -> Result<bool, Reason> {
        let Some(mut record) = self.applying.take() else { return Ok(true) };
        loop {
            let mut run = match record.run.take() {
                Some(run) => run,
                None => match record.runs.next(self.inbox.body())? {
                    Some(run) => self.admit(run)?,
                    None => break,
                },
            };
            // Fresh memory is zero, and the first round brings each page once.
            if self.round == 0 && run.content == Content::Fill(0) {
                continue;
            }
            apply(&mut run, self.inbox.body(), budget, vm, &mut self.scratch)?;
            if run.count > 0 {
                record.run = Some(run);
                self.applying = Some(record);
                return Ok(false);
            }
        }
        self.totals.mix(record.seal);
        self.totals.memory_records += 1;
        self.inbox.release();
        Ok(true)
    }

    /// Checks a run against the agreed RAM and the order of the round, and counts it.
    fn admit(&mut self, run: Run) -> Result<Run, Reason> {
        let Some(shape) = &self.shape else { return Err(bad("no shape".into())) };
        if !shape.covers(run.first, run.count) {
            return Err(bad(format!("{} pages at frame {:#x} are not guest RAM", run.count, run.first)));
        }
        let in_order = if self.round == 0 {
            shape.next_frame(self.next) == Some(run.first)
        } else {
            run.first >= self.next
        };
        if !in_order {
            return Err(bad(format!("frame {:#x} out of order, {:#x} is next", run.first, self.next)));
        }
        self.next = run.first.saturating_add(run.count);
        self.round_pages = self.round_pages.saturating_add(run.count);
        self.totals.pages = self.totals.pages.saturating_add(run.count);
        match run.content {
            Content::Fill(0) => self.totals.zero = self.totals.zero.saturating_add(run.count),
            Content::Fill(_) => self.totals.fill = self.totals.fill.saturating_add(run.count),
            Content::Data(_) | Content::Lz4(_) | Content::Delta(_) => {}
        }
        Ok(run)
    }

    pub(super) fn round_end(&mut self) -> Result<TargetEvent, Reason> {
        let end: RoundEnd = body::decode(RecordType::RoundEnd, self.inbox.body())?;
        if end.round != self.round.saturating_add(1) || end.round > limits::MAX_ROUNDS {
            let why = format!("round {} behind round {}", end.round, self.round);
            return Err(WireError::body(RecordType::RoundEnd, why).into());
        }
        // Round 1 is in order without a gap: its count proves that it brought every page.
        let pages =
            if self.round == 0 { self.shape.as_ref().map_or(0, crate::Shape::pages) } else { end.pages };
        if end.pages != self.round_pages || pages != self.round_pages {
            return Err(Reason::Differs { what: "pages of the round", sent: pages, held: self.round_pages });
        }
        let event = TargetEvent::Round { round: end.round, pages: end.pages, dirty: end.dirty };
        self.round = end.round;
        self.round_pages = 0;
        self.next = 0;
        Ok(event)
    }

    pub(super) fn state(&mut self, seal: u64) -> Result<(), Reason> {
        let body = self.inbox.body();
        let most = self.shape.as_ref().map_or(0, crate::Shape::most_state);
        if self.states.len() >= limits::MAX_STATE_RECORDS {
            return Err(WireError::body(RecordType::State, "too many of them").into());
        }
        self.state_bytes = self.state_bytes.saturating_add(body.len());
        if self.state_bytes > most {
            let why = format!("{} bytes in all, such a VM has at most {most}", self.state_bytes);
            return Err(WireError::body(RecordType::State, why).into());
        }
        let state: State = body::decode(RecordType::State, body)?;
        body::check_name(RecordType::State, "kind", &state.kind)?;
        if self.states.iter().any(|s| s.kind == state.kind && s.instance == state.instance) {
            let why = format!("{} {} came twice", state.kind, state.instance);
            return Err(WireError::body(RecordType::State, why).into());
        }
        self.states.push(state.into());
        self.totals.mix(seal);
        self.totals.state_records += 1;
        Ok(())
    }

    /// Digests a poll's share of RAM; whether all of it is in.
    pub(super) fn digest(&mut self, budget: u64, vm: &mut impl TargetVm) -> Result<bool, Reason> {
        let (Some(digest), Some(shape)) = (&mut self.ram_digest, &self.shape) else { return Ok(true) };
        self.totals.ram = digest.step(shape, budget, |gfn, page| vm.read_page(gfn, page))?;
        Ok(self.totals.ram.is_some())
    }

    /// STATE_END stands in the inbox, and all that it is compared with is known.
    pub(super) fn verified(&mut self, now: u64, vm: &mut impl TargetVm) -> Result<TargetEvent, Reason> {
        self.verify(vm)?;
        if self.ram_digest.take().is_some() {
            self.inbox.release();
        }
        if self.hello().is_some_and(Hello::is_copy) {
            self.act(TargetInput::Copied, Reason::LinkLost, now, vm);
            self.close(TargetOutcome::Copied, now);
        } else {
            self.act(TargetInput::Verified, Reason::LinkLost, now, vm);
        }
        Ok(TargetEvent::Ready)
    }

    /// Compares what came with what was sent, and loads the state.
    fn verify(&mut self, vm: &mut impl TargetVm) -> Result<(), Reason> {
        let sent: Holding = body::decode(RecordType::StateEnd, self.inbox.body())?;
        let Some(migration) = self.migration().filter(|id| *id == sent.migration) else {
            return Err(Reason::OtherMigration(RecordType::StateEnd));
        };
        if self.round_pages != 0 {
            return Err(WireError::body(RecordType::StateEnd, "in the middle of a round").into());
        }
        if let Some(number) = self.files.missing() {
            let why = format!("file {number} is not all here");
            return Err(WireError::body(RecordType::StateEnd, why).into());
        }
        differs(&sent, &self.totals.holding(migration))?;
        vm.import_state(&self.states)?;
        self.states.clear();
        Ok(())
    }
}

fn bad(why: String) -> Reason {
    WireError::Body { kind: RecordType::Memory, why }.into()
}
