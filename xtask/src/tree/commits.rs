//! The form of commits: rule C1 of CONTRIBUTING.md.

use anyhow::Result;

/// The rule is checked of what came after this commit.
const SINCE: &str = "75a9c66";
/// Columns of a subject.
const COLUMNS: usize = 72;

pub(super) fn check() -> Result<Vec<String>> {
    if super::git(&["rev-parse", "--verify", "--quiet", &format!("{SINCE}^{{commit}}")]).is_err() {
        println!("no history back to {SINCE} here: commits are not looked at");
        return Ok(Vec::new());
    }
    let log = super::git(&["log", "--no-merges", "--format=%h%n%B%x00", &format!("{SINCE}..HEAD")])?;
    let commits = log.split('\0').filter_map(|commit| commit.trim_start().split_once('\n'));
    Ok(commits
        .filter_map(|(hash, message)| fault(message).map(|what| format!("commit {hash}: {what}")))
        .collect())
}

/// What is wrong with a message.
fn fault(message: &str) -> Option<String> {
    let (subject, body) = message.trim_end().split_once('\n').unwrap_or((message.trim_end(), ""));
    let columns = subject.chars().count();
    if columns > COLUMNS {
        Some(format!("the subject has {columns} columns, {COLUMNS} at most: {subject}"))
    } else if subject.contains(';') {
        Some(format!("the subject joins two topics: {subject}"))
    } else if body.trim().is_empty() {
        Some(format!("no body says why and how it was tested: {subject}"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_and_body_have_their_form() {
        assert_eq!(fault("net: Answer ARP\n\nWhy.\n"), None);
        let wrong = |message: &str| fault(message).unwrap_or_default();
        assert!(wrong("net: Answer ARP\n").starts_with("no body"));
        assert!(wrong("net: Answer ARP; docs: Say so\n\nWhy.").starts_with("the subject joins"));
        assert!(wrong(&format!("net: {}\n\nWhy.", "x".repeat(68))).starts_with("the subject has 73 columns"));
    }
}
