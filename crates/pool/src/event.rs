//! What happened, for the log and for whoever acts on it.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddrV4;

use crate::preview::Preview;
use crate::view::LevelView;

/// What became of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is a member now.
    Joined,
    /// It left.
    Left,
    /// An operator had it forgotten.
    Forgotten,
    /// It started anew, or its CPU shows itself otherwise.
    Changed,
}

/// Something that happened. [`fmt::Display`] gives its line for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The set of members changed.
    Members {
        /// Who.
        host: String,
        /// How.
        change: Change,
        /// The level before and after.
        level: Option<(LevelView, LevelView)>,
        /// VMs of this host that cannot go everywhere since, and the hosts that they are pinned to.
        pinned: Vec<(String, String)>,
    },
    /// This host is in a pool now.
    Entered {
        /// The pool's name.
        pool: String,
        /// Its level.
        level: LevelView,
    },
    /// This host is in no pool any more.
    Alone {
        /// The pool's name.
        pool: String,
    },
    /// There is no link to a member; the level counts it all the same.
    Lost(String),
    /// A member that was lost is there again.
    Back(String),
    /// All members have the same records.
    Agreed {
        /// The level.
        level: LevelView,
        /// Members, lost ones included.
        members: usize,
    },
    /// A peer was refused, or refused this host.
    Refused {
        /// Its name or address.
        peer: String,
        /// Why.
        why: String,
    },
    /// Two members have one name.
    Twice(String),
    /// Another machine writes this host's record.
    Impostor,
    /// What was asked for by [`crate::Pool::preview`], or comes before a join.
    Preview(Preview),
    /// An errand is over.
    ErrandDone,
    /// An errand came to nothing, and nothing was changed.
    ErrandFailed {
        /// The host that was asked.
        peer: SocketAddrV4,
        /// Why.
        why: String,
        /// The other host said no.
        refused: bool,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Members { host, change, level, pinned } => {
                f.write_str(host)?;
                f.write_str(match change {
                    Change::Joined => " joined",
                    Change::Left => " left",
                    Change::Forgotten => " was forgotten",
                    Change::Changed => " changed",
                })?;
                match level {
                    Some((was, now)) if was.name != now.name => {
                        write!(f, ": level {now} (was {})", was.name)?;
                    }
                    Some((_, now)) => write!(f, ": level {} as before", now.name)?,
                    None => {}
                }
                pinned.iter().try_for_each(|(vm, to)| write!(f, ", vm {vm} pinned to {to}"))
            }
            Self::Entered { pool, level } => write!(f, "in pool {pool}: level {level}"),
            Self::Alone { pool } => write!(f, "left pool {pool}"),
            Self::Lost(host) => {
                write!(f, "{host} is lost: it still counts for the level until it leaves or is forgotten")
            }
            Self::Back(host) => write!(f, "{host} is back"),
            Self::Agreed { level, members } => {
                write!(f, "{members} members agree: level {}, fingerprint {}", level.name, level.fingerprint)
            }
            Self::Refused { peer, why } => write!(f, "no link with {peer}: {why}"),
            Self::Twice(name) => write!(f, "two members are named {name}: rename one of them"),
            Self::Impostor => f.write_str("another machine has this host's id and name: left"),
            Self::Preview(_) | Self::ErrandDone => f.write_str("answered"),
            Self::ErrandFailed { peer, why, .. } => write!(f, "{peer}: {why}"),
        }
    }
}
