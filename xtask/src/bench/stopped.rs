//! What both hosts work while a guest stands still: an idle Debian with 128 MiB, on a keyed and on an insecure link.

use super::tables::Figure;
use super::{MODELS, NEW, OLD, PATIENCE, step};
use anyhow::Result;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use testbench::guest;
use testbench::host::{Host, LinkKey};
use testbench::scenario::{Pair, Plan, SOURCE, Silent, TARGET, VM};

const MIB: u32 = 128;
/// Linux starts first.
const BOOT: Duration = Duration::from_secs(600);

/// Ticks of work by stage, as a host's log has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Work {
    total: u64,
    pages: u64,
    state: u64,
    resume: u64,
}

pub(super) fn measure(dir: &Path) -> Result<Vec<Figure>> {
    [("stopped_sealed", true), ("stopped_insecure", false)]
        .into_iter()
        .map(|(name, keyed)| Ok(Figure::new(name, migrate(&dir.join(name), name, keyed)?, MODELS)))
        .collect()
}

/// Ticks that both hosts worked from the guest's stop to its first instruction at the target.
fn migrate(dir: &Path, name: &str, keyed: bool) -> Result<f64> {
    fs::create_dir_all(dir)?;
    let mut plan = Plan::linux(NEW, OLD, "haswell")?;
    plan.vm.mem_mib = MIB;
    plan.vm.cmdline = guest::SHELL_CMDLINE.to_string();
    plan.own_guest = false;
    plan.migrate_after = "guest: init ran".to_string();
    plan.patience = BOOT;
    let mut hosts = plan.hosts();
    if !keyed {
        hosts = hosts.map(|mut host| {
            host.link = LinkKey::Unset;
            host.option("insecure")
        });
    }
    let mut pair = Pair::start(&hosts, dir, Instant::now() + 2 * BOOT, &mut Silent)?;
    // The target has nothing to do while Linux starts.
    pair.hosts[TARGET].machine.process.freeze(true)?;
    pair.wait_guest(&plan, &mut Silent)?;
    // Its shell has started, and waits.
    pair.hosts[SOURCE].guest()?.send_line("echo at-rest")?;
    pair.hosts[SOURCE].guest()?.expect("at-rest", BOOT)?;
    pair.hosts[TARGET].machine.process.freeze(false)?;
    let summary = pair.migrate(SOURCE, &plan, &mut Silent)?;
    step(&format!("{name}: {} rounds, downtime {} ticks", summary.rounds, summary.downtime));
    let mut total = 0;
    for host in [SOURCE, TARGET] {
        let work = work(&mut pair.hosts[host])?;
        let Work { total: sum, pages, state, resume } = work;
        let role = ["source", "target"][host];
        step(&format!("{name}: {role}: {sum} ticks (pages {pages}, state {state}, resume {resume})"));
        total += sum;
    }
    Ok(total as f64)
}

fn work(host: &mut Host) -> Result<Work> {
    // The source's is among the lines of the migration, which are read already.
    if let Some(work) = host.console()?.text().lines().rev().find_map(parse) {
        return Ok(work);
    }
    host.console()?.expect_line("the work of a stopped guest", PATIENCE, parse)
}

fn parse(line: &str) -> Option<Work> {
    let (_, text) = line.split_once(&format!("migrate {VM}: stopped: "))?;
    let numbers: Vec<u64> =
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect();
    let &[total, pages, state, resume] = numbers.as_slice() else { return None };
    Some(Work { total, pages, state, resume })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_either_host() {
        let line =
            "[    9.1] migrate: migrate demo: stopped: 60 ticks of work here (pages 10, state 20, resume 30)";
        assert_eq!(parse(line), Some(Work { total: 60, pages: 10, state: 20, resume: 30 }));
        assert_eq!(parse("migrate demo: stopped: by the operator"), None);
    }
}
