//! DHCP (RFC 2131) for any number of clients, each with the file that the rules give it.

use super::ADDRESS;
use super::rules::{Client, Rules};
use smoltcp::wire::DhcpPacket;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const PORT: u16 = 67;
pub(super) const CLIENT_PORT: u16 = 68;

/// Length of the fixed part, and where the file's name is in it.
const FIXED: usize = 236;
const FILE: usize = 108;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const LEASE: u32 = 43_200;
const FIRST_LEASE: u8 = 100;

pub(super) struct Leases {
    rules: Rules,
    taken: BTreeMap<[u8; 6], u8>,
    /// Clients that were sent to [`Rules::first`].
    sent: BTreeSet<[u8; 6]>,
}

impl Leases {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, taken: BTreeMap::new(), sent: BTreeSet::new() }
    }

    /// The reply to a request, and a line for the log.
    pub(super) fn answer(&mut self, request: &[u8]) -> Option<(Vec<u8>, String)> {
        let packet = DhcpPacket::new_checked(request).ok()?;
        let option = |wanted: u8| {
            packet.options().find(|option| option.kind == wanted).map(|option| option.data.to_vec())
        };
        // Discover is offered, a request and an inform are acknowledged.
        let kind = match option(53)?.first()? {
            1 => 2,
            3 | 8 => 5,
            _ => return None,
        };
        if kind == 5 && option(54).is_some_and(|server| server != ADDRESS.octets()) {
            return None;
        }
        let architecture = option(93).and_then(|data| Some(u16::from_be_bytes(data.try_into().ok()?)));
        let class = option(77).map(|data| String::from_utf8_lossy(&data).into_owned());
        let client = Client { architecture, class };
        let mac: [u8; 6] = request.get(28..34)?.try_into().ok()?;
        let next = FIRST_LEASE + u8::try_from(self.taken.len()).ok()?;
        let last = *self.taken.entry(mac).or_insert(next);
        let [a, b, c, server] = ADDRESS.octets();
        let first = self.rules.first.as_deref().filter(|_| !self.sent.contains(&mac));
        let file = first.or_else(|| self.rules.boot(&client));
        if kind == 5 {
            self.sent.insert(mac);
        }

        let mut reply = vec![0; FIXED];
        reply[..3].copy_from_slice(&[2, 1, 6]);
        // Transaction, flags, the client's address and its hardware address come back.
        for range in [4..8, 10..16, 28..44] {
            reply[range.clone()].copy_from_slice(request.get(range)?);
        }
        reply[16..20].copy_from_slice(&[a, b, c, last]);
        reply[20..24].copy_from_slice(&[a, b, c, server]);
        let name = file.unwrap_or_default().as_bytes();
        reply.get_mut(FILE..FILE + name.len())?.copy_from_slice(name);
        reply.extend(COOKIE);
        let mut add = |number: u8, data: &[u8]| {
            reply.extend([number, data.len() as u8]);
            reply.extend(data);
        };
        add(53, &[kind]);
        add(54, &[a, b, c, server]);
        add(51, &LEASE.to_be_bytes());
        add(1, &[255, 255, 255, 0]);
        add(3, &[a, b, c, server]);
        for (number, text) in self.rules.options(&client) {
            add(number, text.as_bytes());
        }
        if !name.is_empty() {
            add(67, name);
        }
        reply.push(255);
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        Some((reply, format!("dhcp {mac} {}", file.unwrap_or("(none)"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: u8, architecture: u8) -> Vec<u8> {
        let mut request = vec![0; FIXED];
        request[..4].copy_from_slice(&[1, 1, 6, 0]);
        request[4..8].copy_from_slice(&[1, 2, 3, 4]);
        request[28..34].copy_from_slice(&[0x52, 0x54, 0, 1, 2, 3]);
        request.extend(COOKIE);
        request.extend([53, 1, kind, 93, 2, 0, architecture, 255]);
        request
    }

    #[test]
    fn a_client_gets_one_address_and_its_file() {
        let rules = "dhcp-match=set:uefi,option:client-arch,7\ndhcp-boot=tag:uefi,a.efi";
        let mut leases = Leases::new(Rules::parse(rules, None).unwrap());
        let (offer, line) = leases.answer(&request(1, 7)).unwrap();
        assert_eq!(line, "dhcp 52:54:00:01:02:03 a.efi");
        assert_eq!((&offer[4..8], &offer[16..20]), (&[1, 2, 3, 4][..], &[10, 0, 0, 100][..]));
        assert_eq!(&offer[FILE..FILE + 6], b"a.efi\0");
        assert_eq!(offer[240..243], [53, 1, 2]);
        let (again, _) = leases.answer(&request(3, 0)).unwrap();
        assert_eq!(again[240..243], [53, 1, 5]);
        assert_eq!(again[16..20], [10, 0, 0, 100]);
        assert_eq!(again[FILE], 0);
        assert_eq!(leases.answer(&request(7, 7)), None);
        assert_eq!(leases.answer(b"short"), None);
    }

    #[test]
    fn a_client_boots_the_first_file_once() {
        let rules = "dhcp-match=set:bios,option:client-arch,0\ndhcp-boot=tag:bios,a\ndhcp-boot=tag:uefi,b";
        let mut leases = Leases::new(Rules::parse(rules, Some("b")).unwrap());
        let mut file = |kind| leases.answer(&request(kind, 0)).unwrap().1;
        for (kind, wanted) in [(1, "b"), (3, "b"), (1, "a"), (3, "a")] {
            assert_eq!(file(kind), format!("dhcp 52:54:00:01:02:03 {wanted}"));
        }
    }
}
