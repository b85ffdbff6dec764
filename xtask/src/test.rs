//! `test`: the crates' own tests, then the cases that need emulators.

use crate::tools;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Instant;
use testbench::suite::{self, Totals};
use testbench::{guest, paths};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run the slow cases too.
    #[arg(long)]
    all: bool,
    /// Run a whole matrix: `boot`, each way by which a machine can come to Flexvisor; `levels`, each host model at each CPU
    /// level it can give; `pairs`, each two host models and a guest that goes there and back; `linux`, Debian's kernel at
    /// each level; `smp`, Debian's kernel with 2, 4 and 8 vCPUs on hosts with 1, 2 and 4 CPUs. TEXT chooses cells.
    #[arg(long, value_name = "NAME", value_parser = ["boot", "levels", "pairs", "linux", "smp"])]
    matrix: Option<String>,
    /// Go on with the matrix: leave out cells that have passed with the same image, bench and guests already.
    #[arg(long, requires = "matrix")]
    resume: bool,
    /// Everything that can go wrong while a guest moves: all of the simulated hosts and networks, then a fault in each
    /// phase of a migration between emulated hosts, and a hundred moves in a row.
    #[arg(long, conflicts_with_all = ["all", "matrix", "soak"])]
    faults: bool,
    /// Debian Linux under load, moved back and forth N times (100).
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "100", conflicts_with_all = ["all", "matrix"])]
    soak: Option<usize>,
    /// Only cases whose name contains this text; leaves the crates' own tests out.
    #[arg(value_name = "TEXT")]
    only: Option<String>,
    /// Leave out the crates' own tests and the fuzz targets.
    #[arg(long)]
    cases: bool,
    /// Build the host by the profile that takes seconds, for work on the kernel: a larger and slower image.
    #[arg(long, requires = "only")]
    fast: bool,
    /// How many processors to keep busy.
    #[arg(long)]
    jobs: Option<usize>,
    /// Name the cases and end.
    #[arg(long)]
    list: bool,
}

pub(crate) fn main(args: &Args) -> Result<u8> {
    let chosen = |name: &str| args.only.as_deref().is_none_or(|text| name.contains(text));
    if let Some(moves) = args.soak {
        suite::soak::MOVES.store(moves, Ordering::Relaxed);
    }
    let area = match (&args.matrix, args.faults, args.soak) {
        (Some(name), ..) => Some(format!("matrix-{name}")),
        (None, true, _) => Some("faults".to_string()),
        (None, false, Some(_)) => Some("soak".to_string()),
        (None, false, None) => None,
    };
    let named = |case: &suite::Case| args.only.as_deref().is_some_and(|text| text.contains(case.area()));
    let wanted = |case: &suite::Case| match &area {
        Some(_) if case.matrix.is_some() && case.matrix == args.matrix.as_deref() => chosen(&case.name),
        Some(area) => case.area() == area && chosen(&case.name),
        None if case.apart => chosen(&case.name) && named(case),
        None => chosen(&case.name) && (args.all || args.only.is_some() || !case.slow),
    };
    let cases: Vec<_> = suite::cases().into_iter().filter(wanted).collect();
    if args.list {
        for case in &cases {
            let when = if case.apart {
                " (apart)"
            } else if case.slow {
                " (slow)"
            } else {
                ""
            };
            println!("{}{when}", case.name);
        }
        return Ok(0);
    }
    let started = Instant::now();
    let mut totals = match (&args.only, &area) {
        (None, None) if !args.cases => {
            let mut totals = crate_tests(&[], &[])?;
            // A workspace of its own, in the profile that the targets are built in anyway.
            totals.add(crate_tests(&["--manifest-path", "fuzz/Cargo.toml", "--release"], &[])?);
            totals.add(fuzz_smoke()?);
            totals
        }
        // Everything that the simulated hosts can meet, and what it came to.
        (None, Some(_)) if args.faults => {
            let tests = ["simulation", "faults", "operator", "exploration"].map(|name| ["--test", name]);
            let which = [&["--package", "migrate"], tests.as_flattened(), &["--", "--nocapture"]].concat();
            crate_tests(&which, &[("FLEXVISOR_FAULTS", "1")])?
        }
        _ => Totals::default(),
    };
    if !cases.is_empty() {
        tools::build_as(args.fast)?;
        guest::debian()?;
        let logs = logs_of_this_run()?;
        let jobs =
            args.jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(2);
        let order: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
        let journal = args.matrix.as_deref().map(journal).transpose()?;
        let before = |case: &suite::Case| journal.as_ref().filter(|_| args.resume)?.outcome(&case.name);
        let mut outcomes: Vec<_> = cases.iter().filter_map(before).collect();
        let left: Vec<_> = cases.into_iter().filter(|case| before(case).is_none()).collect();
        println!("{} cases, {jobs} at a time, logs in {}", left.len(), logs.display());
        for outcome in &outcomes {
            println!("ok      {} ({:.1} s, before)", outcome.name, outcome.time.as_secs_f64());
        }
        outcomes.extend(suite::run(left, jobs, &logs, |outcome| {
            if let Some(Err(error)) = journal.as_ref().map(|journal| journal.note(outcome)) {
                eprintln!("{error:#}");
            }
        }));
        if let Some(name) = &args.matrix {
            let time: f64 = outcomes.iter().map(|outcome| outcome.time.as_secs_f64()).sum();
            println!("matrix {name}: {} of {} cells, {time:.0} s of cells", outcomes.len(), order.len());
        }
        if args.matrix.as_deref() == Some("boot") {
            table(&order, &outcomes);
        }
        totals.add(Totals::of(&outcomes));
    }
    println!("{:.0} s in all", started.elapsed().as_secs_f64());
    println!("{} passed, {} failed", totals.passed, totals.failed);
    Ok(u8::from(totals.failed > 0 || totals.passed == 0))
}

