//! Network cards that QEMU emulates, and hosts without one; remapped DMA. QEMU's own network gives addresses and answers
//! pings.

use super::{Case, Context, start};
use crate::emu::qemu::Accel;
use crate::host::{Host, HostSpec, Platform};
use anyhow::{Context as _, Result, anyhow, ensure};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// More than a ring has descriptors, twice.
const FRAMES: u64 = 150;
const MAC: &str = "52:54:00:77:00:01";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let pc = ["-machine", "pc"];
    let iommu = ["-machine", "q35", "-device", "intel-iommu"];
    let wide = ["-machine", "q35", "-device", "intel-iommu,aw-bits=48,caching-mode=on"];
    let root_port = ["-device", "pcie-root-port,id=above"];
    let bridge = ["-device", "pcie-pci-bridge,id=above"];
    let ways: [(&str, &str, Vec<&str>, &str); 6] = [
        ("e1000_qemu", "e1000", pc.into(), "8086:100e at 00:02.0 82540EM (e1000)"),
        ("e1000e_qemu", "e1000e", pc.into(), "8086:10d3 at 00:02.0 82574L (e1000e)"),
        ("e1000e_q35_3_gib", "e1000e", vec!["-machine", "q35", "-m", "3G"], "82574L (e1000e)"),
        ("iommu_e1000e", "e1000e", iommu.into(), "82574L (e1000e)"),
        ("iommu_behind_root_port", "e1000e,bus=above", [&wide[..], &root_port].concat(), "at 01:00.0 82574L"),
        ("iommu_behind_pci_bridge", "e1000,bus=above", [&iommu[..], &bridge].concat(), "at 01:00.0 82540EM"),
    ];
    for (name, card, arguments, place) in ways {
        cases.push(Case::new(&format!("nics/{name}"), 120, move |context| {
            network(context, card, &arguments, place)
        }));
    }
    cases.push(Case::new("nics/none_qemu", 120, |context| {
        let mut host = boot(context, &["-machine", "pc"])?;
        host.console()?.expect("net: warning: no supported network card: migration off", PATIENCE)?;
        without_network(&mut host)
    }));
    cases.push(Case::new("nics/unknown_qemu", 120, |context| {
        let mut host = boot(context, &["-netdev", "user,id=n", "-device", "rtl8139,netdev=n,romfile="])?;
        host.console()?.expect("net: warning: no driver for 10ec:8139 at 00:02.0", PATIENCE)?;
        without_network(&mut host)
    }));
    cases.push(Case::new("nics/iommu_off", 120, |context| {
        let spec = HostSpec::new("host", "").option("iommu=off");
        let iommu = ["-machine", "q35", "-device", "intel-iommu"];
        let mut host = boot_with(
            context,
            spec,
            &[&iommu[..], &["-netdev", "user,id=n", "-device", "e1000e,netdev=n,romfile="]].concat(),
        )?;
        host.console()?.expect("iommu: warning: off, as iommu= says: devices trusted", PATIENCE)?;
        host.console()?.expect("net: address 10.0.2.15/24", PATIENCE)?;
        Ok(())
    }));
    // The first card is not known, the second is used.
    cases.push(Case::new("nics/second_qemu", 120, |context| {
        let first = ["-device", "rtl8139,romfile="];
        network(context, "e1000e", &first, "8086:10d3 at 00:03.0 82574L (e1000e)")
    }));
    // Two cards, each with a network of its own: which is used shows in the address.
    let choices: [(&str, &str, Links, Option<u8>); 5] = [
        ("auto", "auto", Links::Both, Some(FIRST)),
        ("without_a_link", "auto", Links::Second, Some(SECOND)),
        ("by_mac", "52-54-00-77-00-04", Links::Both, Some(SECOND)),
        ("by_place", "00:03.0", Links::Both, Some(SECOND)),
        ("of_none", "52:54:00:77:00:05", Links::Both, None),
    ];
    for (name, choice, links, used) in choices {
        cases.push(Case::new(&format!("nics/choice_{name}"), 120, move |context| {
            chosen(context, choice, links, used)
        }));
    }
    cases
}

/// A port of this machine that nobody has right now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn boot(context: &Context, arguments: &[&str]) -> Result<Host> {
    boot_with(context, HostSpec::new("host", ""), arguments)
}

fn boot_with(context: &Context, spec: HostSpec, arguments: &[&str]) -> Result<Host> {
    let mut spec = spec.option("ip=dhcp");
    spec.platform = Platform::Qemu(Accel::Tcg);
    spec.qemu = arguments.iter().map(ToString::to_string).collect();
    start(context, &spec)
}

