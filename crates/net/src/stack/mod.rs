//! The host's TCP/IP: smoltcp on one NIC, which is a switch port.

mod address;
mod arp;
mod checksum;
mod device;
mod error;
mod neighbour;
mod ping;
mod rng;
mod tcp;
mod udp;

pub use address::{Address, AddressConfig, AddressEvent};
pub use error::{MAX_SOCKETS, NetError};
pub use neighbour::Search;
pub use ping::PingStatus;
pub use tcp::{Connection, ConnectionState, Listener, TcpTiming, WINDOW};
pub use udp::MAX_DATAGRAM;

use alloc::vec::Vec;
use arp::Arp;
use checksum::Verdict;
use core::net::Ipv4Addr;
use device::{Answer, View, Way};
use neighbour::Neighbours;
use rng::SplitMix64;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress};
use switch::{MacAddr, Nic};

/// Frames taken in by one [`Stack::poll`]: bounds its time when frames come faster than they are handled.
const POLL_BUDGET: usize = 64;
/// smoltcp forgets its router after 60 s: it is told of it more often.
const INTRODUCE_US: u64 = 30_000_000;

/// What a received frame was.
enum Came {
    /// Smoltcp's, which has it.
    Frame,
    /// ARP.
    Arp(Arp),
    /// Nothing that anybody wants.
    Refused,
}

/// The stack. Times are microseconds of any clock that starts at or after zero and never goes back.
pub struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    neighbours: Neighbours,
    /// When smoltcp is to be told of its router again.
    introduce_at: u64,
    tcp: tcp::Table,
    rng: SplitMix64,
    address: Option<Address>,
    event: Option<AddressEvent>,
    dhcp: Option<SocketHandle>,
    ping: Option<ping::Ping>,
    udp: Option<udp::Udp>,
    /// Closed, with datagrams that have not left.
    udp_leaving: Option<SocketHandle>,
    ping_socket: SocketHandle,
    ping_ident: u16,
    ping_sequence: u16,
    answer: Answer,
    /// Frames with a wrong TCP checksum, and fragments.
    refused: u64,
}

impl core::fmt::Debug for Stack {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stack")
            .field("address", &self.address)
            .field("tcp", &self.tcp)
            .finish_non_exhaustive()
    }
}

fn instant(now_us: u64) -> Instant {
    Instant::from_micros(now_us.min(i64::MAX as u64) as i64)
}

