//! A VM that is paused here after its hand-over lost the connection: what a host does about it.

use migrate::body::Fate;
use migrate::handover::{Answer, Claim, Deal, Doubt as Pure, Question, Settle, Word};
use migrate::ownership::{Change, Phase};
use migrate::{TargetVm, Tuning};
use net::{Connection, ConnectionState, Stack};

use super::link::{Tap, TcpLink};
use super::machine::{HZ, PORT, address};
use super::vm::{Arriving, Store};

/// It asks this often.
const AGAIN: u64 = 2 * HZ;
/// And first after this.
const SOON: u64 = HZ / 200;
/// Guest time since the export, as this end says.
const SINCE_NS: u64 = 1000;

enum Asking {
    Not,
    Talking(Connection, Option<Box<Question>>, Box<Tap>),
}

pub struct Doubt {
    pub deal: Deal,
    pure: Pure,
    store: Store,
    /// At the target.
    copy: Option<Arriving>,
    asking: Asking,
    next: u64,
}

impl Doubt {
    pub fn left(deal: Deal, store: &Store, now: u64) -> Self {
        Self::new(Pure::left(Some(deal.clone())), deal, store, None, now + SOON)
    }

    pub fn held(deal: Deal, store: &Store, copy: Arriving, now: u64) -> Self {
        store.must(Change::Doubt);
        Self::new(Pure::held(Some(deal.clone())), deal, store, Some(copy), now + SOON)
    }

    fn new(pure: Pure, deal: Deal, store: &Store, copy: Option<Arriving>, next: u64) -> Self {
        Self { deal, pure, store: store.clone(), copy, asking: Asking::Not, next }
    }

    pub fn word(&self) -> Word {
        self.pure.word()
    }

    pub fn say(&self) -> Fate {
        self.pure.say(SINCE_NS).expect("there is a deal")
    }

    /// Nothing more is to be said about it.
    pub fn settled(&self) -> bool {
        self.pure.is_settled() && matches!(self.asking, Asking::Not)
    }

    /// It waits for an operator.
    pub fn stuck(&self) -> bool {
        self.pure.is_alone()
    }

    pub fn hear(&mut self, fate: &Fate) {
        if let Ok(settle) = self.pure.hear(fate) {
            self.settle(settle);
        }
    }

    fn settle(&mut self, settle: Settle) {
        match settle {
            Settle::Nothing | Settle::Alone { .. } => {}
            Settle::Free => self.store.free(),
            Settle::Resume => self.store.must(Change::Back),
            Settle::Run { elapsed_ns } => self.copy().run(elapsed_ns),
            Settle::Destroy => self.copy().destroy(),
        }
    }

    fn copy(&mut self) -> &mut Arriving {
        self.copy.as_mut().expect("a target has a copy")
    }

    /// How far it is.
    pub fn stage(&self) -> Phase {
        self.pure.stage()
    }

    /// `migrate resolve demo run-here` and no more: whether it was obeyed.
    pub fn tries_to_run(&mut self) -> bool {
        self.pure.run_here(Claim::default(), 0).is_ok()
    }

    /// `migrate resolve demo run-here`, with the other end's receipt or by force: whether it was obeyed.
    pub fn run_here(&mut self, receipt: Option<&str>) -> bool {
        let claim = Claim { receipt, force: receipt.is_none(), elsewhere: false };
        let done = self.pure.run_here(claim, 0);
        done.map(|settle| self.settle(settle)).is_ok()
    }

    /// `migrate resolve demo discard`: the receipt.
    pub fn discard(&mut self) -> String {
        let (settle, receipt) = self.pure.discard();
        self.settle(settle);
        receipt.expect("there is a deal").to_string()
    }

    pub fn poll(&mut self, stack: &mut Stack, peer: usize, now: u64) {
        let Asking::Talking(connection, question, tap) = &mut self.asking else {
            if self.pure.asks() && now >= self.next {
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
                let Asking::Talking(_, Some(asked), _) = &mut self.asking else { return };
                self.pure.reply(asked, SINCE_NS);
            }
            Answer::Over | Answer::Failed(_) => self.hang_up(stack, connection),
        }
    }

    fn hang_up(&mut self, stack: &mut Stack, connection: Connection) {
        let _ = stack.close(connection);
        self.asking = Asking::Not;
    }
}
