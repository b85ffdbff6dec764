//! Asking a host what became of a hand-over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use migrate::handover::{Answer, Deal, Question, Word};
use migrate::{Tuning, body::Fate};
use secure_link::Security;

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
    let mut link = Link::dial(to, security, bar.clone())?;
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
