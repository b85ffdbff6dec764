//! How far a change of all tables is.

use crate::words::{Asked, Change};

/// Where a change is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Forgets pages noticed, from this one on.
    Forget(u64),
    /// Forgets backlog.
    ForgetBacklog(u64),
    /// Brings regions from this one on into shape.
    Walk(u64),
    /// Begins a harvest: CPUs are asked for their logs.
    Drain,
    /// Harvests pages noticed, from this one on.
    Logged(u64),
    /// Harvests dirty flags, from this region on.
    Flags(u64),
    /// Waits for what CPUs were asked for.
    Wait(Asked),
    /// Gives tables back.
    Free,
}

/// A change under way.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) change: Change,
    pub(crate) stage: Stage,
    /// Its figure so far.
    pub(crate) count: u64,
    /// It failed and is being undone.
    pub(crate) failed: bool,
}
