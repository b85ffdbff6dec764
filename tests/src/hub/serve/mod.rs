//! A boot server on the hub: DHCP by the rules of a dnsmasq configuration, and one folder by TFTP and HTTP.

mod dhcp;
mod http;
mod ipv6;
mod rules;
mod tftp;

pub use rules::Rules;

use super::Hub;
use super::peer::Wire;
use anyhow::Result;
use http::Http;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::udp;
use smoltcp::time::Instant as NetInstant;
use smoltcp::wire::Ipv4Address;
use std::net::Ipv4Addr;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tftp::Tftp;

/// The server's own address, as the sample configuration has it.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// The server; it works until it is dropped.
pub struct Server {
    over: Arc<AtomicBool>,
    log: Log,
    thread: Option<JoinHandle<()>>,
}

/// What it was asked for, a line each.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn say(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// The folder that is served.
struct Folder(PathBuf);

impl Folder {
    /// The file of that name; none where there is no such file within the folder.
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let name = Path::new(name.trim_start_matches('/'));
        let inside = name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if inside { std::fs::read(self.0.join(name)).ok() } else { None }
    }
}

impl Server {
    /// Serves `folder` as station `index` of the hub.
    pub fn new(hub: &Hub, index: u8, folder: &Path, rules: Rules) -> Result<Self> {
        let folder = Folder(folder.canonicalize()?);
        let (over, log) = (Arc::<AtomicBool>::default(), Log::default());
        let own = super::host_mac(index);
        let (mut wire, mut interface) = Wire::new(hub, index, ADDRESS);
        let mut sockets = SocketSet::new(Vec::new());
        let leases = open(&mut sockets, dhcp::PORT)?;
        let files = Tftp::new(&mut sockets)?;
        let pages = Http::new(&mut sockets)?;
        let mut service = Service {
            dhcp: (leases, dhcp::Leases::new(rules)),
            tftp: files,
            http: pages,
            folder,
            log: log.clone(),
        };
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
        Ok(Self { over, log, thread: Some(thread) })
    }

    /// What was asked for so far: `dhcp MAC FILE`, `tftp FILE`, `http FILE`, with ` (none)` for what is not there.
    pub fn asked(&self) -> Vec<String> {
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
    dhcp: (SocketHandle, dhcp::Leases),
    tftp: Tftp,
    http: Http,
    folder: Folder,
    log: Log,
}

impl Service {
    fn run(&mut self, sockets: &mut SocketSet<'static>) {
        let (handle, leases) = &mut self.dhcp;
        let socket = sockets.get_mut::<udp::Socket<'_>>(*handle);
        while let Ok((data, _)) = socket.recv() {
            if let Some((reply, line)) = leases.answer(data) {
                self.log.say(line);
                // A client without an address is reached by broadcasts alone.
                let _ = socket.send_slice(&reply, (Ipv4Address::BROADCAST, dhcp::CLIENT_PORT));
            }
        }
        self.tftp.run(sockets, &self.folder, &self.log);
        self.http.run(sockets, &self.folder, &self.log);
    }
}

fn open(sockets: &mut SocketSet<'static>, port: u16) -> Result<SocketHandle> {
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 16 << 10]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    socket.bind(port).map_err(|error| anyhow::anyhow!("UDP port {port}: {error}"))?;
    Ok(sockets.add(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::peer::Peer;

    #[test]
    fn a_station_fetches_by_http() {
        let dir = std::env::temp_dir().join(format!("serve-test-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let body: Vec<u8> = (0..200_000_u32).map(|i| ((i * 7919) >> 8) as u8).collect();
        std::fs::write(dir.join("a"), &body).unwrap();
        let hub = Hub::new();
        let server = Server::new(&hub, 1, &dir, Rules::default()).unwrap();
        let mut peer = Peer::new(&hub, 2, Ipv4Addr::new(10, 0, 0, 2));
        let patience = Duration::from_secs(10);
        let connection = peer.connect(ADDRESS, 80, patience).unwrap();
        let request = "HEAD /a HTTP/1.1\r\n\r\nGET /a HTTP/1.1\r\nConnection: close\r\n\r\n";
        peer.send(connection, request.as_bytes(), patience).unwrap();
        let (bytes, closed) = peer.read_to_end(connection, patience);
        assert!(closed && bytes.ends_with(&body), "{} bytes", bytes.len());
        assert_eq!(server.asked(), ["http a", "http a"]);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn nothing_outside_of_the_folder_is_served() {
        let folder = Folder(std::env::temp_dir());
        assert_eq!(folder.read("../etc/passwd"), None);
        assert_eq!(folder.read("//etc/passwd"), None);
        assert_eq!(folder.read(""), None);
    }
}
