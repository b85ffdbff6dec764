//! How either end closes: the outcome is told once its last words have left.

use crate::link::Link;
use crate::outbox::Outbox;
use crate::tuning::Clock;

/// The outcome of an end, and whether it was told.
#[derive(Clone)]
pub(crate) enum Ending<O> {
    /// It goes on.
    NotYet,
    /// It is over since a time in ticks; its last words are on their way.
    Closing(O, u64),
    /// Over, and told.
    Told,
}

impl<O> Ending<O> {
    /// Whether it is over.
    pub(crate) fn has_come(&self) -> bool {
        !matches!(self, Self::NotYet)
    }

    /// What it ended with, until that is told.
    pub(crate) fn outcome(&self) -> Option<&O> {
        match self {
            Self::Closing(outcome, _) => Some(outcome),
            Self::NotYet | Self::Told => None,
        }
    }

    /// The outcome, once: when its last words have left, or have had `linger_ms` for it.
    pub(crate) fn tell(
        &mut self,
        now: u64,
        outbox: &Outbox,
        link: &impl Link,
        clock: Clock,
        linger_ms: u64,
    ) -> Option<O> {
        let Self::Closing(_, since) = self else { return None };
        if !outbox.is_done(link, clock.passed(*since, now, linger_ms)) {
            return None;
        }
        match core::mem::replace(self, Self::Told) {
            Self::Closing(outcome, _) => Some(outcome),
            Self::NotYet | Self::Told => None,
        }
    }
}
