//! TCP checksums (RFC 9293 3.1, RFC 1071), eight bytes at a time: smoltcp's own routine, built without SSE, takes
//! half of the time that a frame costs.

use core::net::Ipv4Addr;
use core::ops::Range;
use smoltcp::wire::IpEndpoint;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const TCP: u8 = 6;
/// Offset of the checksum in the TCP header.
const CHECKSUM: usize = 16;
/// Offset of the flags there, and two of them.
const FLAGS: usize = 13;
const SYN: u8 = 1 << 1;
const ACK: u8 = 1 << 4;

/// What a received frame is to the checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// A TCP segment with a right checksum, or something whose checksums smoltcp looks at.
    Good,
    /// A TCP segment with a wrong checksum.
    Wrong,
    /// Part of an IPv4 datagram: smoltcp, built without reassembly, would take it for a whole one.
    Fragment,
}

/// Looks at a received frame.
pub(super) fn check(frame: &[u8]) -> Verdict {
    if is_fragment(frame) {
        return Verdict::Fragment;
    }
    let Some((pseudo, range)) = segment(frame) else { return Verdict::Good };
    let tcp = frame.get(range).unwrap_or(&[]);
    if fold(pseudo + sum(tcp)) == 0xffff { Verdict::Good } else { Verdict::Wrong }
}

/// The connection that a frame asks for: who asks, and the port.
pub(super) fn syn(frame: &[u8]) -> Option<(IpEndpoint, u16)> {
    let header: &[u8; 20] =
        frame.get(14..).filter(|_| frame.get(12..14) == Some(&ETHERTYPE_IPV4))?.first_chunk()?;
    let tcp = frame.get(14 + usize::from(header[0] & 0xf) * 4..)?;
    let is_syn = header[9] == TCP && tcp.get(FLAGS)? & (SYN | ACK) == SYN;
    let port = |at: usize| Some(u16::from_be_bytes(*tcp.get(at..)?.first_chunk()?));
    let from = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    if is_syn { Some((IpEndpoint::new(from.into(), port(0)?), port(2)?)) } else { None }
}

/// Puts the checksum into a frame to be sent, if it holds a TCP segment.
pub(super) fn fill(frame: &mut [u8]) {
    let Some((pseudo, range)) = segment(frame) else { return };
    let Some(tcp) = frame.get_mut(range) else { return };
    if let Some(field) = tcp.get_mut(CHECKSUM..CHECKSUM + 2) {
        field.fill(0);
    }
    let checksum = !fold(pseudo + sum(tcp));
    if let Some(field) = tcp.get_mut(CHECKSUM..CHECKSUM + 2) {
        field.copy_from_slice(&checksum.to_ne_bytes());
    }
}

fn is_fragment(frame: &[u8]) -> bool {
    // More fragments, or an offset that is not 0.
    frame.get(12..14) == Some(&ETHERTYPE_IPV4)
        && frame.get(20..22).is_some_and(|field| field[0] & 0x3f != 0 || field[1] != 0)
}

/// Where the TCP segment of a frame lies, and the sum of its pseudo-header. `None` for anything else, also what is too
/// short or malformed: smoltcp rejects that without a look at the checksum.
fn segment(frame: &[u8]) -> Option<(u128, Range<usize>)> {
    let ip = frame.get(14..).filter(|_| frame.get(12..14) == Some(&ETHERTYPE_IPV4))?;
    let header: &[u8; 20] = ip.first_chunk()?;
    if header[0] >> 4 != 4 || header[9] != TCP {
        return None;
    }
    let start = usize::from(header[0] & 0xf) * 4;
    let end = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if start < 20 || end > ip.len() || end < start + CHECKSUM + 2 {
        return None;
    }
    let length = ((end - start) as u16).to_be_bytes();
    let pseudo = sum(header.get(12..20)?) + sum(&[0, TCP, length[0], length[1]]);
    Some((pseudo, 14 + start..14 + end))
}

