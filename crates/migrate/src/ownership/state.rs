//! The states of a VM on one host, and the ways between them.

use core::fmt;

/// What a VM is on this host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum State {
    /// Owned here: made and never run, or stopped by `vm pause`.
    Paused,
    /// Owned here: its vCPUs are scheduled. The only state in which a vCPU is entered.
    Running,
    /// Owned here: over.
    Stopped,
    /// Owned here: it stands still for its migration, which alone lets it run again.
    Leaving,
    /// Handed to the target: it runs there, or is about to.
    Given,
    /// A migration left it: the other host may run it.
    Unknown,
    /// It comes from another host: nothing but the migration may touch it.
    Incoming,
    /// Owned here: it is being put back to where it booted.
    Resetting,
    /// Owned here: it is being destroyed, and nothing leads out of that.
    Ending,
}

/// What happens to a VM.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// The operator lets it run.
    Run,
    /// The operator pauses it.
    Pause,
    /// The guest ended by itself.
    End,
    /// It is to be put back to where it booted.
    Reset,
    /// It is back there.
    Anew,
    /// It could not be put back there.
    Fail,
    /// It is to be no more.
    Destroy,
    /// A migration from here stops it for the last round.
    Still,
    /// The migration is over, and it is this host's again.
    Back,
    /// COMMIT is about to be queued.
    GiveUp,
    /// The connection was lost when it mattered.
    Doubt,
    /// It is made for a migration to here.
    Arrive,
    /// The source gave it to this host.
    Take,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Run,
        Self::Pause,
        Self::End,
        Self::Reset,
        Self::Anew,
        Self::Fail,
        Self::Destroy,
        Self::Still,
        Self::Back,
        Self::GiveUp,
        Self::Doubt,
        Self::Arrive,
        Self::Take,
    ];
}

impl State {
    /// All of them; the place is the number in memory.
    pub const ALL: [Self; 9] = [
        Self::Paused,
        Self::Running,
        Self::Stopped,
        Self::Leaving,
        Self::Given,
        Self::Unknown,
        Self::Incoming,
        Self::Resetting,
        Self::Ending,
    ];

    /// As the console shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Leaving => "leaving",
            Self::Given => "given",
            Self::Unknown => "unknown",
            Self::Incoming => "incoming",
            Self::Resetting => "resetting",
            Self::Ending => "ending",
        }
    }

    /// Whether a vCPU may be entered.
    #[must_use]
    pub const fn may_run(self) -> bool {
        matches!(self, Self::Running)
    }

    /// Whether this host, and no other, has the VM.
    #[must_use]
    pub const fn is_owned(self) -> bool {
        matches!(
            self,
            Self::Paused | Self::Running | Self::Stopped | Self::Leaving | Self::Resetting | Self::Ending
        )
    }

    /// The state after a change; none where the change does not fit.
    #[must_use]
    pub const fn step(self, change: Change) -> Option<Self> {
        match (self, change) {
            (Self::Paused, Change::Run) => Some(Self::Running),
            (Self::Running, Change::Pause) => Some(Self::Paused),
            // A vCPU that was just told to stop may still end the guest.
            (Self::Running | Self::Paused | Self::Leaving, Change::End) => Some(Self::Stopped),
            // The guest that is thrown away may still end by itself: that counts for nothing.
            (Self::Resetting | Self::Ending, Change::End) => Some(self),
            (Self::Running | Self::Paused | Self::Stopped, Change::Reset) => Some(Self::Resetting),
            (Self::Resetting, Change::Anew) => Some(Self::Paused),
            (Self::Resetting, Change::Fail) => Some(Self::Stopped),
            (Self::Running | Self::Paused | Self::Stopped | Self::Resetting, Change::Destroy) => {
                Some(Self::Ending)
            }
            (Self::Running, Change::Still) => Some(Self::Leaving),
            (Self::Leaving | Self::Given | Self::Unknown, Change::Back) => Some(Self::Running),
            (Self::Leaving, Change::GiveUp) => Some(Self::Given),
            (Self::Given | Self::Incoming, Change::Doubt) => Some(Self::Unknown),
            (Self::Paused, Change::Arrive) => Some(Self::Incoming),
            (Self::Incoming | Self::Unknown, Change::Take) => Some(Self::Running),
            _ => None,
        }
    }

    pub(super) const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Paused,
            1 => Self::Running,
            2 => Self::Stopped,
            3 => Self::Leaving,
            4 => Self::Given,
            6 => Self::Incoming,
            7 => Self::Resetting,
            8 => Self::Ending,
            // What runs nowhere by itself.
            _ => Self::Unknown,
        }
    }
}

/// A change that does not fit the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Misfit {
    /// The state, which stays.
    pub state: State,
    /// The change.
    pub change: Change,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wants = match self.change {
            Change::Run => "not paused",
            Change::Pause | Change::Still => "not running",
            Change::End => "not on a CPU",
            Change::Reset => "not this host's to reset",
            Change::Anew | Change::Fail => "not being reset",
            Change::Destroy => "not this host's to destroy",
            Change::Back => "not in a migration",
            Change::GiveUp => "not stopped for its migration",
            Change::Doubt => "not handed over",
            Change::Arrive => "not new",
            Change::Take => "not waiting for its source",
        };
        write!(f, "{}, {wants}", self.state.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places() {
        for (number, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
            assert_eq!(State::from_number(number as u8), state);
        }
    }

    /// What the operator, a timer or the guest can do never leads out of a hand-over.
    #[test]
    fn only_the_migration_leads_out_of_a_hand_over() {
        use Change::{Arrive, Destroy, End, Pause, Reset, Run, Still};
        for state in [State::Leaving, State::Given, State::Unknown, State::Incoming] {
            for change in [Run, Pause, Reset, Destroy, Still, Arrive] {
                assert_eq!(state.step(change), None, "{state:?} {change:?}");
            }
        }
        assert_eq!(State::Given.step(End), None, "every vCPU is off by then");
        for state in State::ALL {
            let runs: std::vec::Vec<_> =
                Change::ALL.into_iter().filter(|c| state.step(*c) == Some(State::Running)).collect();
            let wants: &[Change] = match state {
                State::Paused => &[Run],
                State::Leaving | State::Given => &[Change::Back],
                State::Unknown => &[Change::Back, Change::Take],
                State::Incoming => &[Change::Take],
                State::Running | State::Stopped | State::Resetting | State::Ending => &[],
            };
            assert_eq!(runs, wants, "{state:?}");
        }
    }

    /// While a VM is put back to where it booted, its guest has no say in it, and an operator can only destroy it.
    #[test]
    fn a_reset_ends_by_itself_or_by_the_end_of_the_vm() {
        let ways = |state: State| {
            let step = |change: Change| Some((change, state.step(change).filter(|next| *next != state)?));
            Change::ALL.into_iter().filter_map(step).collect::<std::vec::Vec<_>>()
        };
        let out =
            [(Change::Anew, State::Paused), (Change::Fail, State::Stopped), (Change::Destroy, State::Ending)];
        assert_eq!(ways(State::Resetting), out);
        assert_eq!(ways(State::Ending), []);
        for state in [State::Resetting, State::Ending] {
            assert_eq!(state.step(Change::End), Some(state), "it ends by itself in that moment");
            assert!(state.is_owned() && !state.may_run());
        }
    }
}
