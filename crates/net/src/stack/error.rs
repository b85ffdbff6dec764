use core::net::Ipv4Addr;

/// Connections that exist at once, those that still deliver their last bytes included.
pub const MAX_SOCKETS: usize = 32;

/// Why the stack refused a call, or how a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NetError {
    /// DHCP has not given an address yet, or took it back.
    #[error("this host has no IP address")]
    NoAddress,
    /// Not an address one host can have.
    #[error("{0} is not a host's address")]
    BadAddress(Ipv4Addr),
    /// Prefix length above 32.
    #[error("/{0} is not a prefix length")]
    BadPrefix(u8),
    /// The gateway is not in the subnet.
    #[error("gateway {0} is outside the subnet")]
    BadGateway(Ipv4Addr),
    /// Connecting to ourselves: frames to the own address never come back.
    #[error("{0} is this host itself")]
    OwnAddress(Ipv4Addr),
    /// Outside the subnet, and there is no gateway.
    #[error("no route to {0}")]
    NoRoute(Ipv4Addr),
    /// Nobody in the subnet has this address.
    #[error("no answer to ARP for {0}: is the host on, in this network?")]
    NoNeighbour(Ipv4Addr),
    /// Nobody in the subnet has the gateway's address.
    #[error("no answer to ARP for the gateway {0}: is it on, in this network?")]
    NoGateway(Ipv4Addr),
    /// Port 0, or one that another listener has.
    #[error("port {0} cannot be used")]
    PortUnusable(u16),
    /// [`MAX_SOCKETS`] are open.
    #[error("all {MAX_SOCKETS} sockets are in use")]
    TooManySockets,
    /// A datagram that no frame holds.
    #[error("a datagram of {0} bytes is too long")]
    TooLong(usize),
    /// No memory for a connection's buffers.
    #[error("no memory for a connection")]
    NoMemory,
    /// The peer answered the connection request with a reset.
    #[error("connection refused")]
    Refused,
    /// The peer reset the connection.
    #[error("connection reset by peer")]
    Reset,
    /// The peer did not answer for the time allowed.
    #[error("peer does not answer")]
    TimedOut,
    /// The peer closed its side and everything it sent was read; or our own side is closed.
    #[error("connection closed")]
    Closed,
    /// The handle names a connection or listener that was given up.
    #[error("no such connection")]
    Stale,
    /// The UDP socket is open.
    #[error("the UDP socket is in use")]
    UdpInUse,
    /// A ping runs already.
    #[error("a ping is running")]
    Busy,
}
