//! Links to other hosts: one port, one handshake, then migration or pool by the service that was asked for.
//!
//! The protocol is `crates/secure-link`; here are the host's keys, the keys of others as first seen, the slots and
//! time limits of handshakes, and what hands a link to its service. CPU 0's management loop polls all of it.

mod incoming;
mod keys;
mod outgoing;
mod pins;
mod stream;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use cmdline::{HostOptions, Secret, Secrets};
use net::Listener;
use secure_link::{PublicKey, Security};

use crate::lock::{self, Mutex};
use crate::net as network;
use hw::arch::{tsc, vector};
use incoming::{Incoming, Offers};
pub(crate) use outgoing::Dial;
pub(crate) use pins::Pin;
use pins::Pins;
pub(crate) use secure_link::Service;
pub(crate) use stream::{Bound, Link};

/// Connections that come in and exist at the same time, of all services.
const MAX_INCOMING: usize = 20;
/// Where a host listens that is not told where.
const DEFAULT_PORT: u16 = 4444;
/// How long the last words of a link may take to leave, in microseconds.
const LINGER_US: u64 = 2_000_000;

struct Links {
    /// How links are secured, or why there are none.
    security: Result<Security, String>,
    host_key: Option<Secret>,
    /// Migrations and the pool are offered where it listens, not management alone.
    migrates: bool,
    /// Where this host listens, or would.
    port: Option<u16>,
    listener: Option<Listener>,
    offers: Offers,
    incoming: Incoming,
    pins: Pins,
    closing: Vec<(Link, u64)>,
}

static LINKS: Mutex<Links> = Mutex::new(
    lock::LINKS,
    Links {
        security: Err(String::new()),
        host_key: None,
        migrates: false,
        port: None,
        listener: None,
        offers: Offers::new(),
        incoming: Incoming::new(),
        pins: Pins::new(),
        closing: Vec::new(),
    },
);

/// Takes the keys that the boot line and the boot modules give, and listens if the boot line says so. The answer is
/// for the line `ready:`.
pub(crate) fn init(options: &HostOptions, secrets: Secrets, key_module: Option<&[u8]>) -> String {
    vector::init();
    let mut links = LINKS.lock();
    links.migrates = options.migrate_port.is_some();
    links.port = options.migrate_port.or(options.manage.then_some(DEFAULT_PORT));
    links.security = keys::choose(options.insecure, &secrets, key_module);
    links.host_key = secrets.host_key;
    match &links.security {
        Ok(Security::Insecure) => warn_insecure(),
        Ok(Security::Keyed { host, .. }) => {
            log::info!(target: "link", "this host's key is {}", host.public());
        }
        Err(why) if links.port.is_some() => log::error!(target: "link", "not listening: {why}"),
        Err(why) => log::info!(target: "link", "off: {why}"),
    }
    links.listen()
}

fn warn_insecure() {
    log::warn!(target: "link", "INSECURE, as the boot line asks: links are neither authenticated nor encrypted");
    log::warn!(target: "link", "INSECURE: whoever reaches this host can start VMs on it, read guests and change them");
}

/// Another pool key, for links from now on; a host that could not listen for want of one does so now.
///
/// # Errors
/// Why the key is not taken.
pub(crate) fn set_key(key: &Secret) -> Result<(), String> {
    let mut links = LINKS.lock();
    let security = keys::keyed(key, links.host_key.as_ref())?;
    links.security = Ok(match (security, &links.security) {
        // The host stays who it was.
        (Security::Keyed { pool, .. }, Ok(Security::Keyed { host, .. })) => {
            Security::Keyed { pool, host: host.clone() }
        }
        (new, _) => new,
    });
    log::info!(target: "link", "new pool key");
    if links.listener.is_none() {
        let status = links.listen();
        log::info!(target: "link", "{status}");
    }
    Ok(())
}

/// This host's key and the keys of others; `None` where this host has none.
pub(crate) fn keys() -> (Option<PublicKey>, Vec<Pin>) {
    let links = LINKS.lock();
    let own = match &links.security {
        Ok(Security::Keyed { host, .. }) => Some(host.public()),
        _ => None,
    };
    (own, links.pins.all())
}

