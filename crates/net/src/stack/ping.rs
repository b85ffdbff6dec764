//! ICMP echo client: one request at a time.

use super::{NetError, Search, Stack};
use alloc::vec;
use core::net::Ipv4Addr;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::icmp;
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, IpAddress};

const PAYLOAD: [u8; 56] = *b"Flexvisor echo request: any 56 bytes would do as well...";
/// ICMP header and payload.
const PACKET: usize = 8 + PAYLOAD.len();

/// What became of the echo request sent last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PingStatus {
    /// None is running.
    Idle,
    /// No answer so far.
    Waiting,
    /// Answered after so many microseconds.
    Reply(u64),
    /// No answer within the time given.
    TimedOut,
}

#[derive(Debug)]
pub(super) struct Ping {
    to: Ipv4Addr,
    sequence: u16,
    sent_us: u64,
    deadline_us: u64,
}

pub(super) fn echo_socket(ident: u16) -> icmp::Socket<'static> {
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 4 * PACKET]);
    let mut socket = icmp::Socket::new(buffer(), buffer());
    // Fails only for an endpoint that is not specified or a socket in use.
    let _ = socket.bind(icmp::Endpoint::Ident(ident));
    socket
}

impl Stack {
    /// Sends one ICMP echo request with 56 bytes of payload; [`Stack::ping_status`] tells what came of it.
    pub fn ping(&mut self, to: Ipv4Addr, timeout_us: u64, now_us: u64) -> Result<(), NetError> {
        self.address().ok_or(NetError::NoAddress)?.route(to)?;
        if self.ping.is_some() {
            return Err(NetError::Busy);
        }
        self.ping_sequence = self.ping_sequence.wrapping_add(1);
        let request =
            Icmpv4Repr::EchoRequest { ident: self.ping_ident, seq_no: self.ping_sequence, data: &PAYLOAD };
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.ping_socket);
        let buffer = socket.send(request.buffer_len(), IpAddress::Ipv4(to)).map_err(|_| NetError::Busy)?;
        request.emit(&mut Icmpv4Packet::new_unchecked(buffer), &ChecksumCapabilities::default());
        self.ping = Some(Ping {
            to,
            sequence: self.ping_sequence,
            sent_us: now_us,
            deadline_us: now_us.saturating_add(timeout_us),
        });
        Ok(())
    }

    /// Echo requests to `to` begin; for [`Stack::unanswered`].
    #[must_use]
    pub fn search(&self, to: Ipv4Addr) -> Search {
        self.neighbours.search(to)
    }

    /// Why none gets there, where each of some echo requests has asked for it by ARP since then.
    #[must_use]
    pub fn unanswered(&self, search: Search) -> Option<NetError> {
        /// A ping is over sooner than an attempt to connect.
        const QUESTIONS: u32 = 3;
        self.neighbours.unanswered_by(search, QUESTIONS)
    }

    /// Whether the echo request was answered; call after [`Stack::poll`]. A final answer is given once.
    pub fn ping_status(&mut self, now_us: u64) -> PingStatus {
        let Some(ping) = &self.ping else { return PingStatus::Idle };
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.ping_socket);
        let mut status = PingStatus::Waiting;
        while let Ok((packet, from)) = socket.recv() {
            if from == IpAddress::Ipv4(ping.to) && is_reply(packet, self.ping_ident, ping.sequence) {
                status = PingStatus::Reply(now_us.saturating_sub(ping.sent_us));
            }
        }
        if status == PingStatus::Waiting && now_us >= ping.deadline_us {
            status = PingStatus::TimedOut;
            // A request that still waits for ARP would hold up the next.
            self.sockets.remove(self.ping_socket);
            self.ping_socket = self.sockets.add(echo_socket(self.ping_ident));
        }
        if status != PingStatus::Waiting {
            self.ping = None;
        }
        status
    }
}

fn is_reply(packet: &[u8], our_ident: u16, sequence: u16) -> bool {
    let parsed = Icmpv4Packet::new_checked(packet).and_then(|p| {
        Icmpv4Repr::parse(&p, &ChecksumCapabilities::default()).map(|r| match r {
            Icmpv4Repr::EchoReply { ident, seq_no, data } => {
                ident == our_ident && seq_no == sequence && data == PAYLOAD
            }
            _ => false,
        })
    });
    parsed.unwrap_or(false)
}