/// Sum of the native-endian 64-bit words, the last filled up with zeros: one's complement addition does not mind the
/// byte order or the width of the words (RFC 1071 section 2).
fn sum(bytes: &[u8]) -> u128 {
    let word = |bytes: &[u8; 8]| u128::from(u64::from_ne_bytes(*bytes));
    let (lines, rest) = bytes.as_chunks::<64>();
    // Unrolled: an addition with carry costs less than the loop around it.
    let mut total = 0;
    for line in lines {
        let (words, _) = line.as_chunks::<8>();
        total = words.iter().map(word).fold(total, |sum, word| sum + word);
    }
    let (words, tail) = rest.as_chunks::<8>();
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    words.iter().map(word).fold(total + word(&last), |sum, word| sum + word)
}

/// The 16-bit one's complement sum, in memory order.
fn fold(sum: u128) -> u16 {
    let mut sum = sum;
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::*;
    use std::vec::Vec;

    /// A frame as smoltcp makes it, checksums included, with `pad` bytes of Ethernet padding.
    fn frame(payload: &[u8], src: u32, dst: u32, pad: usize) -> Vec<u8> {
        let tcp = TcpRepr {
            src_port: 49_152,
            dst_port: 4444,
            control: TcpControl::None,
            seq_number: TcpSeqNumber(src as i32),
            ack_number: Some(TcpSeqNumber(dst as i32)),
            window_len: 64_240,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let ip = Ipv4Repr {
            src_addr: src.into(),
            dst_addr: dst.into(),
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let mut out = std::vec![0xee; 14 + ip.buffer_len() + tcp.buffer_len() + pad];
        out[12..14].copy_from_slice(&ETHERTYPE_IPV4);
        let caps = ChecksumCapabilities::default();
        let mut packet = Ipv4Packet::new_unchecked(&mut out[14..]);
        ip.emit(&mut packet, &caps);
        let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
        tcp.emit(&mut segment, &ip.src_addr.into(), &ip.dst_addr.into(), &caps);
        out
    }

    proptest! {
        #[test]
        fn agrees_with_smoltcp(
            payload in prop::collection::vec(any::<u8>(), 0..1460),
            src: u32, dst: u32, pad in 0usize..9, at: prop::sample::Index, bit in 0u8..8,
        ) {
            let good = frame(&payload, src, dst, pad);
            prop_assert_eq!(check(&good), Verdict::Good);
            let mut filled = good.clone();
            filled[50..52].fill(0x55);
            fill(&mut filled);
            prop_assert_eq!(&filled, &good);
            // Any single bit of the segment counts.
            let mut bad = good.clone();
            let at = 34 + at.index(good.len() - pad - 34);
            bad[at] ^= 1 << bit;
            prop_assert_eq!(check(&bad), Verdict::Wrong);
        }

        #[test]
        fn anything_else_is_left_alone(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut other = bytes.clone();
            if other.len() > 23 && other[23] == TCP {
                other[23] = 17;
            }
            let before = other.clone();
            fill(&mut other);
            prop_assert_eq!(&other, &before);
            prop_assert_ne!(check(&other), Verdict::Wrong);
            // Whatever it is, no panic.
            check(&bytes);
        }
    }

    #[test]
    fn sums_of_all_ones_do_not_overflow() {
        assert_eq!(fold(sum(&[0xff; 1500])), 0xffff);
        assert_eq!(fold(u128::MAX), 0xffff);
        assert_eq!(fold(0), 0);
    }

    #[test]
    fn fragments_are_known() {
        let mut f = frame(&[1, 2, 3], 1, 2, 0);
        f[20] = 0x40; // don't fragment
        assert_eq!(check(&f), Verdict::Good);
        f[20] = 0x20; // more fragments
        assert_eq!(check(&f), Verdict::Fragment);
        f[20..22].copy_from_slice(&[0, 1]);
        assert_eq!(check(&f), Verdict::Fragment);
    }
}
