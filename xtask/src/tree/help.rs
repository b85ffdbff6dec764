//! Scripts that a person runs say what they are for.

use anyhow::{Context, Result};
use std::process::{Command, Stdio};
use testbench::paths;

/// Those outside `scripts/`.
const ELSEWHERE: [&str; 2] = ["fuzz/replay", "tests/guests/build"];

pub(super) fn check() -> Result<Vec<String>> {
    let mut scripts: Vec<String> = Vec::new();
    for line in super::git(&["ls-files", "--stage", "scripts"])?.lines() {
        if let (true, Some((_, name))) = (line.starts_with("100755"), line.split_once('\t')) {
            scripts.push(name.into());
        }
    }
    scripts.extend(ELSEWHERE.map(String::from));
    let mut found = Vec::new();
    for script in scripts {
        let mut command = Command::new(paths::root().join(&script));
        let output = command.arg("--help").stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot start {script}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            found.push(format!("{script} --help: ends with {}", output.status));
        } else if !is_of(&script, &text) {
            found.push(format!("{script} --help: has no `usage: {script}`"));
        }
    }
    Ok(found)
}

/// Whether a help text is this script's own, and not that of a program it calls.
fn is_of(script: &str, help: &str) -> bool {
    help.to_ascii_lowercase().contains(&format!("usage: {script}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_of_another_program_does_not_count() {
        assert!(is_of("scripts/run", "Boots a host\n\nUsage: scripts/run [OPTIONS]\n"));
        assert!(!is_of("scripts/build", "Usage: cargo build [OPTIONS]\n"));
    }
}
