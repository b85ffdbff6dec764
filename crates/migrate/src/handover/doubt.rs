//! A VM that is paused here and that the other host may run: what follows from the other end's words and the operator's.

use super::{
    Deal, FateError, Question, Receipt, SourceAction, SourceInput, SourceOwner, TargetAction, TargetInput,
    TargetOwner, Word,
};
use crate::body::Fate;
use crate::ownership::Phase;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Source(SourceOwner),
    Target(TargetOwner),
}

/// What is done with the VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settle {
    /// Nothing.
    Nothing,
    /// It is freed: the other host has it.
    Free,
    /// The source runs it again.
    Resume,
    /// The target runs it, so much guest time after its state was exported.
    Run {
        /// Nanoseconds.
        elapsed_ns: u64,
    },
    /// The target's copy is destroyed.
    Destroy,
    /// The other end knows nothing of it: an operator decides. Told once.
    Alone {
        /// It has started since. Otherwise it has forgotten.
        anew: bool,
    },
}

/// Why an operator's word is not obeyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotYet {
    /// The receipt is not the other end's for this migration.
    Receipt,
    /// Neither receipt nor force was given.
    Force,
    /// Another host says that the VM is its own.
    Elsewhere,
}

/// With what an operator lets the VM run here.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Claim<'a> {
    /// What the other end printed when it discarded its copy.
    pub receipt: Option<&'a str>,
    /// The operator's word that the other end does not run it and never will.
    pub force: bool,
    /// Another host is known to have the VM, by its uuid: whatever the operator believes, two would run it.
    pub elsewhere: bool,
}

/// One VM in doubt, from the loss of the connection until it is known who has it. Who calls asks the other end while
/// [`Doubt::asks`] says so, and does what [`Settle`] says.
#[derive(Clone, Debug)]
pub struct Doubt {
    /// None with a peer of version 1, which cannot be asked.
    deal: Option<Deal>,
    owner: Owner,
    alone: bool,
}

impl Doubt {
    /// Of the VM that left, or not.
    #[must_use]
    pub fn left(deal: Option<Deal>) -> Self {
        let owner = if deal.is_some() { SourceOwner::Given } else { SourceOwner::Unknown };
        Self { deal, owner: Owner::Source(owner), alone: false }
    }

    /// Of the VM that came and waits for COMMIT.
    #[must_use]
    pub fn held(deal: Option<Deal>) -> Self {
        Self { deal, owner: Owner::Target(TargetOwner::Held), alone: false }
    }

    /// Whether the VM was to leave this host.
    #[must_use]
    pub fn is_source(&self) -> bool {
        matches!(self.owner, Owner::Source(_))
    }

    /// How far it is, for who judges an operator's command.
    #[must_use]
    pub fn stage(&self) -> Phase {
        match self.owner {
            _ if self.is_settled() => Phase::None,
            Owner::Source(_) => Phase::InDoubt,
            Owner::Target(_) => Phase::Held,
        }
    }

    /// What both ends know each other by.
    #[must_use]
    pub fn deal(&self) -> Option<&Deal> {
        self.deal.as_ref()
    }

    /// What this end says when asked.
    #[must_use]
    pub fn word(&self) -> Word {
        match self.owner {
            Owner::Source(owner) => owner.word(),
            Owner::Target(owner) => owner.word(),
        }
    }

    /// The same, signed. `since_ns`: since the state was exported.
    #[must_use]
    pub fn say(&self, since_ns: u64) -> Option<Fate> {
        self.deal.as_ref().map(|deal| deal.say(self.word(), since_ns))
    }

    /// Whether the other end is to be asked.
    #[must_use]
    pub fn asks(&self) -> bool {
        let open = matches!(self.owner, Owner::Source(SourceOwner::Given) | Owner::Target(TargetOwner::Held));
        open && self.deal.is_some() && !self.alone
    }

