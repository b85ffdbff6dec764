//! Console commands over links: `flexctl --host`, beside an operator at the serial console.

use super::{Case, Context};
use crate::flexctl::{Ended, Flexctl, Run};
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec, pool_key, random_hex};
use crate::hub::Hub;
use crate::hub::station::Station;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const MODEL: &str = "corei7_skylake_x";
const PATIENCE: Duration = Duration::from_secs(60);
const HOST: &str = "10.77.0.1";
const STATION: &str = "10.77.0.9";
const PORT: u16 = 4444;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("manage/two_consoles", 240, two_consoles), Case::new("manage/off", 120, off)]
}

/// A host with two VMs, and a workstation.
struct Bench {
    host: Host,
    _hub: Hub,
    station: Station,
    door: u16,
    flexctl: Flexctl,
    key: String,
}

impl Bench {
    fn start(context: &Context, option: &str) -> Result<Self> {
        guest::build_payloads()?;
        let hub = Hub::new();
        hub.capture(&context.dir.join("wire.pcap"))?;
        let mut spec =
            HostSpec::new("host", MODEL).option(&format!("ip={HOST}/24")).option("idle=poll").option(option);
        for (name, payload) in [("demo", "spin-cli"), ("other", "halt-forever")] {
            let mut vm = VmSpec::new(name, &guest::payload(payload));
            vm.mem_mib = 8;
            spec.vms.push(vm);
        }
        let mut host = spec.start(&context.dir, Some((&hub, 1)))?;
        host.set_deadline(context.deadline);
        host.wait_ready(PATIENCE)?;
        let station = Station::new(&hub, 9, STATION.parse()?, PORT)?;
        let door = station.door(HOST.parse()?, PORT)?;
        let flexctl = Flexctl::new(&context.dir, context.deadline)?;
        Ok(Self { host, _hub: hub, station, door, flexctl, key: pool_key()? })
    }

    fn begin(&self, key: &str, words: &[&str]) -> Result<Run> {
        let host = format!("--host=127.0.0.1:{}", self.door);
        self.flexctl.start(&[&["--key", key, host.as_str()], words].concat())
    }

    fn run(&self, words: &[&str]) -> Result<Ended> {
        self.begin(&self.key, words)?.end()
    }

    /// The command ends so, and says that.
    fn ends(&self, words: &[&str], status: i32, text: &str) -> Result<String> {
        let ended = self.run(words)?;
        ensure!(
            ended.status == status && ended.text.contains(text),
            "{words:?}: {ended:?}, not {status}, {text:?}"
        );
        Ok(ended.text)
    }
}

fn two_consoles(context: &Context) -> Result<()> {
    let mut bench = Bench::start(context, "manage=on")?;
    // one document and nothing else
    let list: Value = serde_json::from_str(&bench.ends(&["vm", "list", "--json"], 0, "")?)?;
    let names: Vec<&Value> = list.as_array().context("no list")?.iter().map(|vm| &vm["name"]).collect();
    ensure!(names == ["demo", "other"], "{list}");
    bench.ends(&["vm", "pause", "other"], 0, "")?;
    bench.host.vm_event("other", &["paused"], PATIENCE)?;
    bench.ends(&["vm", "pause", "other"], 1, "error: state: vm other is paused")?;
    bench.ends(&["vm", "lst"], 2, "did you mean 'list'?")?;
    bench.ends(&["vm", "destroy", "other"], 1, "error: force: ")?;
    bench.ends(&["console", "demo"], 1, "error: unsupported: console: only at the host's own console")?;
    bench.ends(&["term", "dumb"], 1, "error: unsupported: term")?;
    let dump = bench.ends(&["cpu", "dump"], 0, "flexvisor-cpu 1")?;
    ensure!(dump.lines().last().is_some_and(|line| line.starts_with("end ")), "{dump}");

    // One works on while the other does too, and Ctrl-C ends what it was meant for.
    let mut ping = bench.begin(&bench.key, &["net", "ping", "10.77.0.77"])?;
    ping.expect("no answer to request 1")?;
    let answer = bench.host.command("vm resume other", PATIENCE)?;
    ensure!(answer.error.is_none(), "{:?}", answer.error);
    bench.ends(&["vm", "show", "other"], 0, "state     running")?;
    ping.interrupt()?;
    let ended = ping.end()?;
    ensure!(ended.status == 1 && ended.text.contains("does not answer"), "{ended:?}");

    // Four at a time; the fifth hears why not. Nothing but Ctrl-C ends these.
    let mut tops = Vec::new();
    for _ in 0..4 {
        let mut top = bench.begin(&bench.key, &["top"])?;
        top.expect("demo")?;
        tops.push(top);
    }
    bench.ends(&["version"], 3, "busy")?;
    for top in tops {
        top.interrupt()?;
        let ended = top.end()?;
        ensure!(ended.status < 2, "{ended:?}");
    }

    strangers(&mut bench)?;
    // A console that is cut leaves nothing behind.
    bench.begin(&bench.key, &["top"])?.expect("demo")?;
    bench.ends(&["version"], 0, "Flexvisor ")?;
    let text = bench.host.console()?.text();
    ensure!(text.contains(": vm list --json") && text.contains(": vm destroy other"), "not logged");
    bench.station.check()
}

/// Another key, none, and noise: refused, and everybody else works on.
fn strangers(bench: &mut Bench) -> Result<()> {
    let ended = bench.begin(&random_hex()?, &["vm", "list"])?.end()?;
    ensure!(ended.status == 3 && ended.text.contains("another pool key"), "{ended:?}");
    let host = format!("--host=127.0.0.1:{}", bench.door);
    let ended = bench.flexctl.run(&["--insecure", &host, "vm", "list"])?;
    ensure!(ended.status == 3, "{ended:?}");
    let mut noise = TcpStream::connect(("127.0.0.1", bench.door))?;
    noise.set_read_timeout(Some(PATIENCE))?;
    noise.write_all(&[b'x'; 400])?;
    noise.read_to_end(&mut Vec::new()).ok();
    bench.host.console()?.expect("refused: not a link", PATIENCE)?;
    bench.ends(&["vm", "list"], 0, "demo")?;
    let answer = bench.host.command("vm list", PATIENCE)?;
    ensure!(answer.error.is_none(), "{:?}", answer.error);
    Ok(())
}

fn off(context: &Context) -> Result<()> {
    let bench = Bench::start(context, "migrate=listen")?;
    let ended = bench.run(&["vm", "list"])?;
    ensure!(ended.status == 3 && ended.text.contains("service"), "{ended:?}");
    Ok(())
}
