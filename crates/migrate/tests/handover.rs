//! The hand-over, checked over every state: messages lost, doubled and reordered, timers and cancels, either host crashing
//! and starting anew, both asking each other, the operator resolving, at every step.
//!
//! The machines are the ones that run. Survival and recoverability are not safety properties of a path: they are computed
//! over the whole graph, the latter backward from the good ends, so that cycles count for nothing.
#![allow(missing_docs)]

mod messages;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use messages::{Heard, Msg};
use migrate::handover::{
    SourceAction, SourceInput, SourceOwner, TargetAction, TargetInput, TargetOwner, Word,
};

/// A host that has crashed is `None`: it starts anew, and knows nothing. The network is a set: what was said may arrive
/// never, once or often, in any order, also after a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    source: Option<SourceOwner>,
    target: Option<TargetOwner>,
    said: BTreeSet<Msg>,
    /// The target may have executed an instruction, crashed since or not.
    ran: bool,
    /// The VM is to be copied, not moved: that is said in HELLO and agreed on with the verdict.
    copy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Messages, timers, questions.
    Automatic,
    Operator,
    Crash,
}

#[derive(Clone, Copy)]
struct Machines {
    source: fn(SourceOwner, SourceInput) -> (SourceOwner, SourceAction),
    target: fn(TargetOwner, TargetInput) -> (TargetOwner, TargetAction),
}

const REAL: Machines = Machines { source: SourceOwner::step, target: TargetOwner::step };

impl State {
    fn source(&self, machines: Machines, input: SourceInput) -> Self {
        let mut next = self.clone();
        let Some(owner) = self.source else { return next };
        let (owner, action) = (machines.source)(owner, input);
        next.source = Some(owner);
        match action {
            SourceAction::Commit => drop(next.said.insert(Msg::Commit)),
            SourceAction::Resume => drop(next.said.insert(Msg::AbortToTarget)),
            SourceAction::Nothing
            | SourceAction::Keep
            | SourceAction::Free
            | SourceAction::Ask
            | SourceAction::MarkUnknown => {}
        }
        next
    }

    fn target(&self, machines: Machines, input: TargetInput) -> Self {
        let mut next = self.clone();
        let Some(owner) = self.target else { return next };
        let (owner, action) = (machines.target)(owner, input);
        next.target = Some(owner);
        match action {
            TargetAction::SendReady => drop(next.said.insert(Msg::Ready)),
            TargetAction::Run => drop(next.said.insert(Msg::Running)),
            TargetAction::Destroy => drop(next.said.insert(Msg::AbortToSource)),
            TargetAction::Nothing | TargetAction::Hold => {}
        }
        next.ran |= owner.may_run();
        next
    }

    fn with(mut self, msg: Msg) -> Self {
        self.said.insert(msg);
        self
    }

    fn delivered(&self, machines: Machines, msg: Msg) -> Option<Self> {
        if msg == Msg::Ready && self.copy {
            return Some(self.source(machines, SourceInput::Copied));
        }
        Some(match msg.heard()? {
            Heard::Source(input) => self.source(machines, input),
            Heard::Target(input) => self.target(machines, input),
        })
    }

    fn successors(&self, machines: Machines) -> Vec<(Kind, Self)> {
        let mut out = Vec::new();
        let mut add = |kind, next: Self| {
            if next != *self {
                out.push((kind, next));
            }
        };
        for &msg in &self.said {
            if let Some(next) = self.delivered(machines, msg) {
                add(Kind::Automatic, next);
            }
        }
        for input in [SourceInput::Lost, SourceInput::Stop] {
            add(Kind::Automatic, self.source(machines, input));
        }
        let verified = if self.copy { TargetInput::Copied } else { TargetInput::Verified };
        for input in [verified, TargetInput::Lost, TargetInput::Stop] {
            add(Kind::Automatic, self.target(machines, input));
        }
        // Either asks or answers, whenever it likes. Who started anew can only say so.
        let word = self.source.map_or(Word::Unknown, SourceOwner::word);
        add(Kind::Automatic, self.clone().with(Msg::ToTarget(word)));
        let word = self.target.map_or(Word::Unknown, TargetOwner::word);
        add(Kind::Automatic, self.clone().with(Msg::ToSource(word)));
        // The operator discards a copy that is in doubt and carries the receipt over, or knows that the other host is no more.
        if matches!(self.source, Some(SourceOwner::Given | SourceOwner::Unknown)) {
            let next = self.source(machines, SourceInput::Discard).with(Msg::ReceiptOfSource);
            add(Kind::Operator, next);
            if self.said.contains(&Msg::ReceiptOfTarget) || (self.target.is_none() && !self.ran) {
                add(Kind::Operator, self.source(machines, SourceInput::RunHere));
            }
        }
        if self.target == Some(TargetOwner::Held) {
            let next = self.target(machines, TargetInput::Discard).with(Msg::ReceiptOfTarget);
            add(Kind::Operator, next);
            if self.said.contains(&Msg::ReceiptOfSource) || self.source.is_none() {
                add(Kind::Operator, self.target(machines, TargetInput::RunHere));
            }
        }
        add(Kind::Crash, Self { source: None, ..self.clone() });
        add(Kind::Crash, Self { target: None, ..self.clone() });
        out
    }

