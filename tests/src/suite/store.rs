//! VMs that go to files and come back: `flexctl` as the peer of emulated hosts.

use super::migrate::{goes_on, in_sequence, insecure, runs, towards_target};
use super::{Case, Context};
use crate::flexctl::{Ended, Flexctl, Run};
use crate::host::{HostSpec, pool_key};
use crate::hub::Verdict;
use crate::hub::station::Station;
use crate::hub::stream::{PORT, Records, record};
use crate::proof::all_hold;
use crate::scenario::{ADDRESSES, Outcome, Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SKYLAKE: &str = "corei7_skylake_x";
const HASWELL: &str = "corei7_haswell_4770";
const PATIENCE: Duration = Duration::from_secs(120);
const LIMIT: u64 = 400;
/// The workstation with `flexctl`.
const STATION: &str = "10.77.0.9";

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(&Context) -> Result<()>| {
        let mut case = Case::new(&format!("store/{name}"), LIMIT, run);
        case.weight = 2;
        case
    };
    vec![
        case("suspend_and_back", suspend_and_back),
        case("checkpoint_and_clones", checkpoint_and_clones),
        // two minutes: both ends ask until they give up
        case("lost_and_asked", lost_and_asked).slow(),
        case("lost_and_found", lost_and_found),
        Case { limit: Duration::from_secs(1500), ..case("linux", linux) }.slow(),
    ]
}

/// Two hosts and a workstation.
struct Bench {
    pair: Pair,
    plan: Plan,
    station: Station,
    flexctl: Flexctl,
    dir: PathBuf,
    keys: Vec<String>,
}

impl Bench {
    fn start(context: &Context) -> Result<Self> {
        Self::start_with(context, memwriter()?)
    }

    fn start_with(context: &Context, plan: Plan) -> Result<Self> {
        let hosts = plan.hosts();
        Self::with(context, plan, &hosts, vec!["--key".to_string(), pool_key()?])
    }

    /// Records can be read on the wire.
    fn start_insecure(context: &Context) -> Result<Self> {
        let plan = memwriter()?;
        let hosts = insecure(&plan);
        Self::with(context, plan, &hosts, vec!["--insecure".to_string()])
    }

    fn with(context: &Context, plan: Plan, hosts: &[HostSpec; 2], keys: Vec<String>) -> Result<Self> {
        let flexctl = Flexctl::new(&context.dir, context.deadline)?;
        let mut pair = Pair::start(hosts, &context.dir, context.deadline, &mut Silent)?;
        pair.wait_guest(&plan, &mut Silent)?;
        let station = Station::new(&pair.hub, 9, STATION.parse()?, PORT)?;
        Ok(Self { pair, plan, station, flexctl, dir: context.dir.clone(), keys })
    }

    /// Runs `flexctl` with the keys of the hosts.
    fn link(&self, args: &[&str]) -> Result<Run> {
        let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        self.flexctl.start(&[args, &keys].concat())
    }

    /// Where a host is reached from the workstation.
    fn door(&self, host: usize) -> Result<String> {
        Ok(format!("127.0.0.1:{}", self.station.door(ADDRESSES[host].parse()?, PORT)?))
    }

    /// `flexctl receive` of a new file, reached at the station's address.
    fn receive(&self, name: &str) -> Result<(PathBuf, Run)> {
        let file = self.dir.join(name);
        let mut run = self.link(&["receive", path(&file)?, "--listen", "127.0.0.1:0"])?;
        let line = run.expect("listening on ")?;
        let port = line.rsplit(':').next().context("no port")?.parse().context(line.clone())?;
        self.station.serve(port);
        Ok((file, run))
    }

    /// `migrate` to the station on a host's console, and what that says of it.
    fn migrate(&mut self, from: usize, to: &str, options: &str) -> Result<Outcome> {
        let order = format!("migrate {VM} {to} {options}");
        self.pair.hosts[from].console()?.send_line(order.trim_end())?;
        self.pair.follow(from, &self.plan, &mut Silent)
    }

