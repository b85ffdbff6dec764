//! VMs that go to files and come back: `flexctl` as the peer of emulated hosts.

use super::migrate::{goes_on, in_sequence, runs};
use super::{Case, Context};
use crate::flexctl::{Ended, Flexctl, Run};
use crate::host::pool_key;
use crate::hub::station::Station;
use crate::hub::stream::PORT;
use crate::scenario::{ADDRESSES, Outcome, Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};

const SKYLAKE: &str = "corei7_skylake_x";
const HASWELL: &str = "corei7_haswell_4770";
const LIMIT: u64 = 400;
/// The workstation with `flexctl`.
const STATION: &str = "10.77.0.9";

pub(super) fn cases() -> Vec<Case> {
    let mut case = Case::new("store/suspend_and_back", LIMIT, suspend_and_back);
    case.weight = 2;
    vec![case]
}

/// Two hosts and a workstation.
struct Bench {
    pair: Pair,
    plan: Plan,
    station: Station,
    flexctl: Flexctl,
    dir: PathBuf,
    key: String,
}

impl Bench {
    fn start(context: &Context) -> Result<Self> {
        let plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)?;
        let flexctl = Flexctl::new(&context.dir, context.deadline)?;
        let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
        pair.wait_guest(&plan, &mut Silent)?;
        let station = Station::new(&pair.hub, 9, STATION.parse()?, PORT)?;
        Ok(Self { pair, plan, station, flexctl, dir: context.dir.clone(), key: pool_key()? })
    }

    /// `flexctl receive` of a new file, reached at the station's address.
    fn receive(&self, name: &str) -> Result<(PathBuf, Run)> {
        let file = self.dir.join(name);
        let mut run =
            self.flexctl.start(&["receive", path(&file)?, "--listen", "127.0.0.1:0", "--key", &self.key])?;
        let line = run.expect("listening on ")?;
        let port = line.rsplit(':').next().context("no port")?.parse().context(line.clone())?;
        self.station.serve(port);
        Ok((file, run))
    }

    /// The guest of host `from` goes to a file, and no host has it.
    fn suspend(&mut self, from: usize, name: &str, options: &str) -> Result<PathBuf> {
        let (file, run) = self.receive(name)?;
        let order = format!("migrate {VM} {STATION} {options}");
        self.pair.hosts[from].console()?.send_line(order.trim_end())?;
        let outcome = self.pair.follow(from, &self.plan, &mut Silent)?;
        ensure!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        let ended = run.end()?;
        ensure!(ended.status == 0 && ended.text.contains("demo: the VM is the file's"), "{ended:?}");
        ensure!(!runs(&mut self.pair, SOURCE)? && !runs(&mut self.pair, TARGET)?, "a host runs it");
        let state = self.inspect(&file)?;
        ensure!(state["state"] == "owner" && state["name"] == VM, "{state}");
        Ok(file)
    }

    /// What `inspect` says of a file, as text and as JSON.
    fn inspect(&self, file: &Path) -> Result<Value> {
        let Ended { status, text } = self.flexctl.run(&["inspect", path(file)?])?;
        ensure!(status == 0 && text.starts_with(&format!("vm         {VM} ")), "{text}");
        let ended = self.flexctl.run(&["inspect", "--json", path(file)?])?;
        serde_json::from_str(&ended.text).with_context(|| ended.text.clone())
    }

    fn send(&self, file: &Path, to: usize) -> Result<Ended> {
        let door = self.station.door(ADDRESSES[to].parse()?, PORT)?;
        self.flexctl.run(&["send", path(file)?, &format!("127.0.0.1:{door}"), "--key", &self.key])
    }

    /// All that the guest printed, on whichever host.
    fn printed(&mut self, order: &[(usize, usize)]) -> Result<String> {
        let mut text = String::new();
        for &(host, from) in order {
            text.push_str(&self.pair.hosts[host].guest()?.text_from(from));
        }
        Ok(text)
    }
}

fn path(file: &Path) -> Result<&str> {
    file.to_str().with_context(|| file.display().to_string())
}

/// A guest is suspended into a file on one host, goes on from it on the other, and back the same way. It finds all of its
/// memory, and no file starts it a second time.
fn suspend_and_back(context: &Context) -> Result<()> {
    let mut bench = Bench::start(context)?;
    let first = bench.suspend(SOURCE, "first.vm", "")?;
    let said = bench.inspect(&first)?;
    let level = said["level"].as_str().unwrap_or_default();
    ensure!(level.starts_with("haswell-v") && said["vcpus"] == 1, "{said}");
    // Its patterns are 4 MiB; the rest was never written.
    let pages = ["zero", "fill", "data"].map(|kind| said["pages"][kind].as_u64().unwrap_or_default());
    ensure!(pages.iter().sum::<u64>() * 4096 == said["ram"].as_u64().unwrap_or_default(), "{said}");
    ensure!(pages[2] >= 1024 && pages[0] > pages[2], "{said}");

    let ended = bench.send(&first, TARGET)?;
    ensure!(ended.status == 0 && ended.text.contains("; the file is used"), "{ended:?}");
    goes_on(&mut bench.pair, TARGET, 10)?;
    ensure!(bench.inspect(&first)?["state"] == "used", "the file is not used");
    for host in [SOURCE, TARGET] {
        let again = bench.send(&first, host)?;
        ensure!(again.status == 2, "{again:?}");
        let why = "the file is used; a host runs its VM: it is not sent twice";
        ensure!(again.text.contains(why), "{again:?}");
    }

    let second = bench.suspend(TARGET, "second.vm", "verify=full compress=lz4")?;
    let left = bench.pair.hosts[SOURCE].guest()?.text().len();
    let ended = bench.send(&second, SOURCE)?;
    ensure!(ended.status == 0, "{ended:?}");
    goes_on(&mut bench.pair, SOURCE, 10)?;
    ensure!(runs(&mut bench.pair, SOURCE)? && !runs(&mut bench.pair, TARGET)?, "exactly the source runs it");
    let before = bench.pair.hosts[SOURCE].guest()?.text()[..left].to_string();
    let after = bench.printed(&[(TARGET, 0), (SOURCE, left)])?;
    in_sequence(&(before + &after))?;
    bench.station.check()
}
