//! Locks that know their place in an order, so that no two CPUs wait for each other.
//!
//! Two CPUs that take two locks in opposite orders stand still for ever, and only if they do it at the same moment: a test
//! sees that once in a thousand runs, or never. So each lock has a [`Rank`], a CPU that holds one takes only such as come
//! after it, and debug builds check that at each lock, whether another CPU is there or not. In a release build the rank is gone
//! and this is a spin lock.

use core::ops::{Deref, DerefMut};

#[cfg(debug_assertions)]
use core::sync::atomic::{AtomicU64, Ordering};

/// A place in the order of locks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rank {
    order: &'static [&'static str],
    place: usize,
}

impl Rank {
    /// The place with that index in an order, which names what each lock keeps, from what is taken first to what is taken last.
    ///
    /// # Panics
    /// Where the order has no such place, or more than 64 of them.
    pub const fn new(order: &'static [&'static str], place: usize) -> Self {
        assert!(place < order.len() && order.len() <= 64, "what a CPU holds are bits of one word");
        Self { order, place }
    }
}

/// A spin lock with a rank.
#[derive(Debug)]
pub struct Mutex<T: ?Sized> {
    #[cfg(debug_assertions)]
    rank: Rank,
    inner: spin::Mutex<T>,
}

/// What a lock keeps, for as long as this lives.
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized> {
    // Dropped in this order: the lock is free before it counts as not held.
    inner: spin::MutexGuard<'a, T>,
    #[cfg(debug_assertions)]
    _held: Held,
}

impl<T> Mutex<T> {
    /// A free lock with this rank.
    pub const fn new(rank: Rank, value: T) -> Self {
        #[cfg(not(debug_assertions))]
        let _ = rank;
        Self {
            #[cfg(debug_assertions)]
            rank,
            inner: spin::Mutex::new(value),
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until the lock is free, and takes it.
    ///
    /// # Panics
    /// In a debug build, where this CPU holds one of the same rank or of a later one.
    #[inline(always)]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(debug_assertions)]
        let held = Held::next(self.rank);
        MutexGuard {
            inner: self.inner.lock(),
            #[cfg(debug_assertions)]
            _held: held,
        }
    }

    /// Takes the lock if it is free. Who does not wait may come in any order.
    #[inline(always)]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let inner = self.inner.try_lock()?;
        Some(MutexGuard {
            inner,
            #[cfg(debug_assertions)]
            _held: Held::any(self.rank),
        })
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// In a debug build, panics where this CPU holds a lock with a rank: `why` it must not.
#[inline(always)]
#[track_caller]
pub fn assert_none_held(why: &str) {
    #[cfg(debug_assertions)]
    if let Some(set) = crate::arch::cpu::held_locks() {
        let places = set.load(Ordering::Relaxed);
        assert!(places == 0, "{why} while locks are held, by their places in the order: {places:#x}");
    }
    #[cfg(not(debug_assertions))]
    let _ = why;
}

/// A lock counts as held: a bit of the word of the CPU that took it. CPUs that have none yet are not checked.
#[cfg(debug_assertions)]
#[derive(Debug)]
struct Held {
    set: Option<&'static AtomicU64>,
    bit: u64,
}

#[cfg(debug_assertions)]
impl Held {
    /// Adds what is taken next in the order.
    #[track_caller]
    fn next(rank: Rank) -> Self {
        let held = Self::any(rank);
        let later = held.set.map_or(0, |set| set.load(Ordering::Relaxed)) >> rank.place >> 1;
        if later != 0 {
            let other = rank.order[rank.place + 1 + later.trailing_zeros() as usize];
            panic!("lock order: `{}` is taken while `{other}` is held", rank.order[rank.place]);
        }
        held
    }

    #[track_caller]
    fn any(rank: Rank) -> Self {
        let (set, bit) = (crate::arch::cpu::held_locks(), 1 << rank.place);
        if let Some(set) = set {
            let before = set.fetch_or(bit, Ordering::Relaxed);
            assert!(before & bit == 0, "lock order: `{}` is taken while one is held", rank.order[rank.place]);
        }
        Self { set, bit }
    }
}

#[cfg(debug_assertions)]
impl Drop for Held {
    fn drop(&mut self) {
        if let Some(set) = self.set {
            set.fetch_and(!self.bit, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &[&str] = &["first", "second", "third"];
    const FIRST: Rank = Rank::new(ORDER, 0);
    const SECOND: Rank = Rank::new(ORDER, 1);
    const THIRD: Rank = Rank::new(ORDER, 2);

    #[test]
    fn locks_are_taken_in_their_order_and_let_go_in_any() {
        let (first, second, third) = (Mutex::new(FIRST, 1), Mutex::new(SECOND, 2), Mutex::new(THIRD, 3));
        let held = first.lock();
        let other = third.lock();
        drop(held);
        assert_eq!(*other, 3);
        drop(other);
        *second.lock() += 1;
        assert_eq!((*first.lock(), *second.lock()), (1, 3));
        assert_none_held("nothing is");
    }

    #[test]
    #[should_panic(expected = "`second` is taken while `third` is held")]
    fn an_earlier_one_is_not_taken_after_a_later_one() {
        let (second, third) = (Mutex::new(SECOND, ()), Mutex::new(THIRD, ()));
        let _held = third.lock();
        drop(second.lock());
    }

    #[test]
    #[should_panic(expected = "`second` is taken while one is held")]
    fn two_of_a_rank_are_not_held_at_once() {
        let (one, other) = (Mutex::new(SECOND, ()), Mutex::new(SECOND, ()));
        let _held = one.lock();
        drop(other.lock());
    }

    /// What cannot be had at once is not waited for, so that no order is needed.
    #[test]
    fn who_does_not_wait_may_come_in_any_order() {
        let (second, third) = (Mutex::new(SECOND, ()), Mutex::new(THIRD, ()));
        let held = third.lock();
        assert!(second.try_lock().is_some() && third.try_lock().is_none());
        drop(held);
        assert!(third.try_lock().is_some());
    }

    #[test]
    #[should_panic(expected = "an interrupt is taken while locks are held")]
    fn what_needs_all_of_them_free_says_so() {
        let lock = Mutex::new(SECOND, ());
        let _held = lock.lock();
        assert_none_held("an interrupt is taken");
    }
}
