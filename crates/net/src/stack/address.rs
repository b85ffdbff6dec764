use super::NetError;
use core::fmt;
use core::net::Ipv4Addr;
use smoltcp::wire::{IpCidr, Ipv4Cidr};

/// Where the host's IP address comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressConfig {
    /// RFC 2131 client.
    Dhcp,
    /// Given on the boot line.
    Static {
        /// The host's address.
        ip: Ipv4Addr,
        /// Prefix length of its subnet, 0 to 32.
        prefix: u8,
        /// Router for everything outside the subnet.
        gateway: Option<Ipv4Addr>,
    },
}

/// The host's address in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// The host's address.
    pub ip: Ipv4Addr,
    /// Prefix length of its subnet.
    pub prefix: u8,
    /// Router for everything outside the subnet.
    pub gateway: Option<Ipv4Addr>,
    /// Leased by DHCP.
    pub leased: bool,
}

/// A change of the host's address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressEvent {
    /// The host has this address now.
    Acquired(Address),
    /// The DHCP lease ended; connections are gone.
    Lost,
}

impl Address {
    /// Checks an address given by a person or a DHCP server.
    pub(super) fn checked(
        ip: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
        leased: bool,
    ) -> Result<Self, NetError> {
        if prefix > 32 {
            return Err(NetError::BadPrefix(prefix));
        }
        let address = Self { ip, prefix, gateway, leased };
        if !is_host(ip) || address.is_subnet_edge(ip) {
            return Err(NetError::BadAddress(ip));
        }
        match gateway {
            Some(gw) if !is_host(gw) || gw == ip || !address.is_local(gw) => Err(NetError::BadGateway(gw)),
            _ => Ok(address),
        }
    }

    /// Checks that a packet to `to` could go somewhere.
    pub(super) fn route(&self, to: Ipv4Addr) -> Result<(), NetError> {
        if !is_host(to) || (self.is_local(to) && self.is_subnet_edge(to)) {
            return Err(NetError::BadAddress(to));
        }
        if to == self.ip {
            return Err(NetError::OwnAddress(to));
        }
        if !self.is_local(to) && self.gateway.is_none() {
            return Err(NetError::NoRoute(to));
        }
        Ok(())
    }

    /// Whether `other` is in the subnet.
    fn is_local(&self, other: Ipv4Addr) -> bool {
        (self.ip.to_bits() ^ other.to_bits()) & self.mask() == 0
    }

    /// Network or broadcast address of the subnet (none in a /31 or /32: RFC 3021).
    fn is_subnet_edge(&self, ip: Ipv4Addr) -> bool {
        let host_part = ip.to_bits() & !self.mask();
        self.prefix < 31 && (host_part == 0 || host_part == !self.mask())
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// Who takes a packet to `to`: the host itself in the subnet, else the gateway.
    pub(super) fn next_hop(&self, to: Ipv4Addr) -> Option<Ipv4Addr> {
        self.route(to).ok()?;
        if self.is_local(to) { Some(to) } else { self.gateway }
    }

    /// Whether another host of the subnet can have this address.
    pub(super) fn has_neighbour(&self, ip: Ipv4Addr) -> bool {
        self.next_hop(ip) == Some(ip)
    }

    /// The address as smoltcp gets it: on a line of two (RFC 3021), with everybody behind the other end.
    pub(super) fn line(&self) -> IpCidr {
        IpCidr::Ipv4(Ipv4Cidr::new(self.ip, 31))
    }

    /// The other end of that line; the neighbour of this address, if there is one, is reached as all others are.
    pub(super) fn line_end(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.ip.to_bits() ^ 1)
    }
}

fn is_host(ip: Ipv4Addr) -> bool {
    !(ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_loopback()
        || ip.octets()[0] == 0)
        && ip.octets()[0] < 240
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)?;
        if let Some(gateway) = self.gateway {
            write!(f, " gateway {gateway}")?;
        }
        f.write_str(if self.leased { " (dhcp)" } else { " (static)" })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const GW: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

    #[test]
    fn wrong_addresses_are_named() {
        let check = |ip, prefix, gw| Address::checked(ip, prefix, gw, false);
        assert_eq!(check(IP, 24, Some(GW)).unwrap().to_string(), "10.0.0.1/24 gateway 10.0.0.254 (static)");
        assert_eq!(check(IP, 33, None), Err(NetError::BadPrefix(33)));
        assert_eq!(check(IP, 28, Some(GW)), Err(NetError::BadGateway(GW)));
        assert_eq!(check(IP, 24, Some(IP)), Err(NetError::BadGateway(IP)));
        for bad in
            ["0.0.0.0", "10.0.0.0", "10.0.0.255", "224.0.0.1", "255.255.255.255", "127.0.0.1", "0.1.2.3"]
        {
            let bad: Ipv4Addr = bad.parse().unwrap();
            assert_eq!(check(bad, 24, None), Err(NetError::BadAddress(bad)));
        }
        for prefix in [0, 1, 31, 32] {
            assert!(check(IP, prefix, None).is_ok(), "/{prefix}");
        }
    }

    #[test]
    fn routes() {
        let lan = Address::checked(IP, 24, None, false).unwrap();
        assert_eq!(lan.route(GW), Ok(()));
        assert_eq!(lan.route(IP), Err(NetError::OwnAddress(IP)));
        let far = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(lan.route(far), Err(NetError::NoRoute(far)));
        assert_eq!(Address { gateway: Some(GW), ..lan }.route(far), Ok(()));
        let broadcast = Ipv4Addr::new(10, 0, 0, 255);
        assert_eq!(lan.route(broadcast), Err(NetError::BadAddress(broadcast)));
    }
}
