//! The host on the network.

use super::{Case, Context};
use crate::host::{Host, HostSpec};
use crate::hub::peer::Peer;
use crate::hub::{Hub, dhcp, host_mac};
use anyhow::{Context as _, Result};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const HOST: &str = "10.77.0.1";

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("network/ping", 120, |context| ping(context, "idle=poll")),
        Case::new("network/ping_halting_host", 120, |context| ping(context, "idle=hlt")),
        Case::new("network/port_closed", 120, port_closed),
        Case::new("network/dhcp", 120, dhcp_lease),
    ]
}

fn start(context: &Context, hub: &Hub, option: &str) -> Result<Host> {
    hub.capture(&context.dir.join("wire.pcap"))?;
    let spec = HostSpec::new("host", "corei7_skylake_x").option(&format!("ip={HOST}/24")).option(option);
    let mut host = spec.start(&context.dir, Some((hub, 1)))?;
    host.set_deadline(context.deadline);
    host.wait_ready(PATIENCE)?;
    Ok(host)
}

fn peer(hub: &Hub) -> Result<Peer> {
    Ok(Peer::new(hub, 9, "10.77.0.9".parse().context("address")?))
}

fn ping(context: &Context, option: &str) -> Result<()> {
    let hub = Hub::new();
    let _host = start(context, &hub, option)?;
    let mut peer = peer(&hub)?;
    for _ in 0..5 {
        peer.ping(HOST.parse().context("address")?, PATIENCE)?;
    }
    Ok(())
}

/// A host with `ip=dhcp` takes the address it is given, and answers there.
fn dhcp_lease(context: &Context) -> Result<()> {
    let hub = Hub::new();
    hub.capture(&context.dir.join("wire.pcap"))?;
    let spec = HostSpec::new("host", "corei7_skylake_x").option("ip=dhcp").option("idle=poll");
    let mut host = spec.start(&context.dir, Some((&hub, 1)))?;
    host.set_deadline(context.deadline);
    let (server, lease) = ("10.77.0.8".parse()?, "10.77.0.55".parse()?);
    // Nobody answers at first.
    host.console()?.expect("net: warning: no dhcp answer for 10 s", PATIENCE)?;
    let answer = host.command("net ping 10.77.0.9", PATIENCE)?;
    let error = answer.error.context("a ping without an address")?;
    anyhow::ensure!(error.starts_with("failed ping 10.77.0.9: ") && error.contains("address"), "{error}");
    let mac = dhcp::lease(&hub, 8, server, lease, PATIENCE)?;
    anyhow::ensure!(mac == host_mac(1), "the client is {mac:02x?}");
    host.console()?.expect("10.77.0.55", PATIENCE)?;
    peer(&hub)?.ping(lease, PATIENCE)?;
    Ok(())
}

/// Without `migrate=listen` nothing listens.
fn port_closed(context: &Context) -> Result<()> {
    let hub = Hub::new();
    let mut host = start(context, &hub, "idle=poll")?;
    let refused = peer(&hub)?.connect(HOST.parse().context("address")?, 4444, PATIENCE);
    let text = refused.err().context("port 4444 took a connection")?.to_string();
    anyhow::ensure!(text.contains("refused"), "{text}");
    host.command("version", PATIENCE)?;
    Ok(())
}
