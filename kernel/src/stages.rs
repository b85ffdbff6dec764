//! What each stage of the start took.

use alloc::vec::Vec;
use core::fmt;

use crate::lock::{self, Mutex};
use hw::arch::tsc;

/// Stages that are over, with the microseconds since the loader's first instruction.
static STAGES: Mutex<Vec<(&'static str, u64)>> = Mutex::new(lock::STAGES, Vec::new());

/// A stage is over.
pub(crate) fn done(name: &'static str) {
    STAGES.lock().push((name, tsc::micros()));
}

/// Each stage with the microseconds that it took, in their order.
pub(crate) fn all() -> Vec<(&'static str, u64)> {
    let mut before = 0;
    let took = |&(name, end): &(&'static str, u64)| {
        let took = end.saturating_sub(before);
        before = end;
        (name, took)
    };
    STAGES.lock().iter().map(took).collect()
}

/// `ready in 812.4 ms: clock 31.2, boot 2.0, ...`
pub(crate) struct Summary(pub(crate) Vec<(&'static str, u64)>);

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(stages) = self;
        let total: u64 = stages.iter().map(|(_, took)| took).sum();
        write!(f, "ready in {}", Millis(total))?;
        for (at, (name, took)) in stages.iter().enumerate() {
            write!(f, "{}{name} {}", if at == 0 { " ms: " } else { ", " }, Millis(*took))?;
        }
        Ok(())
    }
}

/// Microseconds, shown as milliseconds with one digit behind the point.
pub(crate) struct Millis(pub(crate) u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 / 100 % 10)
    }
}
