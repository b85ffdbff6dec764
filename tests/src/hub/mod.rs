//! An Ethernet hub between emulated hosts. Each host's frames are UDP datagrams (Bochs' `ethmod=socket`); a plan may
//! cut links and drop or delay frames, and everything that passes can be captured.

pub mod dhcp;
mod frame;
mod pcap;
pub mod peer;
pub mod serve;
pub mod station;
pub mod stream;

pub use frame::{BROADCAST, Frame, Segment};

use crate::emu::Nic;
use anyhow::{Context, Result, bail};
use pcap::Capture;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering as Atomic};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to every other port.
    Pass,
    /// It is lost.
    Drop,
    /// It goes on later: behind those that follow it meanwhile.
    Delay(Duration),
    /// It goes to every other port twice.
    Double,
}

/// Decides about each frame, given the index of the port that it comes from.
pub type Filter = Box<dyn FnMut(usize, Frame<'_>) -> Verdict + Send>;

/// Counters of one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames and bytes that came in from the host.
    pub frames: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Frames of these that were dropped by the cut or the filter.
    pub dropped: u64,
}

enum Outlet {
    Udp { socket: UdpSocket, to: u16, mac: [u8; 6] },
    Channel(SyncSender<Vec<u8>>),
}

#[derive(Default)]
struct State {
    outlets: Vec<Outlet>,
    counters: Vec<Counters>,
    cut: bool,
    filter: Option<Filter>,
    capture: Option<Capture>,
    delayed: BinaryHeap<Delayed>,
    sequence: u64,
}

struct Inner {
    state: Mutex<State>,
    due: Condvar,
}

/// The hub; it works until it is dropped.
pub struct Hub {
    inner: Arc<Inner>,
}

/// First UDP port tried; below the range from which the kernel takes ports by itself.
const FIRST_PORT: u16 = 20_000;
const LAST_PORT: u16 = 30_000;
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

impl Hub {
    /// A hub without ports.
    pub fn new() -> Self {
        let inner = Arc::new(Inner { state: Mutex::default(), due: Condvar::new() });
        let weak = Arc::downgrade(&inner);
        thread::spawn(move || deliver_delayed(&weak));
        Self { inner }
    }

    /// A new port for a Bochs whose card has the address `mac`.
    pub fn plug(&self, mac: [u8; 6]) -> Result<Nic> {
        let (socket, udp_port) = reserve_pair()?;
        let receiver = socket.try_clone()?;
        receiver.set_read_timeout(Some(Duration::from_millis(200)))?;
        let port = self.add(Outlet::Udp { socket, to: udp_port, mac });
        let weak = Arc::downgrade(&self.inner);
        thread::spawn(move || receive(&receiver, &weak, port));
        Ok(Nic { udp_port, mac })
    }

    /// A port for a station within the test bench itself.
    fn plug_channel(&self) -> (usize, mpsc::Receiver<Vec<u8>>) {
        // A station that is not being asked anything looks at no frames: what it cannot hold is lost.
        let (sender, receiver) = mpsc::sync_channel(256);
        (self.add(Outlet::Channel(sender)), receiver)
    }

    fn add(&self, outlet: Outlet) -> usize {
        let mut state = self.inner.lock();
        state.outlets.push(outlet);
        state.counters.push(Counters::default());
        state.outlets.len() - 1
    }

    /// Cuts all cables, or mends them.
    pub fn cut(&self, cut: bool) {
        self.inner.lock().cut = cut;
    }

    /// Installs a filter in place of the one before.
    pub fn set_filter(&self, filter: impl FnMut(usize, Frame<'_>) -> Verdict + Send + 'static) {
        self.inner.lock().filter = Some(Box::new(filter));
    }

    /// Removes the filter.
    pub fn clear_filter(&self) {
        self.inner.lock().filter = None;
    }

    /// Writes every frame that passes into a pcap file.
    pub fn capture(&self, file: &Path) -> Result<()> {
        self.inner.lock().capture = Some(Capture::create(file)?);
        Ok(())
    }

    /// What each port has sent so far.
    pub fn counters(&self) -> Vec<Counters> {
        self.inner.lock().counters.clone()
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.inner.due.notify_all();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, port: usize, bytes: &[u8]) {
        let mut state = self.lock();
        state.counters[port].frames += 1;
        state.counters[port].bytes += bytes.len() as u64;
        let verdict = if state.cut {
            Verdict::Drop
        } else {
            state.filter.as_mut().map_or(Verdict::Pass, |filter| filter(port, Frame::new(bytes)))
        };
        match verdict {
            Verdict::Pass => state.forward(port, bytes),
            Verdict::Double => (0..2).for_each(|_| state.forward(port, bytes)),
            Verdict::Drop => state.counters[port].dropped += 1,
            Verdict::Delay(by) => {
                state.sequence += 1;
                let sequence = state.sequence;
                state.delayed.push(Delayed {
                    at: Instant::now() + by,
                    sequence,
                    port,
                    bytes: bytes.to_vec(),
                });
                self.due.notify_all();
            }
        }
    }
}

impl State {
    fn forward(&mut self, from: usize, bytes: &[u8]) {
        if let Some(capture) = &mut self.capture {
            capture.write(bytes);
        }
        for (index, outlet) in self.outlets.iter().enumerate() {
            if index == from {
                continue;
            }
            match outlet {
                Outlet::Udp { socket, to, mac } => {
                    let frame = frame::for_bochs(bytes, *mac);
                    // An emulator that has ended refuses datagrams: that is its business.
                    let _ = socket.send_to(&frame, (Ipv4Addr::LOCALHOST, *to));
                }
                Outlet::Channel(sender) => {
                    let _ = sender.try_send(bytes.to_vec());
                }
            }
        }
    }
}

fn receive(socket: &UdpSocket, inner: &Weak<Inner>, port: usize) {
    let mut buffer = [0; 2048];
    loop {
        let got = socket.recv(&mut buffer);
        let Some(inner) = inner.upgrade() else { return };
        if let Ok(count) = got {
            inner.handle(port, &buffer[..count]);
        }
    }
}

fn deliver_delayed(inner: &Weak<Inner>) {
    while let Some(inner) = inner.upgrade() {
        let mut state = inner.lock();
        let now = Instant::now();
        while state.delayed.peek().is_some_and(|first| first.at <= now) {
            if let Some(frame) = state.delayed.pop()
                && !state.cut
            {
                state.forward(frame.port, &frame.bytes);
            }
        }
        let rest = state.delayed.peek().map(|first| first.at.saturating_duration_since(now));
        // Bounded, so that the end of the hub is noticed.
        let rest = rest.unwrap_or(Duration::MAX).min(Duration::from_millis(200));
        let _ = inner.due.wait_timeout(state, rest);
    }
}

struct Delayed {
    at: Instant,
    sequence: u64,
    port: usize,
    bytes: Vec<u8>,
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence)) // the earliest is the greatest
    }
}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Delayed {}

