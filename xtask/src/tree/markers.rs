//! Conflict markers that a merge left.

use anyhow::{Context, Result};
use testbench::paths;

pub(super) fn check(files: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in files {
        // A symbolic link may point out of the tree.
        let path = paths::root().join(name);
        if path.is_symlink() {
            continue;
        }
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {name}"))?;
        found.extend(lines(&bytes).map(|line| format!("{name}:{line}: a conflict marker")));
    }
    Ok(found)
}

/// Numbers of the lines, from 1, that begin or end one side of a conflict. The line between the sides is left out: it is
/// a heading's underline in Markdown as well.
fn lines(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let is_marker = |line: &[u8]| {
        line.split_at_checked(8).is_some_and(|(head, _)| {
            head[7] == b' ' && b"<>|".contains(&head[0]) && head[..7].iter().all(|&byte| byte == head[0])
        })
    };
    bytes.split(|&byte| byte == b'\n').zip(1..).filter(move |(line, _)| is_marker(line)).map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_conflict_are_found_and_headings_are_not() {
        let (ours, theirs) = ("<".repeat(7), ">".repeat(7));
        let text = format!("a\n{ours} HEAD\nb\n=======\nc\n{theirs} 12ab\n{ours}\n x {theirs} y\n");
        assert_eq!(lines(text.as_bytes()).collect::<Vec<_>>(), [2, 6]);
    }
}
