//! Circles: modules, or crates, that refer to each other, however long the way round.

use std::collections::{BTreeMap, BTreeSet};

/// Who refers to whom.
pub(super) type Graph = BTreeMap<String, BTreeSet<String>>;

/// The circles, each with the names in it, in order.
pub(super) fn circles(graph: &Graph) -> BTreeSet<Vec<String>> {
    let reach = graph.keys().map(|from| (from, reachable(graph, from))).collect::<BTreeMap<_, _>>();
    let mut found = BTreeSet::new();
    for (from, there) in &reach {
        let back = |to: &&String| reach.get(to).is_some_and(|from_there| from_there.contains(*from));
        let together: BTreeSet<&String> = there.iter().copied().filter(back).collect();
        if together.len() > 1 {
            found.insert(together.into_iter().cloned().collect());
        }
    }
    found
}

fn reachable<'a>(graph: &'a Graph, from: &'a str) -> BTreeSet<&'a String> {
    let mut seen = BTreeSet::new();
    let mut left = vec![from];
    while let Some(at) = left.pop() {
        for to in graph.get(at).into_iter().flatten() {
            if seen.insert(to) {
                left.push(to);
            }
        }
    }
    seen
}

/// The references of modules as those of siblings: of each pair, the two ancestors that stand beside each other. Between
/// a module and one inside it there is nothing to tell. By the path of the module that the siblings are in.
pub(super) fn siblings<'a>(
    references: impl IntoIterator<Item = (&'a [String], &'a [String])>,
) -> BTreeMap<String, Graph> {
    let mut all: BTreeMap<String, Graph> = BTreeMap::new();
    for (from, to) in references {
        let same = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        if let (Some(a), Some(b)) = (from.get(same), to.get(same)) {
            let graph = all.entry(from[..same].join("::")).or_default();
            graph.entry(a.clone()).or_default().insert(b.clone());
            graph.entry(b.clone()).or_default();
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split("::").map(String::from).collect()
    }

    #[test]
    fn a_circle_of_siblings_is_found_below_them_and_parents_are_left_alone() {
        let pairs = [
            ("a::x", "b"),
            ("b::y", "c"),
            ("c", "a::z"),
            ("a::x", "a"),
            ("a", "a::x"),
            ("d", "a"),
            ("a::x", "a::z"),
        ]
        .map(|(from, to)| (path(from), path(to)));
        let all = siblings(pairs.iter().map(|(from, to)| (from.as_slice(), to.as_slice())));
        assert_eq!(circles(&all[""]), BTreeSet::from([["a", "b", "c"].map(String::from).to_vec()]));
        assert_eq!(circles(&all["a"]), BTreeSet::new());
    }
}
