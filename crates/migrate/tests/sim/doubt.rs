//! A VM that is paused here after its hand-over lost the connection: what a host does about it.

use migrate::body::Fate;
use migrate::handover::{
    Answer, Deal, Question, SourceAction, SourceInput, SourceOwner, TargetAction, TargetInput, TargetOwner,
    Word,
};
use migrate::{TargetVm, Tuning};
use net::{Connection, ConnectionState, Stack};

use super::link::{Tap, TcpLink};
use super::machine::{HZ, PORT, address};
use super::vm::{Arriving, Status, Store};

/// It asks this often.
const AGAIN: u64 = 2 * HZ;
/// And first after this.
const SOON: u64 = HZ / 200;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Source(SourceOwner),
    Target(TargetOwner),
}

enum Asking {
    Not,
    Talking(Connection, Option<Box<Question>>, Box<Tap>),
}

pub struct Doubt {
    pub deal: Deal,
    owner: Owner,
    store: Store,
    /// At the target.
    copy: Option<Arriving>,
    asking: Asking,
    next: u64,
    /// The other end knows nothing of it.
    stranger: bool,
}

impl Doubt {
    pub fn left(deal: Deal, store: &Store, now: u64) -> Self {
        Self::new(deal, Owner::Source(SourceOwner::Given), store, None, now + SOON)
    }

    pub fn held(deal: Deal, store: &Store, copy: Arriving, now: u64) -> Self {
        store.set(Status::Unknown);
        Self::new(deal, Owner::Target(TargetOwner::Held), store, Some(copy), now + SOON)
    }

    fn new(deal: Deal, owner: Owner, store: &Store, copy: Option<Arriving>, next: u64) -> Self {
        Self { deal, owner, store: store.clone(), copy, asking: Asking::Not, next, stranger: false }
    }

    pub fn word(&self) -> Word {
        match self.owner {
            Owner::Source(owner) => owner.word(),
            Owner::Target(owner) => owner.word(),
        }
    }

    pub fn say(&self) -> Fate {
        self.deal.say(self.word(), 1000)
    }

    fn decided(&self) -> bool {
        matches!(
            self.owner,
            Owner::Source(SourceOwner::Freed | SourceOwner::Kept)
                | Owner::Target(TargetOwner::Runs | TargetOwner::Gone)
        )
    }

    /// Nothing more is to be said about it.
    pub fn settled(&self) -> bool {
        self.decided() && matches!(self.asking, Asking::Not)
    }

    /// It waits for an operator.
    pub fn stuck(&self) -> bool {
        self.stranger && !self.decided()
    }

    pub fn hear(&mut self, fate: &Fate) {
        let Ok(word) = self.deal.hear(fate) else { return };
        self.stranger |= word == Word::Unknown;
        match self.owner {
            Owner::Source(_) => SourceInput::from_peer(word).map(|input| self.source(input)),
            Owner::Target(_) => {
                TargetInput::from_peer(word).map(|input| self.target(input, fate.exported_ns))
            }
        };
    }

    fn source(&mut self, input: SourceInput) {
        let Owner::Source(owner) = self.owner else { return };
        let (owner, action) = owner.step(input);
        self.owner = Owner::Source(owner);
        match action {
            SourceAction::Free => self.store.free(),
            SourceAction::Resume => self.store.set(Status::Running),
            SourceAction::MarkUnknown
            | SourceAction::Nothing
            | SourceAction::Commit
            | SourceAction::Ask
            | SourceAction::Keep => {}
        }
    }

    fn target(&mut self, input: TargetInput, elapsed_ns: u64) {
        let Owner::Target(owner) = self.owner else { return };
        let (owner, action) = owner.step(input);
        self.owner = Owner::Target(owner);
        let copy = self.copy.as_mut().expect("a target has a copy");
        match action {
            TargetAction::Run => copy.run(elapsed_ns),
            TargetAction::Destroy => copy.destroy(),
            TargetAction::Nothing | TargetAction::SendReady | TargetAction::Hold => {}
        }
    }

    /// `migrate resolve demo run-here`, with the other end's receipt or by force: whether it was obeyed.
    pub fn run_here(&mut self, receipt: Option<&str>) -> bool {
        if receipt.is_some_and(|text| !self.deal.takes(text)) {
            return false;
        }
        match self.owner {
            Owner::Source(_) => self.source(SourceInput::RunHere),
            Owner::Target(_) => self.target(TargetInput::RunHere, 0),
        }
        true
    }

    /// `migrate resolve demo discard`: the receipt.
    pub fn discard(&mut self) -> String {
        match self.owner {
            Owner::Source(_) => self.source(SourceInput::Discard),
            Owner::Target(_) => self.target(TargetInput::Discard, 0),
        }
        self.deal.receipt().to_string()
    }

    pub fn poll(&mut self, stack: &mut Stack, peer: usize, now: u64) {
        let asks = matches!(self.owner, Owner::Source(SourceOwner::Given) | Owner::Target(TargetOwner::Held));
        let Asking::Talking(connection, question, tap) = &mut self.asking else {
            if asks && !self.stranger && now >= self.next {
                self.next = now + AGAIN;
                let connection = stack.connect(address(peer), PORT).expect("a connection");
                self.asking = Asking::Talking(connection, None, Box::default());
            }
            return;
        };
        let connection = *connection;
        let Some(asked) = question else {
            match stack.connection_state(connection) {
                Ok(ConnectionState::Connecting) => {}
                Ok(_) => {
                    let first = self.say();
                    let Asking::Talking(_, question, _) = &mut self.asking else { return };
                    *question = Some(Box::new(Question::new(&first, Tuning::default(), HZ, now)));
                }
                Err(_) => self.hang_up(stack, connection),
            }
            return;
        };
        match asked.poll(now, &mut TcpLink { stack, connection, tap, now }) {
            Answer::Waiting => {}
            Answer::Heard(fate) => {
                self.hear(&fate);
                let last = (self.decided() && matches!(self.owner, Owner::Target(_))).then(|| self.say());
                let Asking::Talking(_, Some(asked), _) = &mut self.asking else { return };
                match last {
                    Some(fate) => asked.add(&fate),
                    None => asked.end(),
                }
            }
            Answer::Over | Answer::Failed(_) => self.hang_up(stack, connection),
        }
    }

    fn hang_up(&mut self, stack: &mut Stack, connection: Connection) {
        let _ = stack.close(connection);
        self.asking = Asking::Not;
    }
}
