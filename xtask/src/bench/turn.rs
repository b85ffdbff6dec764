//! How long CPU 0's loop is held at most, by whoever wants to hold it.

use super::tables::Figure;
use super::{NEW, PATIENCE, done, json, step};
use anyhow::{Context, Result, ensure};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};
use testbench::guest;
use testbench::host::{Host, HostSpec};
use testbench::hub::Hub;
use testbench::hub::peer::Peer;
use testbench::hub::serve::{Server, Way};

const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
const PORT: u16 = 4444;
const VM: &str = "large";
/// How long the host is flooded.
const FLOOD: Duration = Duration::from_secs(15);
/// SYNs between two connections that are refused.
const SYNS: u32 = 8;
/// What tables, vCPU and files take besides the guest's memory, in MiB.
const BESIDES: u64 = 24;

/// The longest turn under each load, in ticks.
pub(super) fn measure(dir: &Path) -> Result<Vec<Figure>> {
    let hub = Hub::new();
    // A slow console: 960 bytes a second.
    let spec = HostSpec::new("turn", NEW)
        .option("console=com1,9600")
        .option(&format!("ip={HOST}/24"))
        .option("migrate=listen")
        .option("idle=poll");
    let mut host = spec.start(dir, Some((&hub, 1)))?;
    let files = Server::files(&hub, 9, SERVER)?;
    let kernel = guest::payload("spin-cli");
    files.put("/kernel", std::fs::read(&kernel).with_context(|| kernel.display().to_string())?, Way::Whole);
    host.wait_ready(PATIENCE)?;
    let free = json(&mut host, "mem --json")?["free"].as_u64().context("free")?;
    let mib = (free >> 20) - BESIDES;
    let create = format!("vm create {VM} --kernel http://{SERVER}/kernel --mem {mib} --on-reset stop");
    let loads: [(&str, &[&str]); 4] = [
        ("dmesg", &["dmesg"]),
        ("create", &[&create]),
        ("tracking", &[&format!("vm dirty start {VM}"), &format!("vm dirty stop {VM}")]),
        ("reset", &[&format!("vm reset {VM} --force")]),
    ];
    let mut figures = Vec::new();
    let mut take = |host: &mut Host, name: &str| -> Result<()> {
        let turn = &json(host, "mem --json")?["longest_turn"];
        step(&format!("longest turn under {name}: {turn}"));
        let ticks = turn["ticks"].as_u64().context("ticks")?;
        figures.push(Figure::new(&format!("longest_turn_{name}"), ticks as f64, NEW));
        Ok(())
    };
    done(&mut host, "top --json --anew")?;
    flood(&hub)?;
    take(&mut host, "flood")?;
    for (name, commands) in loads {
        done(&mut host, "top --json --anew")?;
        for command in commands {
            done(&mut host, command)?;
        }
        take(&mut host, name)?;
    }
    Ok(figures)
}

/// Connections that are refused, and SYNs of nobody, as many as the wire brings.
fn flood(hub: &Hub) -> Result<()> {
    let mut peer = Peer::new(hub, 7, Ipv4Addr::new(10, 77, 0, 7));
    let end = Instant::now() + FLOOD;
    let (mut number, mut made) = (0, 0);
    while Instant::now() < end {
        for _ in 0..SYNS {
            peer.forge_syn(1, HOST, PORT, number);
            number += 1;
        }
        if let Ok(connection) = peer.connect(HOST, PORT, Duration::from_millis(200)) {
            made += 1;
            peer.send(connection, b"GET / HTTP/1.1\r\n\r\n", Duration::from_millis(200))?;
            peer.abort(connection);
        }
    }
    step(&format!("{number} SYNs, {made} connections that were refused"));
    ensure!(made > 0, "no connection was made among {number} SYNs");
    Ok(())
}
