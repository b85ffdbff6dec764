//! Every run of the two hand-over machines: messages lost, doubled and reordered, timers, cancels and crashes
//! at every step.
#![allow(missing_docs)]

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use migrate::handover::{SourceAction, SourceInput, SourceOwner, TargetAction, TargetInput, TargetOwner};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Msg {
    Ready,
    Commit,
    Running,
    Abort,
}

/// The network is a set: what was sent may arrive never, once or often, in any order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    source: Option<SourceOwner>,
    target: Option<TargetOwner>,
    to_source: BTreeSet<Msg>,
    to_target: BTreeSet<Msg>,
}

impl State {
    fn source(&self, input: SourceInput) -> Self {
        let mut next = self.clone();
        let Some(owner) = self.source else { return next };
        let (owner, action) = owner.step(input);
        next.source = Some(owner);
        match action {
            SourceAction::Commit => {
                next.to_target.insert(Msg::Commit);
            }
            SourceAction::Resume => {
                next.to_target.insert(Msg::Abort);
            }
            SourceAction::Nothing | SourceAction::Free | SourceAction::MarkUnknown => {}
        }
        next
    }

    fn target(&self, input: TargetInput) -> Self {
        let mut next = self.clone();
        let Some(owner) = self.target else { return next };
        let (owner, action) = owner.step(input);
        next.target = Some(owner);
        match action {
            TargetAction::SendReady => next.to_source.insert(Msg::Ready),
            TargetAction::Run => next.to_source.insert(Msg::Running),
            TargetAction::Destroy => next.to_source.insert(Msg::Abort),
            TargetAction::Nothing => false,
        };
        next
    }

    fn successors(&self) -> Vec<Self> {
        let mut out = Vec::new();
        for msg in &self.to_source {
            out.push(self.source(match msg {
                Msg::Ready => SourceInput::Ready,
                Msg::Running => SourceInput::Running,
                Msg::Abort => SourceInput::Aborted,
                Msg::Commit => continue,
            }));
        }
        for msg in &self.to_target {
            out.push(self.target(match msg {
                Msg::Commit => TargetInput::Commit,
                Msg::Abort => TargetInput::Aborted,
                Msg::Ready | Msg::Running => continue,
            }));
        }
        out.extend([SourceInput::Lost, SourceInput::Stop].map(|i| self.source(i)));
        out.extend([TargetInput::Verified, TargetInput::Lost, TargetInput::Stop].map(|i| self.target(i)));
        out.push(Self { source: None, ..self.clone() });
        out.push(Self { target: None, ..self.clone() });
        out
    }

    fn here(&self) -> bool {
        self.source.is_some_and(SourceOwner::may_run)
    }

    fn there(&self) -> bool {
        self.target.is_some_and(TargetOwner::may_run)
    }

    /// A whole copy: at the source until it is freed, at the target once it is verified.
    fn copies(&self) -> usize {
        usize::from(self.source.is_some_and(|s| s != SourceOwner::Freed))
            + usize::from(matches!(self.target, Some(TargetOwner::Ready | TargetOwner::Runs)))
    }
}

fn explore() -> HashMap<State, Vec<State>> {
    let start = State {
        source: Some(SourceOwner::Owns),
        target: Some(TargetOwner::Filling),
        to_source: BTreeSet::new(),
        to_target: BTreeSet::new(),
    };
    let mut graph = HashMap::new();
    let mut todo = VecDeque::from([start]);
    while let Some(state) = todo.pop_front() {
        if graph.contains_key(&state) {
            continue;
        }
        let next = state.successors();
        todo.extend(next.iter().cloned());
        graph.insert(state, next);
    }
    graph
}

#[test]
fn never_two_whatever_happens() {
    let graph = explore();
    println!("{} states of the hand-over", graph.len());
    assert!(graph.len() > 50);
    for (state, next) in &graph {
        assert!(!(state.here() && state.there()), "two runners: {state:?}");
        if state.there() {
            let s = state.source;
            assert!(s.is_none_or(|s| !s.may_run()), "{state:?}");
        }
        // Once the target may have executed an instruction, the source never runs again, crash or not.
        for after in next {
            assert!(!(state.there() && after.here()), "{state:?} -> {after:?}");
            // A COMMIT on its way is never taken back.
            assert!(!(state.to_target.contains(&Msg::Commit) && after.here()), "{state:?} -> {after:?}");
        }
    }
}

#[test]
fn a_single_crash_leaves_a_whole_copy() {
    for (state, next) in explore() {
        if state.source.is_none() || state.target.is_none() {
            continue;
        }
        let freed = state.source == Some(SourceOwner::Freed);
        assert!(!freed || state.there(), "freed, but nobody runs it: {state:?}");
        for after in next {
            if after.target.is_none() && !freed {
                assert!(after.copies() > 0, "{state:?} -> {after:?}");
            }
        }
    }
}

#[test]
fn each_end_can_be_reached_and_stays() {
    let graph = explore();
    let ends: HashSet<_> =
        graph.keys().filter_map(|s| s.source).filter(|s| *s != SourceOwner::Owns).collect();
    assert_eq!(ends.len(), 4, "{ends:?}");
    for (state, next) in &graph {
        if matches!(state.source, Some(SourceOwner::Freed | SourceOwner::Unknown | SourceOwner::Kept)) {
            assert!(next.iter().all(|n| n.source.is_none() || n.source == state.source));
        }
        if matches!(state.target, Some(TargetOwner::Runs | TargetOwner::Gone)) {
            assert!(next.iter().all(|n| n.target.is_none() || n.target == state.target));
        }
    }
}