    /// It is known who has the VM.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(
            self.owner,
            Owner::Source(SourceOwner::Freed | SourceOwner::Kept)
                | Owner::Target(TargetOwner::Runs | TargetOwner::Gone)
        )
    }

    /// The other end knows nothing of it, and no operator has decided yet.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.alone && !self.is_settled()
    }

    /// What the other end said.
    ///
    /// # Errors
    /// It counts for nothing, and why.
    pub fn hear(&mut self, fate: &Fate) -> Result<Settle, FateError> {
        let Some(deal) = &self.deal else { return Ok(Settle::Nothing) };
        let word = deal.hear(fate)?;
        let anew = fate.from != deal.there;
        let done = match self.owner {
            Owner::Source(_) => SourceInput::from_peer(word).map(|input| self.source(input)),
            Owner::Target(_) => {
                TargetInput::from_peer(word).map(|input| self.target(input, fate.exported_ns))
            }
        };
        if word == Word::Unknown && !self.is_settled() && !core::mem::replace(&mut self.alone, true) {
            return Ok(Settle::Alone { anew });
        }
        Ok(done.unwrap_or(Settle::Nothing))
    }

    /// After [`Doubt::hear`]: a target that knows says so at once, and need not be asked again.
    pub fn reply(&self, question: &mut Question, since_ns: u64) {
        match self.say(since_ns) {
            Some(fate) if self.is_settled() && !self.is_source() => question.add(&fate),
            _ => question.end(),
        }
    }

    /// The operator: it runs here, for the other end has given a receipt, or by force. `since_ns`: since the state was
    /// exported, as far as this end knows.
    ///
    /// # Errors
    /// Not without the right receipt or force, and never while another host has the VM.
    pub fn run_here(&mut self, claim: Claim<'_>, since_ns: u64) -> Result<Settle, NotYet> {
        match claim.receipt {
            _ if claim.elsewhere => return Err(NotYet::Elsewhere),
            Some(text) if self.deal.as_ref().is_some_and(|deal| deal.takes(text)) => {}
            Some(_) => return Err(NotYet::Receipt),
            None if claim.force => {}
            None => return Err(NotYet::Force),
        }
        Ok(match self.owner {
            Owner::Source(_) => self.source(SourceInput::RunHere),
            Owner::Target(_) => self.target(TargetInput::RunHere, since_ns),
        })
    }

    /// The operator: it is given up here for good. The receipt for the other end comes with the act, and only with it: one
    /// of an end that runs the VM would let the other run it, too.
    pub fn discard(&mut self) -> (Settle, Option<Receipt>) {
        let done = match self.owner {
            Owner::Source(_) => self.source(SourceInput::Discard),
            Owner::Target(_) => self.target(TargetInput::Discard, 0),
        };
        let gone = matches!(done, Settle::Free | Settle::Destroy);
        (done, self.deal.as_ref().filter(|_| gone).map(Deal::receipt))
    }

    fn source(&mut self, input: SourceInput) -> Settle {
        let Owner::Source(owner) = self.owner else { return Settle::Nothing };
        let (owner, action) = owner.step(input);
        self.owner = Owner::Source(owner);
        match action {
            SourceAction::Free => Settle::Free,
            SourceAction::Resume => Settle::Resume,
            SourceAction::Nothing
            | SourceAction::Commit
            | SourceAction::Ask
            | SourceAction::Keep
            | SourceAction::MarkUnknown => Settle::Nothing,
        }
    }

    fn target(&mut self, input: TargetInput, elapsed_ns: u64) -> Settle {
        let Owner::Target(owner) = self.owner else { return Settle::Nothing };
        let (owner, action) = owner.step(input);
        self.owner = Owner::Target(owner);
        match action {
            TargetAction::Run => Settle::Run { elapsed_ns },
            TargetAction::Destroy => Settle::Destroy,
            TargetAction::Nothing | TargetAction::SendReady | TargetAction::Hold => Settle::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    use crate::handover::deal::tests::ends;
    use crate::handover::stranger;

    const FORCE: Claim<'_> = Claim { receipt: None, force: true, elsewhere: false };

    fn doubts() -> (Doubt, Doubt) {
        let (source, target) = ends();
        (Doubt::left(Some(source)), Doubt::held(Some(target)))
    }

    #[test]
    fn each_asks_until_it_knows() {
        let (mut source, mut target) = doubts();
        assert!(source.asks() && target.asks() && !source.is_settled() && !target.is_settled());
        let said = source.say(7_000).unwrap();
        assert_eq!(target.hear(&said), Ok(Settle::Run { elapsed_ns: 7_000 }));
        assert!(target.is_settled() && !target.asks());
        assert_eq!(target.hear(&said), Ok(Settle::Nothing), "once");
        assert_eq!(source.hear(&target.say(0).unwrap()), Ok(Settle::Free));
        assert!(source.is_settled() && !source.asks());
    }

    #[test]
    fn a_peer_that_knows_nothing_leaves_it_to_the_operator() {
        let (mut source, mut target) = doubts();
        for (doubt, there) in [(&mut source, [4; 16]), (&mut target, [3; 16])] {
            let answer = stranger(there, &doubt.say(0).unwrap());
            // Who has started again has another boot id.
            let answer = Fate { from: [9; 16], ..answer };
            assert_eq!(doubt.hear(&answer), Ok(Settle::Alone { anew: true }));
            assert_eq!(doubt.hear(&answer), Ok(Settle::Nothing), "told once");
            assert!(doubt.is_alone() && !doubt.asks() && !doubt.is_settled());
            assert_eq!(doubt.run_here(Claim::default(), 5), Err(NotYet::Force));
            // The other end moved it on to a third host before it started again (fault 1.3).
            assert_eq!(doubt.run_here(Claim { elsewhere: true, ..FORCE }, 5), Err(NotYet::Elsewhere));
        }
        assert_eq!(source.run_here(FORCE, 5), Ok(Settle::Resume));
        assert_eq!(target.run_here(FORCE, 5), Ok(Settle::Run { elapsed_ns: 5 }));
        assert!(!source.is_alone() && !target.is_alone());
    }

    #[test]
    fn a_receipt_of_the_other_end_is_as_good_as_its_word() {
        let (mut source, mut target) = doubts();
        let (done, receipt) = target.discard();
        let receipt = receipt.unwrap().to_string();
        assert_eq!((done, target.is_settled()), (Settle::Destroy, true));
        let with = |receipt| Claim { receipt: Some(receipt), ..Claim::default() };
        let wrong = Claim { force: true, ..with("receipt=00") };
        assert_eq!(source.run_here(wrong, 0), Err(NotYet::Receipt), "force makes no receipt good");
        let own = ends().0.receipt().to_string();
        assert_eq!(source.run_here(with(&own), 0), Err(NotYet::Receipt), "its own is none");
        assert_eq!(source.run_here(with(&receipt), 0), Ok(Settle::Resume));
        assert_eq!(source.discard(), (Settle::Nothing, None), "it runs here: too late, and no receipt");
        assert_eq!(target.discard(), (Settle::Nothing, None), "a receipt comes with the act");
    }

    #[test]
    fn a_peer_of_version_1_cannot_be_asked() {
        let mut source = Doubt::left(None);
        assert!(!source.asks() && !source.is_settled() && source.say(0).is_none());
        let fate = ends().1.say(Word::Runs, 0);
        assert_eq!(source.hear(&fate), Ok(Settle::Nothing));
        assert_eq!(source.discard(), (Settle::Free, None));
    }
}