impl Stack {
    /// A stack for the station `nic.mac()`. `entropy` seeds sequence numbers and local ports: two hosts may be given
    /// the same as long as their MACs differ.
    pub fn new<N: Nic>(
        nic: &mut N,
        config: AddressConfig,
        entropy: u64,
        now_us: u64,
    ) -> Result<Self, NetError> {
        let mac = nic.mac();
        // smoltcp panics on one that is not.
        let mac = if mac.is_station() { mac } else { MacAddr([2, 0, 0, 0, 0, 1]) };
        let mut rng = SplitMix64::new(entropy, &mac.0);
        let mut settings = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.0)));
        settings.random_seed = rng.next();
        let mut answer = Answer::new();
        let neighbours = Neighbours::new(mac);
        let mut view = View::<N> { received: None, way: None, answer: &mut answer };
        let interface = Interface::new(settings, &mut view, instant(now_us));

        let mut sockets = SocketSet::new(Vec::new());
        let ping_ident = rng.next() as u16;
        let ping_socket = sockets.add(ping::echo_socket(ping_ident));
        let mut stack = Self {
            interface,
            sockets,
            neighbours,
            introduce_at: 0,
            tcp: tcp::Table::default(),
            rng,
            address: None,
            event: None,
            dhcp: None,
            ping: None,
            udp: None,
            udp_leaving: None,
            ping_socket,
            ping_ident,
            ping_sequence: 0,
            answer,
            refused: 0,
        };
        match config {
            AddressConfig::Static { ip, prefix, gateway } => {
                stack.set_address(Address::checked(ip, prefix, gateway, false)?);
            }
            AddressConfig::Dhcp => stack.start_dhcp(),
        }
        Ok(stack)
    }

    /// Takes in waiting frames, runs timers, sends what is due. Returns whether anything happened.
    pub fn poll<N: Nic>(&mut self, nic: &mut N, now_us: u64) -> bool {
        let mut busy = false;
        self.neighbours.poll(nic, now_us);
        let mut introduce = self.address.filter(|_| now_us >= self.introduce_at).map(|a| a.line_end());
        if introduce.is_some() {
            self.introduce_at = now_us.saturating_add(INTRODUCE_US);
        }
        // What ends a connection while frames are sent: a socket that is closed after frames came in was closed by one.
        let by_timer = if self.address.is_some() { tcp::ClosedBy::Timer } else { tcp::ClosedBy::AddressLoss };
        self.interface.poll_maintenance(instant(now_us));
        for frame in 1..=POLL_BUDGET {
            if !self.take_in(nic, &mut introduce, now_us) {
                break;
            }
            busy = true;
            // Acknowledge at least every second segment (RFC 9293 3.8.6.3): the peer's slow start counts answers.
            if frame.is_multiple_of(2) {
                self.tcp.note_changes(&mut self.sockets, tcp::ClosedBy::Peer);
                self.send_due(nic, now_us);
                self.tcp.note_changes(&mut self.sockets, by_timer);
            }
        }
        self.tcp.note_changes(&mut self.sockets, tcp::ClosedBy::Peer);
        self.tcp.avoid_short_segments(&mut self.sockets);
        for _ in 0..POLL_BUDGET {
            match self.send_due(nic, now_us) {
                PollResult::None => break,
                PollResult::SocketStateChanged => busy = true,
            }
        }
        if introduce.is_some() {
            self.introduce_at = now_us; // there was no room for it
        }
        self.neighbours.poll(nic, now_us);
        self.tcp.note_changes(&mut self.sockets, by_timer);
        if self.neighbours.take_vain() {
            self.tcp.give_up(&mut self.sockets, |search| self.neighbours.unanswered(search));
            self.udp_give_up();
        }
        self.udp_let_go();
        self.poll_dhcp();
        self.tcp.maintain(&mut self.sockets, now_us);
        busy
    }

    /// Takes in the next frame that is smoltcp's, only when its answer could be sent, so that echo replies are not lost.
    fn take_in<N: Nic>(&mut self, nic: &mut N, introduce: &mut Option<Ipv4Addr>, now_us: u64) -> bool {
        while nic.tx_room() > 0 {
            let came = match introduce.take() {
                Some(router) => {
                    let frame = self.neighbours.introduction(router);
                    Some(self.hand_in::<N>(&frame, now_us))
                }
                None => nic.rx_with(|frame| self.look::<N>(frame, now_us)),
            };
            match came {
                None => return false,
                Some(Came::Frame) => {
                    if let Some(answer) = self.answer.take() {
                        self.neighbours.send(nic, answer, now_us);
                    }
                    return true;
                }
                Some(Came::Arp(arp)) => self.neighbours.receive(nic, arp, now_us),
                Some(Came::Refused) => {}
            }
        }
        false
    }

    /// Looks at a received frame where it lies, and gives smoltcp what is smoltcp's.
    fn look<N: Nic>(&mut self, frame: &[u8], now_us: u64) -> Came {
        if arp::is_arp(frame) {
            return Arp::parse(frame).map_or(Came::Refused, Came::Arp);
        }
        if checksum::check(frame) != Verdict::Good {
            self.refused += 1;
            return Came::Refused;
        }
        self.hand_in::<N>(frame, now_us)
    }

    /// Has smoltcp take a frame in. Its answer, if there is one, is left in `answer`.
    fn hand_in<N: Nic>(&mut self, frame: &[u8], now_us: u64) -> Came {
        self.tcp.make_way(&mut self.sockets, checksum::syn(frame));
        let mut view = View::<N> { received: Some(frame), way: None, answer: &mut self.answer };
        self.interface.poll_ingress_single(instant(now_us), &mut view, &mut self.sockets);
        Came::Frame
    }

    /// Has smoltcp send what is due, one packet of each socket.
    fn send_due<N: Nic>(&mut self, nic: &mut N, now_us: u64) -> PollResult {
        let way = Way { nic, neighbours: &mut self.neighbours, now_us };
        let mut view = View { received: None, way: Some(way), answer: &mut self.answer };
        self.interface.poll_egress(instant(now_us), &mut view, &mut self.sockets)
    }

    /// When [`Stack::poll`] should run next if no frame comes before; `None`: only when one does.
    pub fn next_deadline(&mut self, now_us: u64) -> Option<u64> {
        let timer = self.interface.poll_at(instant(now_us), &self.sockets);
        let timer = timer.map(|at| u64::try_from(at.total_micros()).unwrap_or(0));
        timer.into_iter().chain(self.neighbours.next_deadline()).min().map(|at| at.max(now_us))
    }

    /// The host's address, if it has one.
    pub fn address(&self) -> Option<Address> {
        self.address
    }

    /// A change of the address since the last call.
    pub fn take_address_event(&mut self) -> Option<AddressEvent> {
        self.event.take()
    }

    fn set_address(&mut self, address: Address) {
        self.interface.update_ip_addrs(|list| {
            list.clear();
            let _ = list.push(address.line());
        });
        // The table has room for two routes; an older default route is replaced.
        let _ = self.interface.routes_mut().add_default_ipv4_route(address.line_end());
        self.neighbours.set_address(Some(address));
        self.introduce_at = 0;
        if self.address != Some(address) {
            self.address = Some(address);
            self.event = Some(AddressEvent::Acquired(address));
        }
    }

    fn start_dhcp(&mut self) {
        let mut socket = dhcpv4::Socket::new();
        let mut retry = dhcpv4::RetryConfig::default();
        // The defaults of 10 s and 5 s keep a booting host waiting for one lost frame.
        retry.discover_timeout = Duration::from_secs(3);
        retry.initial_request_timeout = Duration::from_secs(2);
        socket.set_retry_config(retry);
        self.dhcp = Some(self.sockets.add(socket));
    }

    fn poll_dhcp(&mut self) {
        let Some(handle) = self.dhcp else { return };
        let lease = match self.sockets.get_mut::<dhcpv4::Socket<'_>>(handle).poll() {
            None => return,
            Some(dhcpv4::Event::Deconfigured) => None,
            Some(dhcpv4::Event::Configured(lease)) => Some((lease.address, lease.router)),
        };
        if let Some((cidr, router)) = lease {
            let lease = |gw| Address::checked(cidr.address(), cidr.prefix_len(), gw, true);
            // A router that cannot be one is left out; an address that cannot be one is not used.
            if let Ok(address) = lease(router).or_else(|_| lease(None)) {
                return self.set_address(address);
            }
            log::warn!(target: "net", "dhcp offers {cidr}: not a usable address");
        }
        self.interface.update_ip_addrs(|list| list.clear());
        self.interface.routes_mut().remove_default_ipv4_route();
        self.neighbours.set_address(None);
        if self.address.take().is_some() {
            self.event = Some(AddressEvent::Lost);
        }
    }

    /// Received frames thrown away for a wrong TCP checksum or for being fragments.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether `ip` is this host's.
    pub fn is_own(&self, ip: Ipv4Addr) -> bool {
        self.address.is_some_and(|a| a.ip == ip)
    }
}
