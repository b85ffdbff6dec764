//! The test cases that need emulators, and what runs them.

mod audit;
mod balance;
mod boot;
mod chatter;
mod console;
mod converge;
mod cpu;
mod create;
mod demo_guest;
mod faults;
mod follow;
mod guests;
mod handover;
mod image;
mod ipis;
mod journal;
mod levels;
mod link;
mod linux;
mod locks;
mod manage;
mod memory;
mod migrate;
mod moves;
mod network;
mod nics;
mod operate;
mod ownership;
mod pairs;
mod platform;
mod pool;
mod refuse;
mod reset;
mod selftest;
mod smp;
pub mod soak;
mod speculation;
mod state;
#[cfg(test)]
mod status;
mod store;
mod tracking;
mod verbs;
mod ways;

pub use journal::Journal;

use crate::host::{Host, HostSpec};
use anyhow::Result;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a case gets.
#[derive(Debug)]
pub struct Context {
    /// An empty folder for its files; kept.
    pub dir: PathBuf,
    /// When it must be over.
    pub deadline: Instant,
    note: Mutex<String>,
}

impl Context {
    /// What is to be told with the case's result.
    fn note(&self, text: &str) {
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = text.to_string();
    }
}

type Run = Box<dyn Fn(&Context) -> Result<()> + Send + Sync>;

/// A test case.
pub struct Case {
    /// `area/what`.
    pub name: String,
    /// How many processors it keeps busy.
    pub weight: usize,
    /// It runs only with `--all`.
    pub slow: bool,
    /// It runs only where its area is asked for.
    pub apart: bool,
    /// The matrix that it is a cell of, although it belongs to another area.
    pub matrix: Option<&'static str>,
    /// Time limit.
    pub limit: Duration,
    run: Run,
}

impl Case {
    fn new(name: &str, limit: u64, run: impl Fn(&Context) -> Result<()> + Send + Sync + 'static) -> Self {
        let limit = Duration::from_secs(limit);
        Self {
            name: name.to_string(),
            weight: 1,
            slow: false,
            apart: false,
            matrix: None,
            limit,
            run: Box::new(run),
        }
    }

    /// Its area, the first part of its name.
    pub fn area(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// Only with `--all`.
    fn slow(mut self) -> Self {
        self.slow = true;
        self
    }
}

/// Starts a host in the case's folder; none of its waits outlasts the case.
fn start(context: &Context, spec: &HostSpec) -> Result<Host> {
    let mut host = spec.start(&context.dir, None)?;
    host.set_deadline(context.deadline);
    Ok(host)
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = demo_guest::cases();
    cases.extend(image::cases());
    cases.extend(boot::cases());
    cases.extend(cpu::cases());
    cases.extend(manage::cases());
    cases.extend(refuse::cases());
    cases.extend(reset::cases());
    cases.extend(platform::cases());
    cases.extend(create::cases());
    cases.extend(selftest::cases());
    cases.extend(guests::cases());
    cases.extend(levels::cases());
    cases.extend(audit::cases());
    cases.extend(pairs::cases());
    cases.extend(tracking::cases());
    cases.extend(linux::cases());
    cases.extend(smp::cases());
    cases.extend(locks::cases());
    cases.extend(balance::cases());
    cases.extend(ipis::cases());
    cases.extend(network::cases());
    cases.extend(nics::cases());
    cases.extend(link::cases());
    cases.extend(migrate::cases());
    cases.extend(operate::cases());
    cases.extend(ownership::cases());
    cases.extend(console::cases());
    cases.extend(chatter::cases());
    cases.extend(converge::cases());
    cases.extend(faults::cases());
    cases.extend(moves::cases());
    cases.extend(soak::cases());
    cases.extend(handover::cases());
    cases.extend(pool::cases());
    cases.extend(speculation::cases());
    cases.extend(state::cases());
    cases.extend(store::cases());
    cases.extend(verbs::cases());
    cases.extend(follow::cases());
    cases
}

/// How a run went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Cases that passed.
    pub passed: usize,
    /// Cases that did not.
    pub failed: usize,
}

impl Totals {
    /// Counts these.
    pub fn of(outcomes: &[Outcome]) -> Self {
        let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
        Self { passed, failed: outcomes.len() - passed }
    }

    /// Counts those of another part of the run too.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// How a case went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The case.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// How long it took.
    pub time: Duration,
    /// What it had to tell.
    pub note: String,
}

/// Runs cases side by side, at most `jobs` processors' worth at a time, prints a line for each, and tells `ended` of it.
pub fn run(
    cases: Vec<Case>,
    jobs: usize,
    logs: &std::path::Path,
    ended: impl Fn(&Outcome) + Sync,
) -> Vec<Outcome> {
    crate::host::check_entries();
    let free = Free { count: Mutex::new(jobs), changed: Condvar::new() };
    let outcomes = Mutex::new(Vec::new());
    let mut cases = cases;
    // The heaviest first: light ones fill the gaps at the end.
    cases.sort_by_key(|case| std::cmp::Reverse((case.weight, case.limit)));
    thread::scope(|scope| {
        for case in cases {
            let weight = case.weight.min(jobs);
            free.take(weight);
            let (free, outcomes, ended) = (&free, &outcomes, &ended);
            scope.spawn(move || {
                let outcome = run_one(&case, logs);
                ended(&outcome);
                outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                free.give(weight);
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn run_one(case: &Case, logs: &std::path::Path) -> Outcome {
    let started = Instant::now();
    let dir = logs.join(case.name.replace('/', "-"));
    let mut note = String::new();
    let outcome = crate::paths::fresh_dir(&dir).and_then(|dir| {
        let context = Context { dir, deadline: started + case.limit, note: Mutex::default() };
        let outcome = catch_unwind(AssertUnwindSafe(|| (case.run)(&context)))
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the case panicked")));
        note = context.note.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome
    });
    let time = started.elapsed();
    let seconds = time.as_secs_f64();
    match &outcome {
        Ok(()) => println!("ok      {} ({seconds:.1} s)", case.name),
        Err(e) => {
            let text = format!("{e:#}").replace('\n', "\n        ");
            println!("FAILED  {} ({seconds:.1} s): {text}\n        logs: {}", case.name, dir.display());
        }
    }
    Outcome { name: case.name.clone(), passed: outcome.is_ok(), time, note }
}

struct Free {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Free {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, weight: usize) {
        let mut count = self.lock();
        while *count < weight {
            count = self.changed.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
        *count -= weight;
    }

    fn give(&self, weight: usize) {
        *self.lock() += weight;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_and_limits_hold() {
        let busy = std::sync::Arc::new(Mutex::new((0, 0)));
        let mut cases = Vec::new();
        for index in 0..8 {
            let busy = std::sync::Arc::clone(&busy);
            let mut case = Case::new(&format!("t/{index}"), 5, move |_| {
                let mut guard = busy.lock().unwrap();
                guard.0 += 1;
                guard.1 = guard.1.max(guard.0);
                drop(guard);
                thread::yield_now();
                busy.lock().unwrap().0 -= 1;
                anyhow::ensure!(index != 3, "three");
                Ok(())
            });
            case.weight = 1 + index % 2;
            cases.push(case);
        }
        let logs = std::env::temp_dir().join(format!("suite-test-{}", std::process::id()));
        assert_eq!(Totals::of(&run(cases, 2, &logs, |_| {})), Totals { passed: 7, failed: 1 });
        assert!(busy.lock().unwrap().1 <= 2);
        std::fs::remove_dir_all(logs).unwrap();
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<String> = cases().into_iter().map(|case| case.name).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
