//! Relative links of Markdown files: the file is there, and so is the heading.

use anyhow::{Context, Result};
use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use testbench::paths;

pub(super) fn check(files: &[String]) -> Result<Vec<String>> {
    let mut pages = HashMap::new();
    for name in files.iter().filter(|name| name.ends_with(".md")) {
        let text = std::fs::read_to_string(paths::root().join(name));
        pages.insert(name.as_str(), text.with_context(|| format!("cannot read {name}"))?);
    }
    let there: HashSet<&Path> = files.iter().flat_map(|name| Path::new(name).ancestors()).collect();
    let mut found = Vec::new();
    let mut names: Vec<_> = pages.keys().copied().collect();
    names.sort_unstable();
    for page in names {
        for (line, target) in links(&pages[page]) {
            if let Some(why) = dead(page, target, &there, &pages) {
                found.push(format!("{page}:{line}: link to {target}: {why}"));
            }
        }
    }
    Ok(found)
}

/// Why a link leads nowhere, if it does not.
fn dead(
    page: &str,
    target: &str,
    there: &HashSet<&Path>,
    pages: &HashMap<&str, String>,
) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None; // the network's
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = if file.is_empty() {
        PathBuf::from(page)
    } else {
        let Some(path) = resolved(Path::new(page).parent()?, file) else {
            return Some("outside of the tree");
        };
        path
    };
    if !there.contains(path.as_path()) {
        return Some("no such file");
    }
    let headings = pages.get(path.to_str()?).map(|text| anchors(text));
    match (anchor, headings) {
        (Some(anchor), Some(headings)) if !headings.contains(anchor) => Some("no such heading"),
        _ => None,
    }
}

/// A relative path from a folder, without `.` and `..`.
fn resolved(from: &Path, to: &str) -> Option<PathBuf> {
    let mut path = from.to_path_buf();
    for part in Path::new(to.trim_end_matches('/')).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if path.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

/// Lines of a page outside of code blocks, with their numbers from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fence && !fenced && !line.starts_with("    ")
    })
}

/// Targets of a page's links and pictures.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose(text).flat_map(|(number, line)| {
        // What stands between backticks is an example.
        line.split('`').step_by(2).flat_map(move |piece| {
            let inline = piece.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            let reference = piece.starts_with('[').then(|| piece.split_once("]: ")).flatten();
            let targets = inline.map(|(target, _)| target).chain(reference.map(|(_, target)| target));
            targets.filter_map(move |target| Some((number, target.split_whitespace().next()?)))
        })
    })
}

/// Anchors of a page's headings: small letters, blanks as hyphens, other punctuation left out, a second one of the same
/// text numbered.
fn anchors(text: &str) -> HashSet<String> {
    let mut all = HashSet::new();
    for (_, line) in prose(text) {
        let level = line.bytes().take_while(|&byte| byte == b'#').count();
        let Some(heading) = line[level..].strip_prefix(' ').filter(|_| level > 0) else { continue };
        // Of a link in a heading, the text shows.
        let shown: String = heading.split("](").enumerate().fold(String::new(), |shown, (index, piece)| {
            shown + if index == 0 { piece } else { piece.split_once(')').map_or(piece, |(_, rest)| rest) }
        });
        let slug: String = shown
            .trim()
            .chars()
            .filter_map(|c| match c {
                ' ' => Some('-'),
                '-' | '_' => Some(c),
                _ if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
                _ => None,
            })
            .collect();
        let again = (1..).map(|number| format!("{slug}-{number}"));
        if let Some(name) = std::iter::once(slug.clone()).chain(again).find(|name| !all.contains(name)) {
            all.insert(name);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# One `two`: three\n[a](b.md#c) ![d](e/f.svg) `[no](x)`\n```\n[no](y)\n# No\n```\n## Same\n## Same\n";

    #[test]
    fn links_and_headings_are_those_a_reader_sees() {
        assert_eq!(links(PAGE).collect::<Vec<_>>(), [(2, "b.md#c"), (2, "e/f.svg")]);
        let expected = ["one-two-three", "same", "same-1"].map(String::from);
        assert_eq!(anchors(PAGE), HashSet::from(expected));
    }

    #[test]
    fn a_dead_link_is_told_by_its_kind() {
        let there = ["docs", "docs/a.md", "README.md"].into_iter().map(Path::new).collect();
        let pages = HashMap::from([("docs/a.md", PAGE.to_string()), ("README.md", String::new())]);
        let why = |target| dead("docs/a.md", target, &there, &pages);
        for alive in ["../README.md", "#same", "a.md#same-1", "../docs/", "https://example.org/x#y"] {
            assert_eq!(why(alive), None, "{alive}");
        }
        assert_eq!(why("b.md"), Some("no such file"));
        assert_eq!(why("#other"), Some("no such heading"));
        assert_eq!(why("../../x"), Some("outside of the tree"));
    }
}
