//! A server on the hub: files by TFTP and HTTP, and for a boot server DHCP by the rules of a dnsmasq configuration.

mod dhcp;
mod http;
mod ipv6;
mod rules;
mod shelf;
mod tftp;

pub use rules::Rules;
pub use shelf::Way;

use super::Hub;
use super::peer::Wire;
use anyhow::Result;
use http::Http;
use shelf::Shelf;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::udp;
use smoltcp::time::Instant as NetInstant;
use smoltcp::wire::Ipv4Address;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tftp::Tftp;

/// The boot server's address, as the sample configuration has it.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// The server; it works until it is dropped.
pub struct Server {
    over: Arc<AtomicBool>,
    shelf: Arc<Shelf>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// A boot server at [`ADDRESS`], station `index` of the hub: `folder`, to whom `rules` send there.
    pub fn boot(hub: &Hub, index: u8, folder: &Path, rules: Rules) -> Result<Self> {
        Self::start(hub, index, ADDRESS, Shelf::new(Some(folder.canonicalize()?)), Some(rules))
    }

    /// Station `index` with the address `ip`/24: the files that it is given by [`Self::put`].
    pub fn files(hub: &Hub, index: u8, ip: Ipv4Addr) -> Result<Self> {
        Self::start(hub, index, ip, Shelf::default(), None)
    }

    fn start(hub: &Hub, index: u8, ip: Ipv4Addr, shelf: Shelf, rules: Option<Rules>) -> Result<Self> {
        let (over, shelf) = (Arc::<AtomicBool>::default(), Arc::new(shelf));
        let own = super::host_mac(index);
        let (mut wire, mut interface) = Wire::new(hub, index, ip);
        let mut sockets = SocketSet::new(Vec::new());
        let dhcp = match rules {
            Some(rules) => Some((open(&mut sockets, dhcp::PORT)?, dhcp::Leases::new(rules))),
            None => None,
        };
        let (tftp, http) = (Tftp::new(&mut sockets)?, Http::new(&mut sockets));
        let mut service = Service { dhcp, tftp, http, shelf: Arc::clone(&shelf) };
        let ending = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let began = Instant::now();
            while !ending.load(Ordering::Relaxed) {
                wire.wait(Duration::from_millis(2));
                if let Some(answer) = wire.pending().and_then(|frame| ipv6::no_router(frame, own)) {
                    wire.send(&answer);
                }
                for _ in 0..2 {
                    // What came in is answered in the same turn.
                    let now = NetInstant::from_micros(began.elapsed().as_micros() as i64);
                    interface.poll(now, &mut wire, &mut sockets);
                    service.run(&mut sockets);
                }
            }
        });
        Ok(Self { over, shelf, thread: Some(thread) })
    }

    /// Gives out `bytes` as `path` from now on, in place of a file of the folder that is called so.
    pub fn put(&self, path: &str, bytes: Vec<u8>, way: Way) {
        self.shelf.put(path, bytes, way);
    }

    /// What was asked for so far: `dhcp MAC FILE`, `tftp FILE`, `http FILE`, with ` (none)` for what is not there.
    pub fn asked(&self) -> Vec<String> {
        self.shelf.asked()
    }

    /// TFTP transfers that are open: neither acknowledged to the last block nor given up by a message.
    pub fn open(&self) -> usize {
        self.shelf.open()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Service {
    dhcp: Option<(SocketHandle, dhcp::Leases)>,
    tftp: Tftp,
    http: Http,
    shelf: Arc<Shelf>,
}

impl Service {
    fn run(&mut self, sockets: &mut SocketSet<'static>) {
        if let Some((handle, leases)) = &mut self.dhcp {
            let socket = sockets.get_mut::<udp::Socket<'_>>(*handle);
            while let Ok((data, _)) = socket.recv() {
                if let Some((reply, line)) = leases.answer(data) {
                    self.shelf.note(line);
                    // A client without an address is reached by broadcasts alone.
                    let _ = socket.send_slice(&reply, (Ipv4Address::BROADCAST, dhcp::CLIENT_PORT));
                }
            }
        }
        self.tftp.run(sockets, &self.shelf);
        self.http.run(sockets, &self.shelf);
    }
}

fn open(sockets: &mut SocketSet<'static>, port: u16) -> Result<SocketHandle> {
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 16 << 10]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    socket.bind(port).map_err(|error| anyhow::anyhow!("UDP port {port}: {error}"))?;
    Ok(sockets.add(socket))
}

#[cfg(test)]
mod tests;
