//! Both ends, polled in turns.

use super::*;

/// Both ends, both VMs, one cable.
pub struct World {
    pub source: Source,
    pub target: Target,
    pub leaving: Leaving,
    pub coming: Coming,
    pub cable: Rc<RefCell<Cable>>,
    pub now: u64,
    pub tick: u64,
    pub source_events: Vec<SourceEvent>,
    pub target_events: Vec<TargetEvent>,
    pub source_outcome: Option<SourceOutcome>,
    pub target_outcome: Option<TargetOutcome>,
    /// COMMIT was queued at this poll.
    pub given_at: Option<u64>,
}

impl World {
    pub fn new(leaving: Leaving) -> Self {
        let params = source_params(&leaving);
        Self::with(leaving, params)
    }

    pub fn with(leaving: Leaving, params: SourceParams) -> Self {
        Self {
            source: Source::new(params, 0),
            target: Target::new(target_params(), 0),
            leaving,
            coming: Coming::default(),
            cable: Rc::new(RefCell::new(Cable::new())),
            now: 0,
            tick: 100,
            source_events: Vec::new(),
            target_events: Vec::new(),
            source_outcome: None,
            target_outcome: None,
            given_at: None,
        }
    }

    pub fn end(&self, side: usize) -> End {
        End(self.cable.clone(), side)
    }

    pub fn poll_source(&mut self) {
        let mut link = self.end(0);
        let event = self.source.poll(self.now, &mut link, &mut self.leaving);
        match &event {
            SourceEvent::Waiting | SourceEvent::Working => {}
            SourceEvent::Finished(outcome) => {
                assert!(self.source_outcome.is_none());
                self.source_outcome = Some(outcome.clone());
                self.cable.borrow_mut().open[1] = false;
            }
            _ => self.source_events.push(event),
        }
    }

    pub fn poll_target(&mut self) {
        let mut link = self.end(1);
        let event = self.target.poll(self.now, &mut link, &mut self.coming);
        match &event {
            TargetEvent::Waiting | TargetEvent::Working => {}
            TargetEvent::Finished(outcome) => {
                assert!(self.target_outcome.is_none());
                self.target_outcome = Some(outcome.clone());
                self.cable.borrow_mut().open[0] = false;
            }
            _ => self.target_events.push(event),
        }
    }

    /// The rule above all rules.
    pub fn never_two(&self) {
        assert!(!(self.leaving.runs() && self.coming.runs), "the guest runs on both hosts");
    }

    pub fn turn(&mut self) {
        self.now += self.tick;
        self.leaving.run_a_little();
        self.poll_source();
        self.never_two();
        self.poll_target();
        self.never_two();
    }

    /// Until both ends are finished.
    pub fn finish(&mut self) -> (SourceOutcome, TargetOutcome) {
        for _ in 0..2_000_000 {
            self.turn();
            if let (Some(s), Some(t)) = (&self.source_outcome, &self.target_outcome) {
                return (s.clone(), t.clone());
            }
        }
        panic!("it hangs: source {:?}, target {:?}", self.source_outcome, self.target_outcome);
    }

    pub fn assert_moved(&self) {
        assert!(self.coming.runs && self.leaving.freed && !self.leaving.runs());
        assert!(self.leaving.pages == self.coming.pages, "memory differs");
        assert_eq!(self.leaving.states, self.coming.states);
        assert_eq!(self.coming.policy, b"policy of demo");
    }

    pub fn assert_stayed(&self) {
        assert!(self.leaving.runs() && !self.leaving.tracking && !self.coming.runs && !self.coming.made);
    }
}