/// A card by which the host gets an address and reaches another.
fn network(context: &Context, card: &str, arguments: &[&str], place: &str) -> Result<()> {
    let card = format!("{card},netdev=n,romfile=,mac={MAC}");
    let port = free_port()?;
    let user = format!("user,id=n,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:9");
    let user = ["-netdev", &user, "-device", &card];
    let mut host = boot(context, &[arguments, &user].concat())?;
    if arguments.iter().any(|argument| argument.contains("intel-iommu")) {
        host.console()?.expect("iommu: on, 1 remapping unit: no device reaches memory", PATIENCE)?;
        host.console()?.expect("reaches 260 KiB, all others nothing", PATIENCE)?;
    } else {
        host.console()?.expect("iommu: no IOMMU: devices trusted", PATIENCE)?;
    }
    host.console()?.expect(place, PATIENCE)?;
    host.console()?.expect("net: address 10.0.2.15/24 gateway 10.0.2.2 (dhcp)", PATIENCE)?;
    let show = host.command("net show", PATIENCE)?.lines.join("\n");
    for wanted in [place, MAC, "link up, 1000 Mbit/s", "10.0.2.15/24"] {
        ensure!(show.contains(wanted), "no `{wanted}` in {show}");
    }
    let ping = host.command("net ping 10.0.2.2", PATIENCE)?;
    ensure!(ping.error.is_none(), "ping: {ping:?}");
    // Each is a frame in and a frame out, as nothing listens there: the rings go round more than once.
    for _ in 0..FRAMES {
        let mut refused = TcpStream::connect(("127.0.0.1", port))?;
        refused.set_read_timeout(Some(PATIENCE))?;
        let ended = refused.read(&mut [0]);
        ensure!(!matches!(ended, Ok(1..)), "port 9 answered");
    }
    let stats = host.command("net stats", PATIENCE)?.lines.join("\n");
    let count = |name: &str| -> Result<u64> {
        let line = stats.lines().find(|line| line.starts_with(name)).context("no such counter")?;
        Ok(line.split_whitespace().last().context("no number")?.parse()?)
    };
    ensure!(count("rx_frames")? > FRAMES && count("tx_frames")? > FRAMES, "{stats}");
    ensure!(count("rx_damaged")? == 0, "{stats}");
    ensure!(!host.console()?.text().contains("was stopped"), "an access of the card was stopped");
    Ok(())
}

/// Which of two cards have a link.
#[derive(Clone, Copy)]
enum Links {
    Both,
    Second,
}

/// Last byte of the cards' addresses, third of their networks'.
const FIRST: u8 = 3;
const SECOND: u8 = 4;

/// A host with two cards uses one of them, or none, and says so of the other.
fn chosen(context: &Context, choice: &str, links: Links, used: Option<u8>) -> Result<()> {
    let mut arguments = Vec::new();
    for card in [FIRST, SECOND] {
        let net = format!("user,id=net{card},net=10.0.{card}.0/24");
        let device = format!("e1000e,netdev=net{card},id=card{card},romfile=,mac=52:54:00:77:00:{card:02x}");
        arguments.extend(["-netdev".to_string(), net, "-device".to_string(), device]);
    }
    // The emulator asks what to do before the machine starts.
    let monitor = TcpListener::bind(("127.0.0.1", 0))?;
    let at = format!("tcp:{}", monitor.local_addr()?);
    arguments.extend(["-S", "-monitor", &at].map(str::to_string));
    let down = match links {
        Links::Both => String::new(),
        Links::Second => format!("set_link card{FIRST} off\n"),
    };
    let told = thread::spawn(move || -> Result<TcpStream> {
        let (mut link, _) = monitor.accept()?;
        link.write_all(format!("{down}cont\n").as_bytes())?;
        Ok(link)
    });
    let spec = HostSpec::new("host", "").option(&format!("nic={choice}"));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut host = boot_with(context, spec, &arguments)?;
    let _open = told.join().map_err(|_| anyhow!("the monitor's thread panicked"))??;
    for card in [FIRST, SECOND].into_iter().filter(|card| used != Some(*card) && !choice.contains('.')) {
        let up = if card == FIRST && matches!(links, Links::Second) { "down" } else { "up" };
        let line = host.console()?.expect_line("the other card", PATIENCE, |line| {
            line.contains(&format!("mac 52:54:00:77:00:{card:02x} link {up}")).then(|| line.to_string())
        })?;
        ensure!(line.ends_with(": not used"), "{line}");
    }
    match used {
        Some(card) => {
            host.console()?.expect(&format!("net: address 10.0.{card}.15/24"), PATIENCE)?;
        }
        None => {
            let why = format!("net: error: no network card {choice} that works, as nic= wants it");
            host.console()?.expect(&why, PATIENCE)?;
            without_network(&mut host)?;
        }
    }
    Ok(())
}

/// The host is up, and says what it cannot do.
fn without_network(host: &mut Host) -> Result<()> {
    let wanted = |line: &str| line.split_once("ready: ").map(|(_, rest)| rest.to_string());
    let ready = host.console()?.expect_line("ready: ", PATIENCE, wanted)?;
    ensure!(ready.ends_with("migration off"), "{ready}");
    let show = host.command("net show", PATIENCE)?;
    ensure!(show.lines.iter().any(|line| line == "no network"), "{show:?}");
    for command in ["net ping 10.0.2.2", "migrate demo 10.0.2.2", "migrate demo 10.0.2.2:4444"] {
        let error =
            host.command(command, PATIENCE)?.error.with_context(|| format!("{command} went through"))?;
        let (code, text) = error.split_once(' ').context("no text")?;
        ensure!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !text.is_empty(), "{error}");
    }
    ensure!(host.command("version", PATIENCE)?.error.is_none());
    Ok(())
}
