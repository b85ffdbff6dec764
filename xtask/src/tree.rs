//! `tree`: what holds for the repository as a whole and no compiler checks: no conflict markers, no dead links, imports
//! that go downward, scripts that answer `--help`, commits in the form of rule C1.

mod commits;
mod help;
mod layers;
mod links;
mod markers;

use anyhow::{Context, Result, ensure};
use std::process::Command;
use testbench::paths;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the layers, as ARCHITECTURE.md shows them, and what climbs all the same.
    #[arg(long)]
    layers: bool,
}

pub(crate) fn main(args: &Args) -> Result<u8> {
    if args.layers {
        layers::print();
        return Ok(0);
    }
    let files = tracked()?;
    let mut found = markers::check(&files)?;
    found.extend(links::check(&files)?);
    found.extend(layers::check(&files)?);
    found.extend(help::check()?);
    found.extend(commits::check()?);
    for fault in &found {
        eprintln!("error: {fault}");
    }
    println!("{} files looked at, {} faults", files.len(), found.len());
    Ok(u8::from(!found.is_empty()))
}

/// Names of all files that git tracks, relative to the root.
fn tracked() -> Result<Vec<String>> {
    Ok(git(&["ls-files", "-z"])?.split('\0').filter(|name| !name.is_empty()).map(String::from).collect())
}

/// What git prints, run in the root.
fn git(arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").args(arguments).current_dir(paths::root()).output();
    let output = output.context("cannot start git")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {}: {}", arguments.join(" "), error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