    fn runs_here(&self) -> bool {
        self.source.is_some_and(SourceOwner::may_run)
    }

    fn is_copy_there(&self) -> bool {
        matches!(self.target, Some(TargetOwner::Ready | TargetOwner::Held | TargetOwner::Runs))
    }

    fn discarded(&self) -> bool {
        self.said.contains(&Msg::ReceiptOfSource) || self.said.contains(&Msg::ReceiptOfTarget)
    }

    /// One host has it for good, and the other knows; or a crash took the only copy there ever was, as it would have
    /// without a migration.
    fn is_settled(&self) -> bool {
        match (self.source, self.target) {
            (Some(SourceOwner::Kept), Some(TargetOwner::Gone) | None) => true,
            (Some(SourceOwner::Freed) | None, Some(TargetOwner::Runs)) => true,
            // Crashed while it had the guest, as any host may.
            (None, Some(TargetOwner::Gone)) => !self.said.contains(&Msg::Commit) || self.discarded(),
            (Some(SourceOwner::Freed), None) => self.ran || self.discarded(),
            // Both copies were discarded.
            (Some(SourceOwner::Freed), Some(TargetOwner::Gone)) => self.discarded(),
            (None, None) => true,
            // A copy changes nothing for the VM.
            (Some(SourceOwner::Kept) | None, Some(TargetOwner::Copied)) => true,
            (None, Some(TargetOwner::Filling)) if self.copy => true,
            _ => false,
        }
    }
}

type Graph = HashMap<State, Vec<(Kind, State)>>;

fn explore(machines: Machines) -> Graph {
    explore_as(machines, false)
}

fn explore_as(machines: Machines, copy: bool) -> Graph {
    let start = State {
        source: Some(SourceOwner::Owns),
        target: Some(TargetOwner::Filling),
        said: BTreeSet::new(),
        ran: false,
        copy,
    };
    let mut graph = HashMap::new();
    let mut todo = VecDeque::from([start]);
    while let Some(state) = todo.pop_front() {
        if graph.contains_key(&state) {
            continue;
        }
        let next = state.successors(machines);
        todo.extend(next.iter().map(|(_, state)| state.clone()));
        graph.insert(state, next);
    }
    graph
}

/// The source never runs once the target may have executed one instruction.
fn unsafe_state(graph: &Graph) -> Option<&State> {
    graph.keys().find(|state| state.ran && state.runs_here())
}

/// Until the source frees, every single crash leaves a whole copy that can be run.
fn lost_by_one_crash(graph: &Graph) -> Option<(&State, &State)> {
    let edges =
        graph.iter().flat_map(|(state, next)| next.iter().map(move |(kind, after)| (state, *kind, after)));
    edges
        .filter(|(state, kind, _)| {
            *kind == Kind::Crash && state.source.is_some() && state.target.is_some() && !state.discarded()
        })
        .find(|(state, _, after)| {
            let freed = state.source == Some(SourceOwner::Freed);
            let given = matches!(state.source, Some(SourceOwner::Given | SourceOwner::Unknown));
            match (after.source, after.target) {
                (Some(_), None) => !freed && after.source == Some(SourceOwner::Freed),
                (None, Some(_)) => given && !after.is_copy_there(),
                _ => false,
            }
        })
        .map(|(state, _, after)| (state, after))
}

/// States that settle by the kinds of steps allowed, computed backward from the settled ones.
fn recoverable(graph: &Graph, kinds: &[Kind]) -> HashSet<State> {
    let mut before: HashMap<&State, Vec<&State>> = HashMap::new();
    for (state, next) in graph {
        for (kind, after) in next {
            if kinds.contains(kind) {
                before.entry(after).or_default().push(state);
            }
        }
    }
    let mut good: HashSet<State> = HashSet::new();
    let mut todo: Vec<&State> = graph.keys().filter(|state| state.is_settled()).collect();
    while let Some(state) = todo.pop() {
        if good.insert(state.clone()) {
            todo.extend(before.get(state).into_iter().flatten());
        }
    }
    good
}

/// A state that nothing leads out of: without a crash not even an operator is needed.
fn stuck(graph: &Graph) -> Option<&State> {
    let alone = recoverable(graph, &[Kind::Automatic]);
    let helped = recoverable(graph, &[Kind::Automatic, Kind::Operator]);
    graph.keys().find(|state| {
        let whole = state.source.is_some() && state.target.is_some();
        !helped.contains(*state) || whole && !alone.contains(*state)
    })
}