/// Forgets the key of a host; false where none was known.
pub(crate) fn forget(host: Ipv4Addr) -> bool {
    LINKS.lock().pins.forget(host)
}

/// Says how many more links a service takes; `None` where it is not offered.
pub(crate) fn offer(service: Service, places: Option<usize>) {
    let mut links = LINKS.lock();
    let offered = links.migrates || service == Service::Manage;
    links.offers.set(service, places.filter(|_| offered));
}

/// A link that came in for a service, if one did.
pub(crate) fn take(service: Service) -> Option<Link> {
    LINKS.lock().incoming.take(service)
}

/// Where this host listens for migrations, if it does.
pub(crate) fn port() -> Option<u16> {
    let links = LINKS.lock();
    links.listener.and(links.port).filter(|_| links.migrates)
}

/// Begins to connect to another host.
///
/// # Errors
/// Why not, in words; nothing has begun.
pub(crate) fn dial(service: Service, to: SocketAddrV4) -> Result<Dial, String> {
    ready()?;
    match &LINKS.lock().security {
        Ok(security) => Dial::new(service, to, security),
        Err(why) => Err(why.clone()),
    }
}

/// Whether this host can connect to others at all.
///
/// # Errors
/// Why not, in words.
pub(crate) fn ready() -> Result<(), String> {
    match &LINKS.lock().security {
        Ok(_) => Ok(()),
        // Nothing was chosen where links are of no use.
        Err(why) if why.is_empty() => Err(network::missing()),
        Err(why) => Err(why.clone()),
    }
}

/// Takes connections, lets handshakes and farewells go on. True while there are any.
pub(crate) fn poll() -> bool {
    let mut links = LINKS.lock();
    let links = &mut *links;
    let now = tsc::micros();
    if let (Some(listener), Ok(security)) = (links.listener, &links.security) {
        let stale = links.incoming.poll(listener, security, links.offers, &mut links.pins);
        links.closing.extend(stale.into_iter().map(|link| (link, now)));
    }
    links.closing.retain_mut(|(link, since)| {
        let over = link.finish() || now.saturating_sub(*since) > LINGER_US;
        if over {
            let _ = network::with_stack(|stack| stack.close(link.connection()));
        }
        !over
    });
    links.incoming.is_busy() || !links.closing.is_empty()
}

/// Ends a link in order; what has not left yet does so in later polls.
fn close(mut link: Link) {
    if link.finish() {
        let _ = network::with_stack(|stack| stack.close(link.connection()));
    } else {
        LINKS.lock().closing.push((link, tsc::micros()));
    }
}

/// Checks the key of a host that this one connected to, and remembers it.
fn meet(link: &Link) -> Result<(), String> {
    let mut links = LINKS.lock();
    if let Some(key) = link.peer_key() {
        links.pins.check(*link.peer().ip(), &key)?;
    }
    welcome(link, &mut links.pins);
    Ok(())
}

/// Remembers the key of a host that has proven it, and says so the first time.
fn welcome(link: &Link, pins: &mut Pins) {
    let (peer, service) = (link.peer(), link.service().name());
    match link.peer_key() {
        None => log::warn!(target: "link", "{peer}: {service}, INSECURE"),
        Some(key) if pins.remember(*peer.ip(), key, tsc::micros()) => {
            log::info!(target: "link", "{peer}: {service}, first seen with key {key}");
        }
        Some(_) => log::debug!(target: "link", "{peer}: {service}"),
    }
}

impl Links {
    /// Listens if it may; the answer is for the line `ready:`.
    fn listen(&mut self) -> String {
        let (Some(port), Ok(security)) = (self.port, &self.security) else {
            return "migration off".into();
        };
        match network::with_stack(|stack| stack.listen(port, MAX_INCOMING)) {
            Ok(listener) => {
                self.listener = Some(listener);
                let what = if self.migrates { "migration" } else { "migration off, management" };
                match security {
                    Security::Insecure => format!("{what} port {port}, INSECURE"),
                    Security::Keyed { .. } => format!("{what} port {port}"),
                }
            }
            Err(error) => {
                log::error!(target: "link", "port {port}: {error}");
                "migration off".into()
            }
        }
    }
}
