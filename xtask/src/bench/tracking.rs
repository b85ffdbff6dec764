//! What it costs to notice which pages a guest writes.

use super::{PATIENCE, done, json, value, values};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use testbench::guest;
use testbench::host::{Host, HostSpec, VmSpec};

/// Pages of which each pass writes some.
const PAGES: u64 = 16384;
/// How many: a quarter, and one in a hundred.
pub(super) const QUARTER: u64 = PAGES / 4;
pub(super) const HUNDREDTH: u64 = PAGES / 100 + 1;
/// Pages besides that the guest may write meanwhile: its stack and data.
const OTHERS: u64 = 16;
const PASSES: u32 = 5;

const VM: &str = "bench";
const READY: &str = "dirty-bench: ready";

/// Ticks for the first write to a page and for the page's share of one harvest, by a method; the least of some passes.
pub(super) fn measure(dir: &Path, method: &str, model: &str, dirty: u64) -> Result<f64> {
    let mut vm = VmSpec::new(VM, &guest::payload("dirty-bench"));
    vm.mem_mib = 72;
    vm.cmdline = format!("wait=1 dirty={dirty} pages={PAGES}");
    let name = format!("dirty-{method}-{dirty}");
    let mut host = HostSpec::new(&name, model).with_vm(vm).option("mitigations=off").start(dir, None)?;
    host.wait_ready(PATIENCE)?;
    host.guest()?.expect(READY, PATIENCE)?;
    done(&mut host, &format!("vm dirty start {VM} {method}"))?;
    harvest(&mut host)?;
    let mut least = f64::INFINITY;
    for _ in 0..PASSES {
        host.guest()?.send(b"x")?;
        let found = values(&mut host, READY)?;
        let write = value(&found, "dirty_write")? - value(&found, "dirty_again")?;
        let (pages, ticks) = harvest(&mut host)?;
        ensure!((dirty..=dirty + OTHERS).contains(&pages), "{pages} pages harvested of {dirty} written");
        eprintln!("bench: {method}: {write:.2} for a write, {ticks} for the harvest of {pages} pages");
        least = least.min(write + ticks as f64 / dirty as f64);
    }
    Ok(least)
}

/// Pages and ticks of a harvest.
fn harvest(host: &mut Host) -> Result<(u64, u64)> {
    let harvested = json(host, &format!("vm dirty harvest {VM} --json"))?;
    let figure = |key| harvested[key].as_u64().with_context(|| format!("no {key} in {harvested}"));
    Ok((figure("pages")?, figure("ticks")?))
}
