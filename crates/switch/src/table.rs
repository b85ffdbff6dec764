use crate::mac::MacAddr;
use crate::port::PortId;
use alloc::{boxed::Box, vec};

/// A learnt address not heard of for this long is forgotten (the default of IEEE 802.1Q 8.8.3).
pub(crate) const AGEING_US: u64 = 300_000_000;

const WAYS: usize = 4;
const SETS: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Entry {
    mac: MacAddr,
    port: PortId,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Empty,
    Learnt { seen_us: u64 },
    Pinned,
}

/// Filtering database of fixed size: a set-associative table, so that lookup and learning take bounded time
/// whatever addresses the network invents. A full set forgets its oldest learnt address.
#[derive(Debug)]
pub(crate) struct MacTable {
    entries: Box<[Entry]>,
}

impl MacTable {
    pub(crate) const CAPACITY: usize = WAYS * SETS;

    pub(crate) fn new() -> Self {
        let empty = Entry { mac: MacAddr::default(), port: PortId(0), kind: Kind::Empty };
        Self { entries: vec![empty; Self::CAPACITY].into_boxed_slice() }
    }

    fn set_start(mac: MacAddr) -> usize {
        let [a, b, c, d, e, f] = mac.0;
        let low = u32::from_le_bytes([c, d, e, f]) ^ u32::from_le_bytes([a, b, 0, 0]);
        let mixed = low.wrapping_mul(0x9e37_79b1);
        (mixed >> 26) as usize % SETS * WAYS
    }

    fn set(&mut self, mac: MacAddr) -> &mut [Entry] {
        let start = Self::set_start(mac);
        &mut self.entries[start..start + WAYS]
    }

    /// The port `mac` was last heard on.
    pub(crate) fn lookup(&self, mac: MacAddr, now_us: u64) -> Option<PortId> {
        let start = Self::set_start(mac);
        self.entries[start..start + WAYS]
            .iter()
            .find(|e| e.mac == mac && e.kind.is_alive(now_us))
            .map(|e| e.port)
    }

    /// Notes that `mac` is behind `port`. Pinned addresses do not move.
    pub(crate) fn learn(&mut self, mac: MacAddr, port: PortId, now_us: u64) {
        let set = self.set(mac);
        let known = set.iter().position(|e| e.mac == mac && e.kind != Kind::Empty);
        let victim = known.or_else(|| {
            (0..WAYS).filter(|&i| set[i].kind != Kind::Pinned).min_by_key(|&i| set[i].kind.seen(now_us))
        });
        if let Some(entry) = victim.and_then(|i| set.get_mut(i))
            && entry.kind != Kind::Pinned
        {
            *entry = Entry { mac, port, kind: Kind::Learnt { seen_us: now_us } };
        }
    }

    /// Ties `mac` to `port` for good; false if its set holds only pinned addresses.
    pub(crate) fn pin(&mut self, mac: MacAddr, port: PortId) -> bool {
        let set = self.set(mac);
        let known = set.iter().position(|e| e.mac == mac && e.kind != Kind::Empty);
        let free = known.or_else(|| set.iter().position(|e| e.kind != Kind::Pinned));
        let Some(entry) = free.and_then(|i| set.get_mut(i)) else { return false };
        *entry = Entry { mac, port, kind: Kind::Pinned };
        true
    }

    /// Forgets every address behind `port`.
    pub(crate) fn forget(&mut self, port: PortId) {
        for entry in self.entries.iter_mut().filter(|e| e.port == port) {
            entry.kind = Kind::Empty;
        }
    }

    /// Addresses known at `now_us`.
    pub(crate) fn len(&self, now_us: u64) -> usize {
        self.entries.iter().filter(|e| e.kind.is_alive(now_us)).count()
    }
}

impl Kind {
    fn is_alive(self, now_us: u64) -> bool {
        match self {
            Kind::Empty => false,
            Kind::Learnt { seen_us } => now_us.saturating_sub(seen_us) < AGEING_US,
            Kind::Pinned => true,
        }
    }

    /// Order of eviction: empty and aged ones first, then the oldest.
    fn seen(self, now_us: u64) -> u64 {
        match self {
            Kind::Learnt { seen_us } if self.is_alive(now_us) => seen_us.saturating_add(1),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u32) -> MacAddr {
        let [a, b, c, d] = n.to_be_bytes();
        MacAddr([0x02, 0, a, b, c, d])
    }

    #[test]
    fn moves_ages_and_forgets() {
        let mut t = MacTable::new();
        t.learn(mac(1), PortId(0), 0);
        t.learn(mac(1), PortId(1), 10);
        assert_eq!(t.lookup(mac(1), 10), Some(PortId(1)));
        assert_eq!(t.len(10), 1);
        assert_eq!(t.lookup(mac(1), 10 + AGEING_US), None);
        t.learn(mac(2), PortId(1), 20);
        t.forget(PortId(1));
        assert_eq!(t.lookup(mac(2), 20), None);
    }

    #[test]
    fn a_flood_of_addresses_neither_grows_it_nor_moves_a_pinned_one() {
        let mut t = MacTable::new();
        assert!(t.pin(mac(7), PortId(3)));
        for n in 0..100_000 {
            t.learn(mac(n), PortId(1), u64::from(n));
        }
        assert_eq!(t.lookup(mac(7), 100_000), Some(PortId(3)));
        assert_eq!(t.lookup(mac(99_999), 100_000), Some(PortId(1)));
        assert!(t.len(100_000) > MacTable::CAPACITY * 9 / 10, "hash spreads badly: {}", t.len(100_000));
    }

    #[test]
    fn pins_are_refused_only_when_a_set_is_full_of_them() {
        let mut t = MacTable::new();
        let pinned = (0..1000).filter(|&n| t.pin(mac(n), PortId(1))).count();
        assert!(pinned > MacTable::CAPACITY / 2 && pinned <= MacTable::CAPACITY);
        t.learn(mac(5000), PortId(2), 0);
        assert_eq!(t.lookup(mac(0), 0), Some(PortId(1)));
    }
}
