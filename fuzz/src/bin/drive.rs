//! Counted runs: `drive [--executions N] [--seed S] TARGET...`. The same seed runs the same inputs.

use std::process::ExitCode;

use flexvisor_fuzz::{TARGETS, replay};

fn main() -> ExitCode {
    let (mut executions, mut seed, mut names) = (1_000_000, 1, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let number = match arg.as_str() {
            "--executions" => &mut executions,
            "--seed" => &mut seed,
            name if TARGETS.iter().any(|(known, _)| *known == name) => {
                names.push(arg);
                continue;
            }
            _ => return usage(),
        };
        let Some(value) = args.next().and_then(|value| value.parse().ok()) else { return usage() };
        *number = value;
    }
    if names.is_empty() {
        return usage();
    }
    let passed = names.iter().filter(|name| replay::drive(name, executions, seed)).count();
    if passed == names.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("usage: drive [--executions N] [--seed S] TARGET...; targets:");
    TARGETS.iter().for_each(|(name, _)| eprintln!("  {name}"));
    ExitCode::from(2)
}
