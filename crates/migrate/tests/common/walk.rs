//! Goes through all states of a machine that is small enough for that.

use std::collections::HashSet;
use std::hash::Hash;

/// Shows `look` each state that can follow from `first`, once. It says what is wrong with a state, or adds those that may be
/// next. How many there are.
///
/// # Errors
/// What is wrong, and the first state in which it is.
pub(crate) fn walk<W: Copy + Eq + Hash>(
    first: W,
    mut look: impl FnMut(&W, &mut Vec<W>) -> Option<&'static str>,
) -> Result<usize, (&'static str, W)> {
    let mut seen = HashSet::from([first]);
    let mut todo = vec![first];
    let mut out = Vec::new();
    while let Some(world) = todo.pop() {
        if let Some(why) = look(&world, &mut out) {
            return Err((why, world));
        }
        todo.extend(out.drain(..).filter(|next| seen.insert(*next)));
    }
    Ok(seen.len())
}
