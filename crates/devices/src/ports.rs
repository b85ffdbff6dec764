//! Which member of the board a port belongs to: two loads, whatever the number of devices.

/// Of a port that is nobody's.
pub(crate) const FREE: u8 = 0;

/// Pages of 256 ports that anything lies on, at most; the first is empty.
const PAGES: usize = 8;

/// Ports to numbers of members.
pub(crate) struct PortMap {
    pages: [u8; 256],
    members: [[u8; 256]; PAGES],
}

impl PortMap {
    /// Gives the ports of each entry to the member of its number, from 1 in the order of the list.
    pub(crate) const fn new(members: &[&[(u16, u16)]]) -> Self {
        let mut map = Self { pages: [0; 256], members: [[FREE; 256]; PAGES] };
        let (mut used, mut member) = (1, 0);
        while member < members.len() {
            let mut run = 0;
            while run < members[member].len() {
                let (first, last) = members[member][run];
                assert!(first <= last, "a run of ports that ends before it begins");
                let mut port = first as usize;
                while port <= last as usize {
                    let page = port >> 8;
                    if map.pages[page] == 0 {
                        assert!(used < PAGES, "ports on more pages than there is room for");
                        map.pages[page] = used as u8;
                        used += 1;
                    }
                    let place = &mut map.members[map.pages[page] as usize][port & 0xFF];
                    assert!(*place == FREE, "a port of two devices");
                    *place = member as u8 + 1;
                    port += 1;
                }
                run += 1;
            }
            member += 1;
        }
        map
    }

    /// The number of the member that has `port`, or [`FREE`].
    #[inline(always)]
    pub(crate) fn of(&self, port: u16) -> u8 {
        let [low, high] = port.to_le_bytes();
        self.members[usize::from(self.pages[usize::from(high)]) % PAGES][usize::from(low)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_the_member_that_named_it() {
        const MAP: PortMap =
            PortMap::new(&[&[(0x60, 0x60), (0x64, 0x64)], &[], &[(0x0FE, 0x101), (0xFFFF, 0xFFFF)]]);
        for port in 0..=u16::MAX {
            let expected = match port {
                0x60 | 0x64 => 1,
                0xFE..=0x101 | 0xFFFF => 3,
                _ => FREE,
            };
            assert_eq!(MAP.of(port), expected, "port {port:#x}");
        }
    }

    #[test]
    #[should_panic(expected = "a port of two devices")]
    fn no_port_has_two() {
        let _ = PortMap::new(&[&[(0x70, 0x71)], &[(0x71, 0x72)]]);
    }
}
