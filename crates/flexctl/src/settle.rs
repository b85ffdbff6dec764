//! Asking a host what became of a hand-over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use migrate::handover::{
    Answer, Deal, Question, Role, SourceAction, SourceInput, SourceOwner, TargetAction, TargetInput,
    TargetOwner, Word,
};
use migrate::{Tuning, body::Fate};
use secure_link::{Security, Service};
use vm_file::State;

use crate::peer::{Bar, Clock, HZ, Link};

/// Between two questions.
const AGAIN: Duration = Duration::from_secs(1);

/// Asks once, saying `word`; `then` is told the answer and gives the last word, if one is due.
pub(crate) fn ask(
    to: SocketAddr,
    security: &Security,
    bar: &Bar,
    deal: &Deal,
    first: &Fate,
    then: &mut dyn FnMut(Word, u64) -> Option<Fate>,
) -> Result<(), String> {
    let mut link = Link::dial(Service::Migrate, to, security, bar.clone())?;
    let clock = Clock::start();
    let mut question = Question::new(first, Tuning::default(), HZ, clock.now());
    loop {
        match question.poll(clock.now(), &mut link) {
            Answer::Waiting => crate::peer::pause(),
            Answer::Heard(fate) => {
                let word = deal.hear(&fate).map_err(|error| error.to_string())?;
                match then(word, fate.exported_ns) {
                    Some(last) => question.add(&last),
                    None => question.end(),
                }
            }
            Answer::Over => {
                link.close();
                return Ok(());
            }
            Answer::Failed(reason) => return Err(format!("{reason}{}", link.fault())),
        }
    }
}

/// What a file is to its last hand-over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Source(SourceOwner),
    Target(TargetOwner),
}

impl Side {
    /// What a file in this state is to a hand-over in which it had this role.
    pub(crate) fn of(state: State, role: Role) -> Option<Self> {
        Some(match (role, state) {
            (Role::Source, State::Owner) => Self::Source(SourceOwner::Kept),
            (Role::Source, State::Given) => Self::Source(SourceOwner::Given),
            (Role::Source, State::Used) => Self::Source(SourceOwner::Freed),
            (Role::Target, State::Held) => Self::Target(TargetOwner::Held),
            (Role::Target, State::Owner) => Self::Target(TargetOwner::Runs),
            (Role::Target, State::Used) => Self::Target(TargetOwner::Gone),
            (Role::Source, State::Held)
            | (Role::Target, State::Given)
            | (_, State::Incomplete | State::Checkpoint) => {
                return None;
            }
        })
    }

    fn word(self) -> Word {
        match self {
            Self::Source(owner) => owner.word(),
            Self::Target(owner) => owner.word(),
        }
    }

    /// Whether nothing that the other end says changes it.
    fn is_final(self) -> bool {
        !matches!(self, Self::Source(SourceOwner::Given) | Self::Target(TargetOwner::Held))
    }

    /// Takes in what the other end says; the state that the file has to have then, where that is another one. A copy that
    /// is to be destroyed is [`State::Incomplete`].
    fn hear(self, word: Word) -> (Self, Option<State>) {
        match self {
            Self::Source(owner) => {
                let Some(input) = SourceInput::from_peer(word) else { return (self, None) };
                let (next, action) = owner.step(input);
                let state = match action {
                    SourceAction::Free => Some(State::Used),
                    SourceAction::Resume => Some(State::Owner),
                    _ => None,
                };
                (Self::Source(next), state)
            }
            Self::Target(owner) => {
                let Some(input) = TargetInput::from_peer(word) else { return (self, None) };
                let (next, action) = owner.step(input);
                let state = match action {
                    TargetAction::Run => Some(State::Owner),
                    TargetAction::Destroy => Some(State::Incomplete),
                    _ => None,
                };
                (Self::Target(next), state)
            }
        }
    }

    /// The other end says that the VM is its own too: an operator's force has made two of it.
    fn clashes(self, word: Word) -> bool {
        matches!(
            (self, word),
            (Self::Source(SourceOwner::Kept), Word::Runs) | (Self::Target(TargetOwner::Runs), Word::Kept)
        )
    }

    /// How it ended, and whether well.
    fn outcome(self) -> (bool, &'static str) {
        match self {
            Self::Source(SourceOwner::Freed) => (true, "done: the host runs the VM"),
            Self::Source(SourceOwner::Kept) => (false, "failed: the host has no copy; the VM is the file's"),
            Self::Source(SourceOwner::Unknown) => (
                false,
                "unknown: the host knows nothing of it: it has started anew, or is another one; the host may run the VM",
            ),
            Self::Source(_) => (false, "unknown: the host does not answer; the host may run the VM"),
            Self::Target(TargetOwner::Runs) => (true, "done: the VM is the file's"),
            Self::Target(TargetOwner::Gone) => {
                (false, "failed: the source keeps the VM; there is no copy here")
            }
            Self::Target(_) => {
                (false, "unknown: the source does not say whether it gave the VM up; it may run it")
            }
        }
    }
}

/// Asks the other end until it is known who owns the VM, or for `wait` seconds. `exported_ns` is the time since the guest
/// stopped here; `mark` makes a state safe and says whether it is.
pub(crate) fn settle(
    mut side: Side,
    deal: &Deal,
    (to, security): (SocketAddr, &Security),
    wait: u64,
    exported_ns: &dyn Fn() -> u64,
    mark: &mut dyn FnMut(State) -> bool,
) -> (bool, &'static str) {
    let (mut pace, mut heard) = (Pace::new(wait), None);
    let known = side.is_final();
    // A host that has started anew will know nothing of it later either.
    while heard != Some(Word::Unknown) && !(side.is_final() && (heard.is_some() || !known)) && !pace.is_over()
    {
        if !pace.due() {
            crate::peer::pause();
            continue;
        }
        let first = deal.say(side.word(), exported_ns());
        // A connection of its own: the bar of one before stays as it is.
        let asked = ask(to, security, &Bar::default(), deal, &first, &mut |word, _| {
            heard = Some(word);
            let (next, state) = side.hear(word);
            if !state.is_none_or(&mut *mark) {
                return None;
            }
            side = next;
            // What its word has made of the copy here.
            (state.is_some() && matches!(side, Side::Target(_))).then(|| deal.say(side.word(), 0))
        });
        if let Err(why) = asked {
            eprintln!("{to}: {why}");
        }
    }
    match heard {
        Some(word) if side.clashes(word) => {
            (false, "the other end says that the VM is its own: there are two of it")
        }
        None if known => (false, "the other end does not answer, and was not told"),
        _ => side.outcome(),
    }
}

/// When to ask next.
pub(crate) struct Pace {
    until: Instant,
    next: Instant,
}

impl Pace {
    /// Asks for `seconds`.
    pub(crate) fn new(seconds: u64) -> Self {
        let now = Instant::now();
        Self { until: now + Duration::from_secs(seconds.min(1 << 30)), next: now }
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Whether a question is due; the next one is due a second later.
    pub(crate) fn due(&mut self) -> bool {
        let now = Instant::now();
        let due = now >= self.next;
        if due {
            self.next = now + AGAIN;
        }
        due
    }
}
