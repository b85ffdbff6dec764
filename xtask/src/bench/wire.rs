//! What a page of a real migration costs: bytes on the wire, instructions of the source.

use super::tables::Figure;
use super::{MODELS, NEW, OLD, PATIENCE, step};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::time::Instant;
use testbench::emu::IPS;
use testbench::guest;
use testbench::host::VmSpec;
use testbench::migration::{Round, Summary};
use testbench::scenario::{Observer, Pair, Plan, SOURCE, VM};

const PAGE: u64 = 4096;

/// Where the source works.
const STAGES: [&str; 4] = ["encode", "seal", "socket", "network"];

/// What a migration took.
struct Cost {
    zero: f64,
    data: f64,
    /// Ticks of the source by stage: reading, looking and encoding; the seal; handing to TCP; TCP/IP and driver.
    ticks: [f64; STAGES.len()],
    /// Ticks of a turn of the management loop that finds nothing to do.
    idle: f64,
    /// Bytes of the stream that are not the content of a data page.
    overhead: f64,
}

/// All figures, from a guest that is nearly all zero pages and one that is mostly data.
pub(super) fn measure(dir: &Path) -> Result<Vec<Figure>> {
    let mut idle = VmSpec::new(VM, &guest::payload("halt-forever"));
    idle.mem_mib = 256;
    let idle = migrate(dir, "idle", idle, "halted")?;
    let mut full = VmSpec::new(VM, &guest::payload("dirty-bench"));
    full.mem_mib = 24;
    full.cmdline = "wait=1 pages=4096 dirty=4096".to_string();
    let full = migrate(dir, "full", full, "dirty-bench: ready")?;
    // Two guests, two kinds of pages: ticks = zero * of_zero + data * of_data for each.
    let determinant = idle.zero * full.data - full.zero * idle.data;
    let (mut of_zero, mut of_data) = (0.0, 0.0);
    let mut figures = vec![Figure::new("zero_page_bytes", idle.overhead / idle.zero, MODELS)];
    for (stage, name) in STAGES.into_iter().enumerate() {
        let data = (idle.zero * full.ticks[stage] - full.zero * idle.ticks[stage]) / determinant;
        of_zero += (idle.ticks[stage] * full.data - full.ticks[stage] * idle.data) / determinant;
        of_data += data;
        figures.push(Figure::new(&format!("page_{name}"), data.round(), MODELS));
    }
    eprintln!("bench: {of_zero:.2} ticks for a zero page, {of_data:.2} for a data page");
    figures.push(Figure::new("page_instructions", of_data.round(), MODELS));
    figures.push(Figure::new("idle_poll", full.idle, NEW));
    Ok(figures)
}

/// Moves a guest that does nothing once it has printed `after`.
fn migrate(dir: &Path, name: &str, vm: VmSpec, after: &str) -> Result<Cost> {
    let dir = dir.join(name);
    fs::create_dir_all(&dir)?;
    let plan = Plan {
        from: NEW.to_string(),
        to: OLD.to_string(),
        cpus: 1,
        vm,
        own_guest: false,
        ips: [IPS; 2],
        migrate_after: after.to_string(),
        until: None,
        patience: PATIENCE,
    };
    let mut lines = Lines::default();
    let mut pair = Pair::start(&plan.hosts(), &dir, Instant::now() + 4 * PATIENCE, &mut lines)?;
    pair.wait_guest(&plan, &mut lines)?;
    let summary = pair.migrate(SOURCE, &plan, &mut lines)?;
    lines.cost(&summary)
}

/// Keeps what the source says.
#[derive(Default)]
struct Lines(Vec<String>);

impl Observer for Lines {
    fn step(&mut self, text: &str) {
        self.0.push(text.to_string());
    }

    fn round(&mut self, round: Round) {
        step(&format!("round {}: {} pages, {} zero", round.number, round.pages, round.zero));
    }
}

impl Lines {
    fn cost(&self, summary: &Summary) -> Result<Cost> {
        let line = self.0.iter().find_map(|line| line.strip_prefix("work: ")).context("no line `work: `")?;
        let [migration, seal, socket, network, data, idle] =
            work(line).with_context(|| format!("no six numbers: `{line}`"))?;
        step(&format!("{data} data and {} zero pages, {} bytes: {line}", summary.zero, summary.bytes));
        let overhead =
            summary.bytes.checked_sub(data * PAGE).context("fewer bytes than its data pages have")?;
        ensure!(summary.zero > 0, "no zero page among {}", summary.pages);
        let encode = migration.checked_sub(seal + socket).context("more to seal than in all")?;
        Ok(Cost {
            zero: summary.zero as f64,
            data: data as f64,
            ticks: [encode, seal, socket, network].map(|ticks| ticks as f64),
            idle: idle as f64,
            overhead: overhead as f64,
        })
    }
}

/// The ticks and pages of a line `work: `; the same in milliseconds follows them.
fn work(line: &str) -> Option<[u64; 6]> {
    let (line, _) = line.rsplit_once(';')?;
    let numbers: Vec<u64> =
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect();
    numbers.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_read_from_the_source() {
        let line = "work: 5000 ticks in the migration (3000 to seal, 400 in the socket), 700 in the network, 3 data \
                    pages; a turn that finds nothing: 900 ticks; 0.250 ms and 0.035 ms in the network";
        let lines = Lines(vec!["to 10.77.0.2".to_string(), line.to_string()]);
        let summary = Summary { pages: 13, zero: 10, bytes: 3 * PAGE + 25, ..Summary::default() };
        let cost = lines.cost(&summary).unwrap();
        assert_eq!((cost.ticks, cost.idle), ([1600.0, 3000.0, 400.0, 700.0], 900.0));
        assert_eq!((cost.overhead, cost.data), (25.0, 3.0));
        assert!(lines.cost(&Summary { bytes: PAGE, ..summary }).is_err());
        assert!(Lines::default().cost(&summary).is_err());
    }
}
