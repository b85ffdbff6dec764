//! The order in which written pages are harvested. The hypervisor calls [`harvest`], so the order that is tested is
//! the order that runs.

/// What notices the writes of a guest.
pub trait WriteTracker {
    /// Moves every CPU's own log of written pages to where [`WriteTracker::rearm`] looks.
    fn drain_logs(&self);
    /// Takes the pages noticed so far, and re-arms them atomically in the tables. Returns their number.
    fn rearm(&self) -> u64;
    /// Drops cached translations on every CPU that ran the guest, and waits until each has acknowledged it.
    fn flush(&self);
}

/// Takes the pages written since the last harvest; afterwards they may be read.
///
/// Re-arm, then flush, and only then read: a CPU that still has the translation of a re-armed page cached writes to
/// it unnoticed. Such a write happens before the flush is acknowledged, so a page that is read afterwards has it.
pub fn harvest(tracker: &impl WriteTracker) -> u64 {
    tracker.drain_logs();
    let count = tracker.rearm();
    tracker.flush();
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::cell::Cell;

    /// One page, one CPU with a translation cache: the CPU logs a write only where it must walk the tables.
    #[derive(Default)]
    struct Model {
        content: Cell<u64>,
        dirty_flag: Cell<bool>,
        /// The CPU has the page's translation cached, with the dirty flag set.
        cached: Cell<bool>,
        log: Cell<bool>,
        noticed: Cell<bool>,
        /// Steps of the other side before which the CPU writes: bit n is step n.
        writes: u32,
        step: Cell<u32>,
    }

    impl Model {
        fn step(&self) {
            if self.writes >> self.step.get() & 1 == 1 {
                self.content.set(self.content.get() + 1);
                if !self.cached.get() {
                    self.log.set(self.log.get() | !self.dirty_flag.get());
                    self.dirty_flag.set(true);
                    self.cached.set(true);
                }
            }
            self.step.set(self.step.get() + 1);
        }
    }

    impl WriteTracker for Model {
        fn drain_logs(&self) {
            self.step();
            self.noticed.set(self.noticed.get() | self.log.replace(false));
        }
        fn rearm(&self) -> u64 {
            self.step();
            let noticed = self.noticed.replace(false);
            if noticed {
                self.dirty_flag.set(false);
            }
            u64::from(noticed)
        }
        fn flush(&self) {
            self.step();
            self.cached.set(false);
        }
    }

    /// Two harvests with a copy after each, the CPU writing before any set of steps. At the end the CPU is stopped and
    /// the rest harvested: the copy must be the page. Returns the schedules for which it is not.
    fn lost(harvest: fn(&Model) -> u64) -> Vec<u32> {
        const STEPS: u32 = 8;
        let mut lost = Vec::new();
        for writes in 0..1 << STEPS {
            let model = Model { writes, ..Model::default() };
            let mut copy = 0;
            for _ in 0..2 {
                if harvest(&model) != 0 {
                    model.step();
                    copy = model.content.get();
                }
            }
            model.step.set(STEPS); // no more writes
            if harvest(&model) != 0 {
                copy = model.content.get();
            }
            if copy != model.content.get() {
                lost.push(writes);
            }
        }
        lost
    }

    #[test]
    fn no_write_is_lost() {
        assert_eq!(lost(harvest), []);
    }

    #[test]
    fn the_model_catches_wrong_orders() {
        let flush_first: fn(&Model) -> u64 = |model| {
            model.drain_logs();
            model.flush();
            model.rearm()
        };
        assert_ne!(lost(flush_first), []);
        let no_flush: fn(&Model) -> u64 = |model| {
            model.drain_logs();
            model.rearm()
        };
        assert_ne!(lost(no_flush), []);
    }
}