#[test]
fn never_two_and_never_none() {
    let graph = explore(REAL);
    let edges: usize = graph.values().map(Vec::len).sum();
    println!("hand-over: {} states, {edges} transitions, all checked", graph.len());
    assert!(graph.len() > 1000);
    assert_eq!(unsafe_state(&graph), None);
    assert_eq!(lost_by_one_crash(&graph), None);
    assert_eq!(stuck(&graph), None);
    for (state, next) in &graph {
        for (kind, after) in next {
            // What is final stays: only a crash forgets.
            let source = matches!(state.source, Some(SourceOwner::Freed | SourceOwner::Kept));
            assert!(
                !source || *kind == Kind::Crash || after.source == state.source,
                "{state:?} -> {after:?}"
            );
            let target = matches!(state.target, Some(TargetOwner::Runs | TargetOwner::Gone));
            assert!(
                !target || *kind == Kind::Crash || after.target == state.target,
                "{state:?} -> {after:?}"
            );
        }
    }
}

#[test]
fn each_state_can_be_reached() {
    let graph = explore(REAL);
    let sources: HashSet<_> = graph.keys().filter_map(|state| state.source).collect();
    let targets: HashSet<_> = graph.keys().filter_map(|state| state.target).collect();
    assert_eq!((sources.len(), targets.len()), (5, 5), "{sources:?} {targets:?}");
}

/// A copy never runs, never ends the VM at its source, and stays whatever is said afterwards.
#[test]
fn a_copy_moves_nothing() {
    let graph = explore_as(REAL, true);
    println!("copy: {} states, all checked", graph.len());
    for (state, next) in &graph {
        assert!(!state.ran && !state.said.contains(&Msg::Commit), "{state:?}");
        assert!(state.source.is_none_or(SourceOwner::may_run), "{state:?}");
        for (kind, after) in next {
            let kept = after.target == Some(TargetOwner::Copied) || *kind == Kind::Crash;
            assert!(state.target != Some(TargetOwner::Copied) || kept, "{state:?} -> {after:?}");
        }
    }
    assert!(graph.keys().any(|state| state.target == Some(TargetOwner::Copied)));
    assert_eq!(stuck(&graph), None);
    // The rule that the verdict has to agree is what this hangs on.
    let misunderstood = Machines {
        target: |owner, input| match input {
            TargetInput::Copied => owner.step(TargetInput::Verified),
            _ => owner.step(input),
        },
        ..REAL
    };
    let graph = explore_as(misunderstood, true);
    assert!(graph.keys().any(|state| state.target == Some(TargetOwner::Ready)));
    assert_eq!(unsafe_state(&graph), None, "and even so nothing runs twice");
}

/// A checker that finds nothing wrong in a wrong machine checks nothing.
#[test]
fn wrong_machines_are_found_out() {
    use {SourceAction as SA, SourceInput as SI, SourceOwner as S};
    use {TargetAction as TA, TargetInput as TI, TargetOwner as T};
    let resumes_by_itself = Machines {
        source: |owner, input| match (owner, input) {
            (S::Given, SI::Stop) => (S::Kept, SA::Resume),
            _ => owner.step(input),
        },
        ..REAL
    };
    assert!(unsafe_state(&explore(resumes_by_itself)).is_some());
    let believes_a_stranger = Machines {
        source: |owner, input| match (owner, input) {
            (S::Given, SI::Stranger) => (S::Kept, SA::Resume),
            _ => owner.step(input),
        },
        ..REAL
    };
    assert!(unsafe_state(&explore(believes_a_stranger)).is_some());
    let comes_back = Machines {
        target: |owner, input| match (owner, input) {
            (T::Gone, TI::Commit) => (T::Runs, TA::Run),
            _ => owner.step(input),
        },
        ..REAL
    };
    assert!(unsafe_state(&explore(comes_back)).is_some());
    let destroys_in_doubt = Machines {
        target: |owner, input| match (owner, input) {
            (T::Ready, TI::Lost) => (T::Gone, TA::Destroy),
            _ => owner.step(input),
        },
        ..REAL
    };
    assert!(lost_by_one_crash(&explore(destroys_in_doubt)).is_some());
    let never_commits_again = Machines {
        target: |owner, input| match (owner, input) {
            (T::Held, TI::Commit) => (T::Held, TA::Nothing),
            _ => owner.step(input),
        },
        ..REAL
    };
    assert!(stuck(&explore(never_commits_again)).is_some());
}

#[test]
fn peers_of_version_1_get_the_old_rules() {
    assert_eq!(SourceOwner::Given.step(SourceInput::Cut), (SourceOwner::Unknown, SourceAction::MarkUnknown));
    assert_eq!(TargetOwner::Ready.step(TargetInput::Cut), (TargetOwner::Gone, TargetAction::Destroy));
}
