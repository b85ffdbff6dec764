//! Runs all targets, or those named: `replay [--seconds N] [TARGET...]`.

use std::process::ExitCode;
use std::time::Duration;

use flexvisor_fuzz::{TARGETS, replay};

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let mut seconds = 2;
    if args.first().is_some_and(|a| a == "--seconds") {
        let Some(Ok(n)) = args.get(1).map(|n| n.parse()) else { return usage() };
        seconds = n;
        args.drain(..2);
    }
    if args.iter().any(|a| !TARGETS.iter().any(|(name, _)| name == a)) {
        return usage();
    }
    let mut names: Vec<&str> = args.iter().map(String::as_str).collect();
    if names.is_empty() {
        names = TARGETS.iter().map(|(name, _)| *name).collect();
    }
    replay::run(&names, Duration::from_secs(seconds))
}

fn usage() -> ExitCode {
    eprintln!("usage: fuzz/replay [--seconds N] [TARGET...]; targets:");
    TARGETS.iter().for_each(|(name, _)| eprintln!("  {name}"));
    ExitCode::from(2)
}
