//! The host's network: card, switch and TCP/IP of the crates `nic`, `switch` and `net`, polled by CPU 0.

mod nic;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use ::nic::intel::{LoopError, Model};
use cmdline::{HostOptions, IpConfig};
use migrate::Arrival;
use net::{AddressConfig, AddressEvent, Host, MAX_SOCKETS, NetError, Stack};
use spin::Once;
use switch::{Link, Nic};

use crate::lock::{self, Mutex};
use crate::{entropy, iommu, meter};
use hw::arch::tsc;
use hw::platform::pci::Function;
use nic::{Card, Found};

/// How often the card is asked for its link.
const LINK_CHECK_US: u64 = 1_000_000;

/// Without an answer for so long the operator is told, in microseconds.
const DHCP_PATIENCE_US: u64 = 10_000_000;

struct Network {
    function: &'static Function,
    model: &'static Model,
    host: Host<Card>,
    link: Link,
    next_link_check_us: u64,
    /// Since when an address is asked for, until somebody is told that none comes.
    asks_since_us: Option<u64>,
    busy_ticks: u64,
    arrival: Arrival,
}

/// Host TSC at which the frames came that the last poll with any has found.
static CAME: AtomicU64 = AtomicU64::new(0);

static NETWORK: Mutex<Option<Network>> = Mutex::new(lock::NETWORK, None);

/// Brings the network up as the boot line wants it. Returns whether there is one; the host runs without, too.
pub(crate) fn init(options: &HostOptions) -> bool {
    let config = match options.ip {
        IpConfig::Off => {
            log::info!(target: "net", "off, as no ip= says otherwise: migration off");
            return lacks("say `ip=` on the command line".into());
        }
        IpConfig::Dhcp => AddressConfig::Dhcp,
        IpConfig::Static { address, prefix, gateway } => {
            AddressConfig::Static { ip: address, prefix, gateway }
        }
    };
    let Some(Found { function, model, card }) = nic::find(options.nic) else {
        log::warn!(target: "net", "no supported network card: migration off");
        return lacks("no supported network card".into());
    };
    let (mac, link) = (card.mac(), card.link());
    log::info!(target: "net", "{} {model} mac {mac} {link}", Place(function));
    let now_us = tsc::micros();
    entropy::add_mac(&mac.0);
    let host = match Host::new(card, config, entropy::next(), now_us) {
        Ok(host) => host,
        Err(error) => {
            function.disable_bus_master();
            log::error!(target: "net", "{error}: migration off");
            return lacks(format!("{error}"));
        }
    };
    if config == AddressConfig::Dhcp {
        log::info!(target: "net", "asking for an address by dhcp");
    }
    let mut network = Network {
        function,
        model,
        host,
        link,
        next_link_check_us: now_us + LINK_CHECK_US,
        asks_since_us: (config == AddressConfig::Dhcp).then_some(now_us),
        busy_ticks: 0,
        arrival: Arrival::new(),
    };
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
    let after = tsc::read();
    network.arrival.look(before, after, busy);
    if busy {
        CAME.store(network.arrival.came(), Ordering::Relaxed);
        network.busy_ticks += after - before;
        meter::found();
    }
    if now_us >= network.next_link_check_us {
        network.next_link_check_us = now_us + LINK_CHECK_US;
        iommu::poll();
        let link = network.host.nic().link();
        if link != network.link {
            network.link = link;
            log::warn!(target: "net", "{link}");
        }
        network.miss_address(now_us);
    }
    network.report();
    busy
}

