//! What would follow if hosts came together.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::family;
use crate::member::Member;
use crate::view::{self, LevelView, VmView};

/// What would follow if this host and another, each with the members of its pool, were one pool. Nothing is changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preview {
    /// The pool that the other host is in.
    pub pool: Option<String>,
    /// Why it would be refused.
    pub refused: Option<String>,
    /// The level here as it is.
    pub before: LevelView,
    /// The level that would be.
    pub after: LevelView,
    /// What new VMs of this host would no longer get.
    pub loses: Vec<String>,
    /// Hosts that are not members here yet.
    pub newcomers: Vec<Newcomer>,
    /// VMs that could not go everywhere any more, or cannot already.
    pub pinned: Vec<VmView>,
}

/// A host that would be new.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Newcomer {
    /// Its name.
    pub name: String,
    /// The highest named level that it can give.
    pub generation: &'static str,
    /// What it alone would cost the pool.
    pub costs: String,
}

impl Preview {
    /// Of `ours` and `theirs`. None where there is no member at all.
    pub(crate) fn of(
        ours: &[&Member],
        theirs: &[&Member],
        pool: Option<&str>,
        refused: Option<String>,
    ) -> Option<Self> {
        let new = theirs.iter().filter(|host| ours.iter().all(|known| known.id != host.id));
        let all: Vec<&Member> = ours.iter().chain(new.clone()).copied().collect();
        let (before, after) = (view::meet(ours.iter().copied())?, view::meet(all.iter().copied())?);
        let costs = view::costs(&all, &after);
        let newcomers = all.iter().zip(costs).skip(ours.len()).map(|(host, costs)| Newcomer {
            name: host.name.clone(),
            generation: host.generation(),
            costs,
        });
        let gone = before.guest_features().difference(after.guest_features());
        Some(Self {
            pool: pool.map(ToString::to_string),
            refused,
            before: LevelView::of(&before),
            after: LevelView::of(&after),
            loses: family::names(gone, after.guest_features()),
            newcomers: newcomers.collect(),
            pinned: view::vms(&all).into_iter().filter(VmView::is_pinned).collect(),
        })
    }
}
