//! Firmware and loaders look for an IPv6 router before they go on: they are told that there is none.

/// Ethernet and IPv6 headers, and where the sender's address is in the latter.
const ICMP: usize = 14 + 40;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// All nodes of the link, and the Ethernet address of that group.
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// The answer to a router solicitation (RFC 4861, 4.1): an advertisement without prefixes, of a router that routes nothing.
pub(super) fn no_router(frame: &[u8], own: [u8; 6]) -> Option<Vec<u8>> {
    if frame.get(12..14)? != [0x86, 0xdd] || *frame.get(20)? != 58 || *frame.get(ICMP)? != ROUTER_SOLICITATION
    {
        return None;
    }
    // RFC 4291, 2.5.6: a link-local address from that of the card.
    let [a, b, c, d, e, f] = own;
    let source = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    let mut body = vec![0; 16];
    body[0] = ROUTER_ADVERTISEMENT;
    body[4] = 64;
    let length = body.len() as u16;
    let pseudo = [&source[..], &ALL_NODES, &[0, 0, 0, length as u8, 0, 0, 0, 58], &body].concat();
    let sum: u32 = pseudo.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    body[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut answer = [&ALL_NODES_MAC[..], &own, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    answer.extend(length.to_be_bytes());
    answer.extend([58, 255]);
    answer.extend([&source[..], &ALL_NODES, &body].concat());
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_solicitations_are_answered() {
        let mut frame = vec![0; ICMP + 8];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[20] = 58;
        frame[ICMP] = ROUTER_SOLICITATION;
        let answer = no_router(&frame, [2; 6]).unwrap();
        assert_eq!((answer.len(), answer[ICMP]), (ICMP + 16, ROUTER_ADVERTISEMENT));
        // The sum over pseudo header and message is all ones.
        let message = [&answer[22..54], &[0, 0, 0, 16, 0, 0, 0, 58], &answer[ICMP..]].concat();
        let sum: u32 = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        frame[ICMP] = 135;
        assert_eq!(no_router(&frame, [2; 6]), None);
        for length in 0..ICMP {
            assert_eq!(no_router(&frame[..length], [2; 6]), None);
        }
    }
}
