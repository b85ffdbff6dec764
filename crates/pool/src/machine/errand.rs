//! What the operator asked for: to look at another host's pool, or to join it.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::SocketAddrV4;

use super::dial::Seed;
use super::{Pool, Presence};
use crate::error::Refusal;
use crate::event::Event;
use crate::limits::MAX_SEEDS;
use crate::member::Member;
use crate::set::Set;

/// An errand, one at a time.
pub(super) struct Errand {
    to: SocketAddrV4,
    join: bool,
    until: u64,
    step: Step,
    /// What the other host says.
    pub(super) asked: Box<Set>,
    /// This host was in no pool, and goes back to that if nothing comes of it.
    alone: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Dial,
    Ask,
    Join,
}

impl Pool {
    /// Asks a host for its pool, to see what would follow if it and this host came together. The answer comes as
    /// [`Event::Preview`], then [`Event::ErrandDone`]; or as [`Event::ErrandFailed`].
    ///
    /// # Errors
    /// Another errand is under way.
    pub fn preview(&mut self, to: SocketAddrV4, now: u64) -> Result<(), String> {
        self.begin(to, false, now)
    }

    /// Joins the pool that a host is in. [`Event::Preview`] comes before anything is changed.
    ///
    /// # Errors
    /// Another errand is under way.
    pub fn join(&mut self, to: SocketAddrV4, now: u64) -> Result<(), String> {
        self.begin(to, true, now)
    }

    fn begin(&mut self, to: SocketAddrV4, join: bool, now: u64) -> Result<(), String> {
        if let Some(errand) = &self.errand {
            return Err(alloc::format!("{} is being asked already", errand.to));
        }
        if self.status.address == Some(to) {
            return Err(alloc::format!("{to} is this host"));
        }
        let until = now.saturating_add(self.timing.hello_us);
        let alone = self.name.is_none();
        self.errand = Some(Errand { to, join, until, step: Step::Dial, asked: Box::default(), alone });
        Ok(())
    }

    /// Where to dial for the errand, once.
    pub(super) fn errand_dials(&mut self) -> Option<SocketAddrV4> {
        let errand = self.errand.as_mut().filter(|errand| errand.step == Step::Dial)?;
        errand.step = Step::Ask;
        Some(errand.to)
    }

    /// The host that was asked has said all.
    pub(super) fn answered(&mut self, pool: Option<&str>, name: &str, now: u64) {
        let Some(errand) = &self.errand else { return };
        let (to, join) = (errand.to, errand.join);
        let refused = match (&self.name, pool) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                Some(Refusal::OtherPool { theirs: theirs.to_string(), ours: ours.clone() })
            }
            (_, None) if join => Some(Refusal::NoPool(name.to_string())),
            _ => None,
        };
        let why = refused.as_ref().map(ToString::to_string);
        let theirs: Vec<&Member> = errand.asked.members().collect();
        if let Some(preview) = self.preview_with(&theirs, pool, why.clone()) {
            self.events.push_back(Event::Preview(preview));
        }
        match why {
            Some(why) if join => self.fail(why, true),
            _ if join => {
                if self.seeds.len() == MAX_SEEDS {
                    self.seeds.remove(0);
                }
                self.seeds.retain(|seed| seed.address != to);
                self.seeds.push(Seed::new(to, now));
                if let Some(errand) = &mut self.errand {
                    errand.step = Step::Join;
                    errand.until = now.saturating_add(self.timing.hello_us);
                }
            }
            _ => {
                self.errand = None;
                self.events.push_back(Event::ErrandDone);
            }
        }
    }

    /// The link for the errand came to nothing.
    pub(super) fn errand_refused(&mut self, address: SocketAddrV4, why: &Refusal) {
        if self.errand.as_ref().is_some_and(|errand| errand.to == address && errand.step != Step::Dial) {
            let theirs = !matches!(why, Refusal::Closed | Refusal::Silent | Refusal::Connect(_));
            self.fail(why.to_string(), theirs);
        }
    }

    /// True where a host may give this one its pool: it is being joined.
    pub(super) fn is_joining(&self) -> bool {
        self.errand.as_ref().is_some_and(|errand| errand.step == Step::Join)
    }

    pub(super) fn watch_errand(&mut self, now: u64) {
        let Some(errand) = &self.errand else { return };
        let mut asked = self.seeds.iter().filter(|seed| seed.address == errand.to);
        let joined = errand.step == Step::Join
            && asked.any(|seed| self.host_at(seed).is_some_and(|id| self.presence(id) == Presence::Up));
        // A member that is lost keeps nobody from joining.
        if joined && (self.all_agree() || now >= errand.until) {
            self.errand = None;
            self.events.push_back(Event::ErrandDone);
        } else if now >= errand.until {
            self.fail(Refusal::Silent.to_string(), false);
        }
    }

    fn fail(&mut self, why: String, refused: bool) {
        let Some(errand) = self.errand.take() else { return };
        if errand.step == Step::Join {
            self.seeds.retain(|seed| seed.address != errand.to);
            if errand.alone && self.set.members().count() == 1 {
                self.name = None;
            }
        }
        self.events.push_back(Event::ErrandFailed { peer: errand.to, why, refused });
    }
}