/// Finds a free pair of UDP ports (N for Bochs, N+1 for us) and keeps N+1: all benches of a machine choose even
/// numbers this way, so whoever holds N+1 owns N too.
fn reserve_pair() -> Result<(UdpSocket, u16)> {
    let pairs = (LAST_PORT - FIRST_PORT) / 2;
    let spread = (std::process::id() % u32::from(pairs)) as u16;
    for _ in 0..pairs {
        let pair = (spread + NEXT_PORT.fetch_add(1, Atomic::Relaxed) % pairs) % pairs;
        let port = FIRST_PORT + 2 * pair;
        let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port + 1)) else { continue };
        // Bochs binds all addresses: so does the trial.
        if UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok((socket, port));
        }
    }
    bail!("no free pair of UDP ports between {FIRST_PORT} and {LAST_PORT}")
}

/// The Ethernet address of host `index` (0 based).
pub fn host_mac(index: u8) -> [u8; 6] {
    [0x52, 0x54, 0x00, 0xf1, 0xe0, index]
}

/// Reads a pcap file back: the frames in it.
pub fn read_capture(file: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    pcap::parse(&bytes).with_context(|| format!("{} is not a capture of ours", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Station {
        nic: Nic,
        socket: UdpSocket,
    }

    impl Station {
        fn new(hub: &Hub, index: u8) -> Self {
            let nic = hub.plug(host_mac(index)).unwrap();
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, nic.udp_port)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            Self { nic, socket }
        }

        fn send(&self, to: [u8; 6], payload: &[u8]) {
            let frame = [&to[..], &self.nic.mac, &[0x88, 0xb5], payload].concat();
            self.socket.send_to(&frame, (Ipv4Addr::LOCALHOST, self.nic.udp_port + 1)).unwrap();
        }

        fn receive(&self) -> Vec<u8> {
            let mut buffer = [0; 2048];
            let count = self.socket.recv(&mut buffer).unwrap();
            buffer[..count].to_vec()
        }
    }

    #[test]
    fn frames_reach_the_others_and_the_capture() {
        let hub = Hub::new();
        let file = std::env::temp_dir().join(format!("hub-test-{}.pcap", std::process::id()));
        hub.capture(&file).unwrap();
        let (a, b) = (Station::new(&hub, 1), Station::new(&hub, 2));
        a.send(BROADCAST, b"hello");
        let got = b.receive();
        assert_eq!(&got[14..19], b"hello");
        assert_eq!(hub.counters()[0].frames, 1);
        assert_eq!(read_capture(&file).unwrap(), [got]);
    }

    #[test]
    fn a_foreign_destination_passes_the_filter_of_bochs() {
        let hub = Hub::new();
        let (a, b) = (Station::new(&hub, 1), Station::new(&hub, 2));
        a.send([0x02, 1, 2, 3, 4, 5], b"guest");
        assert_eq!(b.receive()[..6], BROADCAST);
        a.send(b.nic.mac, b"host");
        assert_eq!(b.receive()[..6], b.nic.mac);
    }

    #[test]
    fn drop_cut_and_delay() {
        let hub = Hub::new();
        let (a, b) = (Station::new(&hub, 1), Station::new(&hub, 2));
        hub.set_filter(|_, frame| match frame.payload() {
            b"lost" => Verdict::Drop,
            b"late" => Verdict::Delay(Duration::from_millis(100)),
            b"twice" => Verdict::Double,
            _ => Verdict::Pass,
        });
        for text in [&b"late"[..], b"lost", b"soon", b"twice"] {
            a.send(BROADCAST, text);
        }
        assert_eq!(&b.receive()[14..], b"soon");
        assert_eq!(&b.receive()[14..], b"twice");
        assert_eq!(&b.receive()[14..], b"twice");
        assert_eq!(&b.receive()[14..], b"late");
        hub.cut(true);
        a.send(BROADCAST, b"cut");
        while hub.counters()[0].dropped < 2 {
            thread::yield_now();
        }
        hub.cut(false);
        a.send(BROADCAST, b"mended");
        assert_eq!(&b.receive()[14..], b"mended");
    }
}