    /// The guest of host `from` goes to a file, and no host has it.
    fn suspend(&mut self, from: usize, name: &str, options: &str) -> Result<PathBuf> {
        let (file, run) = self.receive(name)?;
        let outcome = self.migrate(from, STATION, options)?;
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

    fn send(&self, file: &Path, to: usize, more: &[&str]) -> Result<Ended> {
        self.link(&[&["send", path(file)?, &self.door(to)?], more].concat())?.end()
    }

    fn ask(&self, file: &Path, host: usize) -> Result<Ended> {
        self.link(&["ask", path(file)?, &self.door(host)?])?.end()
    }

    /// From the first frame that carries such a record from a host on, the cable is cut.
    fn cut_at(&self, host: usize, kind: u16, towards: bool) {
        let (mut stream, mut cut) = (Records::default(), false);
        self.pair.hub.set_filter(move |port, frame| {
            // The target was plugged in first.
            let wanted = port == 1 - host && towards_target(frame) == towards;
            cut |= wanted && stream.take(frame).contains(&kind);
            if cut { Verdict::Drop } else { Verdict::Pass }
        });
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

fn memwriter() -> Result<Plan> {
    Plan::memwriter(SKYLAKE, HASWELL, "haswell", 4)
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

    let ended = bench.send(&first, TARGET, &[])?;
    ensure!(ended.status == 0 && ended.text.contains("; the file is used"), "{ended:?}");
    goes_on(&mut bench.pair, TARGET, 10)?;
    ensure!(bench.inspect(&first)?["state"] == "used", "the file is not used");
    for host in [SOURCE, TARGET] {
        let again = bench.send(&first, host, &[])?;
        ensure!(again.status == 2, "{again:?}");
        let why = "the file is used; a host runs its VM: it is not sent twice";
        ensure!(again.text.contains(why), "{again:?}");
    }

    let second = bench.suspend(TARGET, "second.vm", "verify=full compress=lz4")?;
    let left = bench.pair.hosts[SOURCE].guest()?.text().len();
    let ended = bench.send(&second, SOURCE, &[])?;
    ensure!(ended.status == 0, "{ended:?}");
    goes_on(&mut bench.pair, SOURCE, 10)?;
    ensure!(runs(&mut bench.pair, SOURCE)? && !runs(&mut bench.pair, TARGET)?, "exactly the source runs it");
    let before = bench.pair.hosts[SOURCE].guest()?.text()[..left].to_string();
    let after = bench.printed(&[(TARGET, 0), (SOURCE, left)])?;
    in_sequence(&(before + &after))?;
    // Its kernel has been in both files: nobody but the second had it left.
    let host = &mut bench.pair.hosts[SOURCE];
    let answer = host.command(&format!("vm reset {VM} --force"), PATIENCE)?;
    ensure!(answer.error.is_none(), "{:?}", answer.error);
    host.guest()?.expect("tick 1 ", PATIENCE)?;
    bench.station.check()
}

/// The guest runs on where it is while its copy goes to a file, from which other VMs begin, as often as wanted.
fn checkpoint_and_clones(context: &Context) -> Result<()> {
    let mut bench = Bench::start(context)?;
    match bench.migrate(SOURCE, ADDRESSES[TARGET], "--copy")? {
        Outcome::Failed(why) => ensure!(why.contains("keeps no copies"), "{why}"),
        other => bail!("a host took a copy: {other:?}"),
    }
    let (file, run) = bench.receive("copy.vm")?;
    let outcome = bench.migrate(SOURCE, STATION, "--copy")?;
    ensure!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    let ended = run.end()?;
    ensure!(ended.status == 0 && ended.text.contains("a copy is the file's"), "{ended:?}");
    goes_on(&mut bench.pair, SOURCE, 5)?;
    let said = bench.inspect(&file)?;
    ensure!(said["state"] == "checkpoint", "{said}");
    let refused = bench.send(&file, TARGET, &[])?;
    ensure!(refused.status == 2 && refused.text.contains("say --clone"), "{refused:?}");
    // The name is taken there: nothing becomes of it.
    let refused = bench.send(&file, SOURCE, &["--clone", "--name", VM])?;
    ensure!(refused.status == 1 && refused.text.contains(VM), "{refused:?}");

    // By this name COM2 is the clone's.
    let ended = bench.send(&file, TARGET, &["--clone", "--name", VM])?;
    ensure!(ended.status == 0, "{ended:?}");
    goes_on(&mut bench.pair, TARGET, 5)?;
    let ended = bench.send(&file, TARGET, &["--clone"])?;
    ensure!(ended.status == 0 && ended.text.contains("the file is checkpoint"), "{ended:?}");
    let list = bench.pair.hosts[TARGET].command("vm list", PATIENCE)?;
    for name in [VM.to_string(), format!("{VM}-clone")] {
        let row = list.lines.iter().find(|row| row.split_whitespace().next() == Some(name.as_str()));
        ensure!(row.is_some_and(|row| row.contains("running")), "{name} in {list:?}");
    }
    // Both clones and the VM itself: none has lost a page of its own to another.
    for host in [TARGET, SOURCE] {
        goes_on(&mut bench.pair, host, 10)?;
        in_sequence(&bench.pair.hosts[host].guest()?.text())?;
    }
    ensure!(bench.inspect(&file)? == said, "the file has changed");
    bench.station.check()
}

/// Each hand-over loses its connection and the process here ends: the other end is asked by command.
fn lost_and_asked(context: &Context) -> Result<()> {
    let mut bench = Bench::start_insecure(context)?;
    bench.cut_at(SOURCE, record::COMMIT, true);
    let (file, mut run) = bench.receive("lost.vm")?;
    let outcome = bench.migrate(SOURCE, STATION, "")?;
    ensure!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    run.expect("held: the source may have given it up")?;
    run.kill();
    ensure!(bench.inspect(&file)?["state"] == "held", "the file is not held");
    bench.pair.hub.clear_filter();
    let ended = bench.ask(&file, SOURCE)?;
    ensure!(ended.status == 0 && ended.text.contains("; the file is owner"), "{ended:?}");
    bench.pair.hosts[SOURCE].console()?.expect("done: it is the other host's; freed here", PATIENCE)?;
    ensure!(!runs(&mut bench.pair, SOURCE)?, "the source runs it");

    bench.cut_at(TARGET, record::RUNNING, false);
    let ended = bench.send(&file, TARGET, &["--wait", "1"])?;
    ensure!(ended.status == 1 && ended.text.contains("; the file is given"), "{ended:?}");
    bench.pair.hub.clear_filter();
    goes_on(&mut bench.pair, TARGET, 5)?;
    let ended = bench.ask(&file, TARGET)?;
    ensure!(ended.status == 0 && ended.text.contains("; the file is used"), "{ended:?}");
    ensure!(runs(&mut bench.pair, TARGET)? && !runs(&mut bench.pair, SOURCE)?, "exactly the target runs it");
    let text = bench.printed(&[(SOURCE, 0), (TARGET, 0)])?;
    in_sequence(&text)?;
    bench.station.check()
}

/// The connection is lost with COMMIT on its way, and `receive` goes on: the source finds it once the cable is mended.
fn lost_and_found(context: &Context) -> Result<()> {
    let mut bench = Bench::start_insecure(context)?;
    bench.cut_at(SOURCE, record::COMMIT, true);
    let (file, mut run) = bench.receive("found.vm")?;
    let outcome = bench.migrate(SOURCE, STATION, "")?;
    ensure!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    run.expect("held: the source may have given it up")?;
    bench.pair.hub.clear_filter();
    let ended = run.end()?;
    ensure!(ended.status == 0 && ended.text.contains("demo: the VM is the file's"), "{ended:?}");
    bench.pair.hosts[SOURCE].console()?.expect("done: it is the other host's; freed here", PATIENCE)?;
    // Back to where it came from.
    let left = bench.pair.hosts[SOURCE].guest()?.text().len();
    let ended = bench.send(&file, SOURCE, &[])?;
    ensure!(ended.status == 0 && ended.text.contains("; the file is used"), "{ended:?}");
    goes_on(&mut bench.pair, SOURCE, 5)?;
    ensure!(bench.pair.hosts[SOURCE].guest()?.text().len() > left, "it prints nothing");
    in_sequence(&bench.pair.hosts[SOURCE].guest()?.text())?;
    bench.station.check()
}

/// Debian Linux is suspended on one host and goes on from its file on another: all that is proved of a move is of this.
fn linux(context: &Context) -> Result<()> {
    let mut plan = Plan::linux(SKYLAKE, HASWELL, "haswell")?;
    plan.patience = Duration::from_secs(600);
    let mut bench = Bench::start_with(context, plan.clone())?;
    let file = bench.suspend(SOURCE, "linux.vm", "compress=lz4")?;
    let printed = bench.pair.hosts[SOURCE].guest()?.text();
    let ended = bench.send(&file, TARGET, &[])?;
    ensure!(ended.status == 0 && ended.text.contains("; the file is used"), "{ended:?}");
    bench.pair.finish(&plan, &mut Silent)?;
    all_hold(&bench.pair.judge(&plan, &printed)?)?;
    bench.station.check()
}
