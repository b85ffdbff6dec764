//! The transcripts of docs/flexctl.md and docs/which-level.md are what the program prints.

use std::path::Path;
use std::process::Command;

/// Commands and what is shown below each; a line `...` stands for any lines.
fn transcripts(page: &str) -> Vec<(String, Vec<String>)> {
    let mut out: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ flexctl ").filter(|_| inside) {
            out.push((command.into(), Vec::new()));
        } else if let Some((_, shown)) = out.last_mut().filter(|_| inside) {
            shown.push(line.into());
        }
    }
    out
}

#[test]
fn transcripts_are_true() {
    check("flexctl.md", "dumps", 8);
}

#[test]
fn the_five_fleets_are_judged_so() {
    check("which-level.md", "real", 5);
}

/// Compares the transcripts of a page, `least` of them or more, with what is printed in a folder of dumps.
fn check(page: &str, folder: &str, least: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs").join(page)).unwrap();
    let all = transcripts(&page);
    assert!(all.len() >= least, "{} transcripts", all.len());
    for (command, shown) in all {
        let mut run = Command::new(env!("CARGO_BIN_EXE_flexctl"));
        run.current_dir(root.join("crates/cpu-policy/tests").join(folder)).args(command.split_whitespace());
        let output = run.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let mut rest = printed.lines();
        let mut skip = false;
        for line in shown {
            if line == "..." {
                skip = true;
            } else if skip {
                assert!(rest.any(|printed| printed == line), "{command}: no line {line:?} in\n{printed}");
                skip = false;
            } else {
                assert_eq!(rest.next(), Some(line.as_str()), "{command}:\n{printed}");
            }
        }
        assert!(skip || rest.next().is_none(), "{command}: more than is shown:\n{printed}");
    }
}
