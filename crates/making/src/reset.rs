//! A VM on its way back to where it booted.

use alloc::string::String;
use core::task::Poll;

use crate::patience::Patience;
use crate::{CLEARED, COPIED};

/// The VM that is reset: its state lets no vCPU run. Each call is one step.
pub trait Subject {
    /// Whether it is still to be reset: nobody destroys it.
    fn is_wanted(&self) -> bool;

    /// A CPU that has not let go of it, if there is one. What this CPU has of it is taken off.
    fn holder(&mut self) -> Option<usize>;

    /// Ends what watches it, dirty tracking and audit, a bounded part of that at a time.
    fn unwatch(&mut self) -> Poll<()>;

    /// Clears up to `most` bytes of its memory. True while some is left.
    fn clear(&mut self, most: u64) -> bool;

    /// Makes board and vCPUs as they are at the start.
    ///
    /// # Errors
    /// What the host cannot give.
    fn renew(&mut self) -> Result<(), String>;

    /// Lays kernel and modules out, and writes what is made up for them.
    ///
    /// # Errors
    /// Why the kernel cannot be loaded.
    fn load(&mut self) -> Result<(), String>;

    /// Copies up to `most` bytes of the files. True while some are left.
    ///
    /// # Errors
    /// They do not fit.
    fn copy(&mut self, most: usize) -> Result<bool, String>;

    /// Has every CPU drop what it has cached of the guest that was; `Ready` once each has.
    fn flush(&mut self) -> Poll<()>;
}

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// It may run.
    Anew,
    /// It is destroyed.
    Gone,
    /// It cannot boot, and this is why: nothing of what it was is left.
    Failed(String),
}

/// What came of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// There is more to do.
    Working,
    /// Others have something to do first.
    Waiting,
    /// This CPU has not let go of it for so long that whoever waits is to be told, once.
    Late(usize),
    /// It is over.
    Over(End),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Stop,
    Unwatch,
    Clear,
    Renew,
    Load,
    Copy,
    Flush,
}

/// The reset.
#[derive(Debug)]
pub struct Reset {
    stage: Stage,
    patience: Patience,
}

impl Reset {
    /// Begins now, in microseconds.
    #[must_use]
    pub const fn new(now: u64) -> Self {
        Self { stage: Stage::Stop, patience: Patience::new(now) }
    }

    /// Does one step, or sees that it cannot.
    pub fn step<S: Subject>(&mut self, now: u64, vm: &mut S) -> Turn {
        if !vm.is_wanted() {
            return Turn::Over(End::Gone);
        }
        match self.try_step(now, vm) {
            Ok(turn) => turn,
            Err(why) => Turn::Over(End::Failed(why)),
        }
    }

    fn try_step<S: Subject>(&mut self, now: u64, vm: &mut S) -> Result<Turn, String> {
        self.stage = match self.stage {
            Stage::Stop => match vm.holder() {
                Some(cpu) if self.patience.ends(now) => return Ok(Turn::Late(cpu)),
                Some(_) => return Ok(Turn::Waiting),
                None => Stage::Unwatch,
            },
            Stage::Unwatch if vm.unwatch().is_pending() => Stage::Unwatch,
            Stage::Unwatch => Stage::Clear,
            Stage::Clear if vm.clear(CLEARED) => Stage::Clear,
            Stage::Clear => Stage::Renew,
            Stage::Renew => {
                vm.renew()?;
                Stage::Load
            }
            Stage::Load => {
                vm.load()?;
                Stage::Copy
            }
            Stage::Copy if vm.copy(COPIED)? => Stage::Copy,
            Stage::Copy => Stage::Flush,
            Stage::Flush if vm.flush().is_pending() => return Ok(Turn::Waiting),
            Stage::Flush => return Ok(Turn::Over(End::Anew)),
        };
        Ok(Turn::Working)
    }
}