/// Host TSC at which the frames came that the last [`poll`] with any has found, to half of the time between two polls.
pub(crate) fn came() -> u64 {
    CAME.load(Ordering::Relaxed)
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

/// Has the card send frames to itself ([`::nic::intel::Card::try_loop`]) and gives how many, or how many connections it has: then
/// it is left alone. None without a network. What came off the wire before is taken in first.
pub(crate) fn try_loop() -> Option<Result<Result<usize, LoopError>, usize>> {
    let mut guard = NETWORK.lock();
    let host = &mut guard.as_mut()?.host;
    let connections = host.stack().connections();
    if connections > 0 {
        return Some(Err(connections));
    }
    host.poll(tsc::micros());
    Some(Ok(host.nic().try_loop()))
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
    /// Says once that nobody answers.
    fn miss_address(&mut self, now_us: u64) {
        let due = |since: &mut u64| now_us.saturating_sub(*since) >= DHCP_PATIENCE_US;
        if self.asks_since_us.take_if(due).is_some() && self.host.stack().address().is_none() {
            let (seconds, link) = (DHCP_PATIENCE_US / 1_000_000, self.link);
            log::warn!(
                target: "net",
                "no dhcp answer for {seconds} s ({link}): still asking; ip=A.B.C.D/M on the boot line needs no server"
            );
        }
    }

    fn report(&mut self) {
        match self.host.take_address_event() {
            Some(AddressEvent::Acquired(address)) => log::info!(target: "net", "address {address}"),
            Some(AddressEvent::Lost) => log::warn!(target: "net", "address lost: the dhcp lease ended"),
            None => {}
        }
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

/// What the console shows of the card.
pub(crate) struct CardInfo {
    /// PCI ids and address, model and driver.
    pub(crate) place: String,
    /// Its Ethernet address.
    pub(crate) mac: String,
    /// The link is up.
    pub(crate) up: bool,
    /// The link in words.
    pub(crate) link: String,
    /// IP address with prefix and gateway, while there is one.
    pub(crate) address: Option<String>,
}

/// Why there is no network.
static LACKS: Once<String> = Once::new();

/// What `init` answers without a network.
fn lacks(why: String) -> bool {
    LACKS.call_once(|| why);
    false
}

/// What a command that takes a network says where there is none.
pub(crate) fn missing() -> String {
    format!("this host has no network: {}", LACKS.get().map_or("it has not come up", String::as_str))
}

/// The card as it is now; none without a network.
pub(crate) fn card() -> Option<CardInfo> {
    let mut guard = NETWORK.lock();
    let network = guard.as_mut()?;
    let link = network.host.nic().link();
    Some(CardInfo {
        place: format!("{} {}", Place(network.function), network.model),
        mac: network.host.nic().mac().to_string(),
        up: matches!(link, Link::Up(_)),
        link: link.to_string(),
        address: network.host.stack().address().map(|address| address.to_string()),
    })
}

/// Counters since the start.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counters {
    pub(crate) rx_frames: u64,
    pub(crate) rx_bytes: u64,
    rx_damaged: u64,
    rx_unfit: u64,
    rx_dropped: u64,
    pub(crate) tx_frames: u64,
    pub(crate) tx_bytes: u64,
    tx_dropped: u64,
    tcp_connections: u64,
    busy_ticks: u64,
}

/// The name of the one counter that is in ticks.
pub(crate) const BUSY: &str = "busy_ticks";

impl Counters {
    /// Each with its name.
    pub(crate) fn rows(&self) -> Vec<(&'static str, u64)> {
        Vec::from([
            ("rx_frames", self.rx_frames),
            ("rx_bytes", self.rx_bytes),
            ("rx_damaged", self.rx_damaged),
            ("rx_unfit", self.rx_unfit),
            ("rx_dropped", self.rx_dropped),
            ("tx_frames", self.tx_frames),
            ("tx_bytes", self.tx_bytes),
            ("tx_dropped", self.tx_dropped),
            ("tcp_connections", self.tcp_connections),
            ("tcp_most", MAX_SOCKETS as u64),
            (BUSY, self.busy_ticks),
        ])
    }
}

/// The counters as they are now; none without a network.
pub(crate) fn counters() -> Option<Counters> {
    let mut guard = NETWORK.lock();
    let network = guard.as_mut()?;
    let (card, host) = (network.host.nic().counters(), &mut network.host);
    let (uplink, port) = host.ports();
    let refused = host.stack().refused();
    let (wire, stack) = (host.switch().counters(uplink), host.switch().counters(port));
    Some(Counters {
        rx_frames: card.rx_frames,
        rx_bytes: card.rx_bytes,
        rx_damaged: card.rx_bad,
        rx_unfit: wire.in_bad + refused,
        rx_dropped: stack.out_dropped,
        tx_frames: card.tx_frames,
        tx_bytes: card.tx_bytes,
        tx_dropped: wire.out_dropped,
        tcp_connections: host.stack().connections() as u64,
        busy_ticks: network.busy_ticks,
    })
}
