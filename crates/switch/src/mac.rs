use core::fmt;

/// An IEEE 802 48-bit MAC address in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// Group address (I/G bit): multicast or broadcast.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// An address that one station can have: not a group address, not all zero.
    pub const fn is_station(self) -> bool {
        let m = self.0;
        !self.is_group() && m[0] | m[1] | m[2] | m[3] | m[4] | m[5] != 0
    }

    /// 01-80-C2-00-00-00 to -0F: for the next bridge only, never forwarded (IEEE 802.1Q table 8-1).
    pub const fn is_link_local(self) -> bool {
        matches!(self.0, [0x01, 0x80, 0xc2, 0, 0, last] if last < 0x10)
    }

    /// Destination and source of an Ethernet frame; `None` if it is too short to have them.
    pub fn of_frame(frame: &[u8]) -> Option<(MacAddr, MacAddr)> {
        let (dst, rest) = frame.split_first_chunk::<6>()?;
        let (src, _) = rest.split_first_chunk::<6>()?;
        Some((MacAddr(*dst), MacAddr(*src)))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::MacAddr;
    use std::string::ToString;

    #[test]
    fn classes_of_addresses() {
        assert!(MacAddr::BROADCAST.is_group() && !MacAddr::BROADCAST.is_station());
        assert!(!MacAddr([0; 6]).is_station());
        assert!(MacAddr([0x52, 0x54, 0, 0, 0, 1]).is_station());
        assert!(MacAddr([1, 0x80, 0xc2, 0, 0, 0x0f]).is_link_local());
        assert!(!MacAddr([1, 0x80, 0xc2, 0, 0, 0x10]).is_link_local());
        assert_eq!(MacAddr([0x52, 0x54, 0, 0xab, 0, 1]).to_string(), "52:54:00:ab:00:01");
        assert_eq!(MacAddr::of_frame(&[0; 11]), None);
    }
}