/// Which cells of the matrix have passed before with what is built now.
fn journal(matrix: &str) -> Result<suite::Journal> {
    guest::build_payloads()?;
    let mut about = vec![paths::hypervisor(), std::env::current_exe()?];
    for folder in ["guest", "guests"].map(|name| paths::build().join(name)) {
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot read {}", folder.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.is_file()))
            .collect();
        files.sort();
        about.append(&mut files);
    }
    suite::Journal::open(&paths::build().join("matrix").join(matrix), &about)
}

/// The matrix as it came out, in the order of its definition.
fn table(order: &[String], outcomes: &[suite::Outcome]) {
    println!("\n{:<22} {:<7} {:>7}  said by the host", "way", "result", "time");
    for outcome in order.iter().filter_map(|name| outcomes.iter().find(|outcome| outcome.name == *name)) {
        let name = outcome.name.trim_start_matches("boot/");
        let result = if outcome.passed { "ok" } else { "FAILED" };
        println!("{name:<22} {result:<7} {:>5.1} s  {}", outcome.time.as_secs_f64(), outcome.note);
    }
    println!();
}

/// A folder of this run's own; those of runs that are over go.
fn logs_of_this_run() -> Result<PathBuf> {
    let all = paths::build().join("logs/test");
    std::fs::create_dir_all(&all)?;
    for entry in std::fs::read_dir(&all)?.flatten() {
        if !Path::new("/proc").join(entry.file_name()).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    paths::fresh_dir(&all.join(std::process::id().to_string()))
}

/// Runs `cargo test` and counts from its closing lines; a target that does not build counts as one failure.
fn crate_tests(which: &[&str], environment: &[(&str, &str)]) -> Result<Totals> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    eprintln!("+ cargo test --no-fail-fast {}", which.join(" "));
    let mut child = Command::new(cargo)
        .args(["test", "--quiet", "--no-fail-fast"])
        .args(which)
        .envs(environment.iter().copied())
        .current_dir(paths::root())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo's output")?;
    let mut totals = Totals::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some((passed, failed)) = counts(&line) {
            totals.passed += passed;
            totals.failed += failed;
        }
        if !line.is_empty()
            && !line.starts_with("running 0")
            && !line.starts_with("test result: ok. 0 passed")
        {
            println!("{line}");
        }
    }
    if !child.wait()?.success() && totals.failed == 0 {
        totals.failed = 1;
    }
    Ok(totals)
}

/// Runs every fuzz target over its seeds and a second's worth of mutations; each counts as a test.
fn fuzz_smoke() -> Result<Totals> {
    eprintln!("+ fuzz/replay --seconds 1");
    let output = Command::new(paths::root().join("fuzz/replay"))
        .args(["--seconds", "1"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start fuzz/replay")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut totals = Totals::default();
    for line in text.lines() {
        let (passed, failed) = (line.contains(": ok, "), line.contains(": FAILED: "));
        if passed || failed {
            println!("{line}");
        }
        totals.passed += usize::from(passed);
        totals.failed += usize::from(failed);
    }
    if !output.status.success() && totals.failed == 0 {
        totals.failed = 1;
    }
    Ok(totals)
}

/// The numbers in `test result: ok. 3 passed; 0 failed; ...`.
fn counts(line: &str) -> Option<(usize, usize)> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut numbers = rest.split("; ").map(|part| part.split(' ').next()?.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(counts(line), Some((12, 3)));
        assert_eq!(counts("running 3 tests"), None);
    }
}
