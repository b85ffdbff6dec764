//! The host's network: card, switch and TCP/IP of the `net` crate, polled by CPU 0.

mod nic;

use core::fmt::{self, Write};

use cmdline::{HostOptions, IpConfig};
use net::{AddressConfig, AddressEvent, Host, Link, MAX_SOCKETS, NetError, Nic, Stack};
use spin::Mutex;

use crate::arch::pci::Function;
use crate::arch::tsc;
use crate::{entropy, meter};
use nic::Card;

/// How often the card is asked for its link.
const LINK_CHECK_US: u64 = 1_000_000;

struct Network {
    function: &'static Function,
    host: Host<Card>,
    link: Link,
    next_link_check_us: u64,
    busy_ticks: u64,
}

static NETWORK: Mutex<Option<Network>> = Mutex::new(None);

/// Brings the network up as the boot line wants it. Returns whether there is one; the host runs without, too.
pub(crate) fn init(options: &HostOptions) -> bool {
    let config = match options.ip {
        IpConfig::Off => {
            log::info!(target: "net", "off, as no ip= says otherwise: migration off");
            return false;
        }
        IpConfig::Dhcp => AddressConfig::Dhcp,
        IpConfig::Static { address, prefix, gateway } => {
            AddressConfig::Static { ip: address, prefix, gateway }
        }
    };
    let Some((function, card)) = nic::find() else {
        log::warn!(target: "net", "no supported network card: migration off");
        return false;
    };
    let (mac, link) = (card.mac(), card.link());
    log::info!(target: "net", "{} mac {mac} {link}", Place(function));
    let now_us = tsc::micros();
    entropy::add_mac(&mac.0);
    let host = match Host::new(card, config, entropy::next(), now_us) {
        Ok(host) => host,
        Err(error) => {
            function.disable_bus_master();
            log::error!(target: "net", "{error}: migration off");
            return false;
        }
    };
    if config == AddressConfig::Dhcp {
        log::info!(target: "net", "asking for an address by dhcp");
    }
    let mut network =
        Network { function, host, link, next_link_check_us: now_us + LINK_CHECK_US, busy_ticks: 0 };
    network.report();
    *NETWORK.lock() = Some(network);
    true
}

/// Moves frames and runs timers once, `now_us` being [`tsc::micros`]. Returns whether anything happened: if so, call
/// again before halting.
pub(crate) fn poll(now_us: u64) -> bool {
    let mut guard = NETWORK.lock();
    let Some(network) = guard.as_mut() else { return false };
    let before = tsc::read();
    let busy = network.host.poll(now_us);
    if busy {
        network.busy_ticks += tsc::read() - before;
        meter::found();
    }
    if now_us >= network.next_link_check_us {
        network.next_link_check_us = now_us + LINK_CHECK_US;
        let link = network.host.nic().link();
        if link != network.link {
            network.link = link;
            log::warn!(target: "net", "{link}");
        }
    }
    network.report();
    busy
}

/// Host TSC ticks that frames and TCP/IP took since the start; a [`poll`] that found nothing to do is not counted.
pub(crate) fn busy_ticks() -> u64 {
    NETWORK.lock().as_ref().map_or(0, |network| network.busy_ticks)
}

/// Uses the host's TCP/IP: connect, listen, send and receive of [`Stack`]. Sent bytes leave with the next [`poll`].
/// A host without network answers [`NetError::NoAddress`].
pub(crate) fn with_stack<R>(f: impl FnOnce(&mut Stack) -> Result<R, NetError>) -> Result<R, NetError> {
    match NETWORK.lock().as_mut() {
        Some(network) => f(network.host.stack()),
        None => Err(NetError::NoAddress),
    }
}

/// The card's address; none without a network.
pub(crate) fn mac() -> Option<[u8; 6]> {
    Some(NETWORK.lock().as_mut()?.host.nic().mac().0)
}

/// The host's IPv4 address, while it has one.
pub(crate) fn address() -> Option<core::net::Ipv4Addr> {
    Some(NETWORK.lock().as_mut()?.host.stack().address()?.ip)
}

/// Stops the card, so that it writes to memory no more: before a reboot.
pub(crate) fn shut_down() {
    if let Some(mut network) = NETWORK.lock().take()
        && let Err(error) = network.host.nic().shut_down()
    {
        log::warn!(target: "net", "{error}");
    }
}

impl Network {
    fn report(&mut self) {
        match self.host.take_address_event() {
            Some(AddressEvent::Acquired(address)) => log::info!(target: "net", "address {address}"),
            Some(AddressEvent::Lost) => log::warn!(target: "net", "address lost: the dhcp lease ended"),
            None => {}
        }
    }

    fn show(&mut self, out: &mut impl Write) -> fmt::Result {
        let host = &mut self.host;
        let link = host.nic().link();
        writeln!(out, "card     {} mac {}, {link}", Place(self.function), host.nic().mac())?;
        match host.stack().address() {
            Some(address) => writeln!(out, "address  {address}")?,
            None => writeln!(out, "address  none yet (dhcp)")?,
        }
        let card = host.nic().counters();
        let (uplink, port) = host.ports();
        let refused = host.stack().refused();
        let (wire, stack) = (host.switch().counters(uplink), host.switch().counters(port));
        writeln!(
            out,
            "received {} frames, {} bytes; {} damaged, {} unfit, {} dropped",
            card.rx_frames,
            card.rx_bytes,
            card.rx_bad,
            wire.in_bad + refused,
            stack.out_dropped
        )?;
        writeln!(
            out,
            "sent     {} frames, {} bytes; {} dropped",
            card.tx_frames, card.tx_bytes, wire.out_dropped
        )?;
        writeln!(out, "tcp      {} of {MAX_SOCKETS} connections", host.stack().connections())
    }
}

/// A card's ids and place.
struct Place<'a>(&'a Function);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place(function) = self;
        write!(f, "{:04x}:{:04x} at {}", function.vendor, function.device, function.address)
    }
}

/// Writes card, address and counters: the console's `net`.
pub(crate) fn show(out: &mut impl Write) {
    let mut guard = NETWORK.lock();
    let _ = match guard.as_mut() {
        Some(network) => network.show(out),
        None => writeln!(out, "no network"),
    };
}
