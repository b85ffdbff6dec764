//! What becomes of a VM in doubt.

use super::*;

/// The ends of a migration whose connection is lost, as a host keeps them.
pub struct Settling<'a> {
    pub world: &'a mut World,
    pub source: SourceOwner,
    pub target: TargetOwner,
    deals: [Option<Deal>; 2],
}

impl<'a> Settling<'a> {
    pub fn new(world: &'a mut World) -> Self {
        let (source, target) = (world.source.owner(), world.target.owner());
        let deals = [world.source.deal(), world.target.deal()];
        Self { world, source, target, deals }
    }

    fn say(&self, end: usize) -> Fate {
        let word = if end == 0 { self.source.word() } else { self.target.word() };
        self.deals[end].as_ref().expect("version 2").say(word, 1000)
    }

    /// What `end` does when the other end says this.
    fn hear(&mut self, end: usize, fate: &Fate) {
        let word = self.deals[end].as_ref().expect("version 2").hear(fate).expect("of this migration");
        if end == 0 {
            let Some(input) = SourceInput::from_peer(word) else { return };
            let (owner, action) = self.source.step(input);
            self.source = owner;
            match action {
                SourceAction::Free => self.world.leaving.free(),
                SourceAction::Resume => self.world.leaving.resume(),
                SourceAction::MarkUnknown => self.world.leaving.mark_unknown(),
                SourceAction::Nothing | SourceAction::Commit | SourceAction::Ask | SourceAction::Keep => {}
            }
        } else {
            let Some(input) = TargetInput::from_peer(word) else { return };
            let (owner, action) = self.target.step(input);
            self.target = owner;
            match action {
                TargetAction::Run => self.world.coming.run(fate.exported_ns),
                TargetAction::Destroy => self.world.coming.destroy(),
                TargetAction::Nothing | TargetAction::SendReady | TargetAction::Hold => {}
            }
        }
        self.world.never_two();
    }

    /// `end` connects to the other and asks.
    pub fn ask(&mut self, end: usize) {
        let cable = Rc::new(RefCell::new(Cable::new()));
        let mut question = Question::new(&self.say(end), tuning(), HZ, 0);
        let mut host = Target::new(target_params(), 0);
        let mut nothing = Coming::default();
        for turn in 1..1000 {
            let now = turn * 1000;
            match question.poll(now, &mut End(cable.clone(), 0)) {
                Answer::Waiting => {}
                Answer::Heard(fate) => {
                    let before = self.target;
                    self.hear(end, &fate);
                    if end == 1 && self.target != before {
                        question.add(&self.say(1));
                    } else {
                        question.end();
                    }
                }
                Answer::Over => cable.borrow_mut().open = [false; 2],
                Answer::Failed(reason) => panic!("{reason}"),
            }
            match host.poll(now, &mut End(cable.clone(), 1), &mut nothing) {
                TargetEvent::Asked(fate) => {
                    self.hear(1 - end, &fate);
                    host.answer(&self.say(1 - end));
                }
                TargetEvent::Finished(outcome) => {
                    assert_eq!(outcome, TargetOutcome::Answered);
                    return;
                }
                TargetEvent::Waiting | TargetEvent::Working => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("the question does not end");
    }
}
