//! A flush that one CPU asks of another.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::words::Eptp;

/// More than one EPT pointer was asked for: no pointer has these bits.
const ALL: u64 = u64::MAX;

/// What is to be flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// One EPT pointer.
    One(Eptp),
    /// All of them.
    All,
}

/// Flushes that were asked of a CPU and that it has done.
#[derive(Debug, Default)]
pub struct FlushRequests {
    /// The pointer to flush; 0 for none.
    eptp: AtomicU64,
    asked: AtomicU32,
    done: AtomicU32,
}

impl FlushRequests {
    /// Asks for a flush of what is cached of `eptp` by now; `None` where the VM exit that it takes to be served is all that
    /// is needed. Then the CPU is kicked. The number of what was asked is for [`FlushRequests::has_done`].
    pub fn ask(&self, eptp: Option<Eptp>) -> u32 {
        let eptp = eptp.map_or(0, |eptp| eptp.0);
        let join = |other| Some(if other == 0 || eptp == 0 || other == eptp { other | eptp } else { ALL });
        let _ = self.eptp.fetch_update(Ordering::AcqRel, Ordering::Acquire, join);
        // After the pointer: who sees the number sees that as well, or somebody has taken it who flushes it.
        self.asked.fetch_add(1, Ordering::AcqRel).wrapping_add(1)
    }

    /// On the CPU that is asked: flushes by `flush`, if there is anything to flush.
    pub fn serve(&self, flush: impl Fn(Wanted)) {
        let asked = self.asked.load(Ordering::Acquire);
        if self.done.load(Ordering::Relaxed) == asked {
            return;
        }
        match self.eptp.swap(0, Ordering::AcqRel) {
            0 => {}
            ALL => flush(Wanted::All),
            eptp => flush(Wanted::One(Eptp(eptp))),
        }
        self.done.store(asked, Ordering::Release);
    }

    /// True once what was asked under that number has been done, whatever was asked since.
    #[must_use]
    pub fn has_done(&self, number: u32) -> bool {
        self.done.load(Ordering::Acquire).wrapping_sub(number).cast_signed() >= 0
    }

    /// True once everything that was asked has been done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire) == self.asked.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::cell::RefCell;

    fn served(requests: &FlushRequests) -> Vec<Wanted> {
        let flushed = RefCell::new(Vec::new());
        requests.serve(|wanted| flushed.borrow_mut().push(wanted));
        flushed.into_inner()
    }

    #[test]
    fn flushes_what_was_asked_for_once() {
        let requests = FlushRequests::default();
        assert!(requests.is_done() && served(&requests).is_empty());
        requests.ask(Some(Eptp(0x1000)));
        requests.ask(Some(Eptp(0x1000)));
        assert!(!requests.is_done());
        assert_eq!(served(&requests), [Wanted::One(Eptp(0x1000))]);
        assert!(requests.is_done() && served(&requests).is_empty());
    }

    /// Who asks again and again holds nobody else up.
    #[test]
    fn each_is_done_by_itself() {
        let requests = FlushRequests {
            asked: AtomicU32::new(u32::MAX),
            done: AtomicU32::new(u32::MAX),
            ..Default::default()
        };
        let first = requests.ask(Some(Eptp(0x1000)));
        assert!(!requests.has_done(first));
        served(&requests);
        let second = requests.ask(Some(Eptp(0x2000)));
        assert!(requests.has_done(first) && !requests.has_done(second) && !requests.is_done());
        served(&requests);
        assert!(requests.has_done(second));
    }

    /// Who has no pointer is answered all the same, and takes nobody else's away.
    #[test]
    fn an_exit_may_be_all_that_is_needed() {
        let requests = FlushRequests::default();
        let number = requests.ask(None);
        assert!(!requests.has_done(number));
        assert!(served(&requests).is_empty() && requests.has_done(number));
        requests.ask(Some(Eptp(0x1000)));
        requests.ask(None);
        assert_eq!(served(&requests), [Wanted::One(Eptp(0x1000))]);
    }

    #[test]
    fn two_pointers_are_all() {
        let requests = FlushRequests::default();
        requests.ask(Some(Eptp(0x1000)));
        requests.ask(Some(Eptp(0x2000)));
        requests.ask(Some(Eptp(0x1000)));
        assert_eq!(served(&requests), [Wanted::All]);
        assert!(requests.is_done());
    }
}
