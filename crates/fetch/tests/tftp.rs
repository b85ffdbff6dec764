//! A TFTP server of this test's own, a wire that loses datagrams, and servers that misbehave.

mod common;

use common::{Kept, url};
use fetch::{PATIENCE_US, Reply, Status, TftpGet};
use proptest::prelude::*;

const FILE: &str = "tftp://10.0.0.2/guests/kernel";
/// The server's port of the transfer.
const PORT: u16 = 50_000;

fn start() -> (TftpGet, Reply) {
    let mut get = TftpGet::new(url(FILE), 0);
    let request = get.poll(0).unwrap().unwrap();
    (get, request)
}

fn data(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, 3];
    packet.extend_from_slice(&(number as u16).to_be_bytes());
    packet.extend_from_slice(bytes);
    packet
}

/// A server's answer to what a client sent; `options`: it knows them.
fn answer(file: &[u8], request: &[u8], options: bool) -> Vec<u8> {
    let block = if options { 1428 } else { 512 };
    match *request {
        [0, 1, ..] if options => format!("\0\u{6}tsize\0{}\0blksize\0{block}\0", file.len()).into_bytes(),
        [0, 1, ..] => data(1, &file[..block.min(file.len())]),
        [0, 4, high, low] => {
            let next = usize::from(u16::from_be_bytes([high, low]));
            let from = (next * block).min(file.len());
            data(next as u64 + 1, &file[from..(from + block).min(file.len())])
        }
        _ => panic!("{request:?}"),
    }
}

#[test]
fn asks_as_the_rfcs_say() {
    let (_, request) = start();
    assert_eq!(request.port, 69);
    assert_eq!(request.bytes, b"\0\x01guests/kernel\0octet\0tsize\x000\0blksize\x001428\0");
}

fn error_of(packets: &[&[u8]]) -> (String, Option<Reply>) {
    let (mut get, _) = start();
    let mut kept = Kept::default();
    for packet in packets {
        if let Err((error, reply)) = get.receive(PORT, packet, 0, &mut kept) {
            return (error.to_string().strip_prefix(&format!("{FILE}: ")).unwrap().to_owned(), reply);
        }
    }
    panic!("taken: {packets:?}");
}

#[test]
fn names_what_is_wrong() {
    let (text, reply) = error_of(&[b"\0\x05\0\x01File not found\0"]);
    assert_eq!((text.as_str(), reply), ("the server answers error 1: File not found", None));
    let (text, reply) = error_of(&[b"\0\x06blksize\x009000\0"]);
    assert_eq!(text, "option blksize is acknowledged as '9000'");
    assert_eq!(reply.unwrap().bytes[..4], [0, 5, 0, 8]);
    assert_eq!(error_of(&[b"\0\x06tsize\x0099999999999\0"]).0, "99999999999 bytes are too many");
    assert_eq!(error_of(&[b"\0\x06windowsize\x004\0"]).0, "option windowsize is acknowledged as '4'");
    let (text, _) = error_of(&[b"\0\x06tsize\x0010\0", b"\0\x03\0\x01short"]);
    assert_eq!(text, "truncated: the server ended after 5 of 10 bytes");
    let (text, _) = error_of(&[b"\0\x06tsize\x002\0", b"\0\x03\0\x01long"]);
    assert_eq!(text, "4 bytes came where the server announced 2");
    assert_eq!(error_of(&[&data(1, &[0; 513])]).0, "no TFTP packet: a block longer than agreed");
    assert_eq!(error_of(&[b"\0"]).0, "no TFTP packet: shorter than an opcode");
    assert_eq!(error_of(&[b"\0\x02x\0octet\0"]).0, "no TFTP packet: an opcode that no server sends");
}

#[test]
fn tells_a_stranger_and_goes_on() {
    let (mut get, _) = start();
    let mut kept = Kept::default();
    get.receive(PORT, &data(1, &[1; 512]), 0, &mut kept).unwrap();
    let (status, reply) = get.receive(PORT + 1, &data(2, b"wrong"), 0, &mut kept).unwrap();
    let reply = reply.unwrap();
    assert_eq!((status, reply.port, &reply.bytes[..4]), (Status::More, PORT + 1, [0, 5, 0, 5].as_slice()));
    let (status, _) = get.receive(PORT, &data(2, b"right"), 0, &mut kept).unwrap();
    assert_eq!((status, kept.bytes.len()), (Status::Done, 517));
    // Its last acknowledgement was lost.
    let (status, reply) = get.receive(PORT, &data(2, b"right"), 0, &mut kept).unwrap();
    assert_eq!((status, reply.unwrap().bytes, kept.bytes.len()), (Status::Done, vec![0, 4, 0, 2], 517));
}

#[test]
fn asks_again_and_gives_a_silent_server_up() {
    let (mut get, request) = start();
    assert_eq!(get.poll(999_999).unwrap(), None);
    let mut asked = 1;
    let mut now = 0;
    let error = loop {
        now += 1_000_000;
        match get.poll(now) {
            Ok(again) => assert_eq!(again.as_ref(), Some(&request)),
            Err(error) => break error,
        }
        asked += 1;
    };
    assert_eq!((asked, now), (20, PATIENCE_US));
    assert_eq!(error.to_string(), format!("{FILE}: the server has been silent for 20 s, 0 bytes came"));
}

#[test]
fn counts_blocks_past_65535() {
    let (mut get, _) = start();
    struct Count(u64);
    impl fetch::Sink for Count {
        fn size(&mut self, _: u64) -> Result<(), String> {
            Ok(())
        }
        fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
            self.0 += bytes.len() as u64;
            Ok(())
        }
    }
    let mut count = Count(0);
    for number in 1..=70_000_u64 {
        get.receive(PORT, &data(number, &[0; 512]), 0, &mut count).unwrap();
    }
    let (status, _) = get.receive(PORT, &data(70_001, b"end"), 0, &mut count).unwrap();
    assert_eq!((status, count.0), (Status::Done, 70_000 * 512 + 3));
}

proptest! {
    #[test]
    fn any_file_comes_over_a_wire_that_loses(
        len in 0_usize..20_000, options in any::<bool>(), lost in prop::collection::vec(any::<bool>(), 60),
    ) {
        let file: Vec<u8> = (0..len).map(|i| (i * 7 + i / 251) as u8).collect();
        let (mut get, mut request) = start();
        let (mut kept, mut now, mut lost) = (Kept::default(), 0, lost.into_iter());
        // Never as often in a row as ends the transfer.
        let mut in_a_row = 0;
        loop {
            let drop = in_a_row < 15 && lost.next().unwrap_or(false);
            in_a_row = if drop { in_a_row + 1 } else { 0 };
            if drop {
                now += 1_000_000;
                request = get.poll(now).unwrap().unwrap();
                continue;
            }
            let packet = answer(&file, &request.bytes, options);
            let (status, reply) = get.receive(PORT, &packet, now, &mut kept).map_err(|(e, _)| e).unwrap();
            if status == Status::Done {
                break;
            }
            match reply {
                Some(reply) => request = reply,
                None => {
                    now += 1_000_000;
                    request = get.poll(now).unwrap().unwrap();
                }
            }
        }
        prop_assert_eq!(&kept.bytes, &file);
        prop_assert_eq!(kept.size, options.then_some(len as u64));
        prop_assert_eq!(get.received(), len as u64);
    }

    #[test]
    fn arbitrary_packets_do_no_harm(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..6), op in 0_u8..8) {
        let (mut get, _) = start();
        let mut kept = Kept::default();
        for mut packet in packets {
            if let [high, low, ..] = &mut *packet {
                (*high, *low) = (0, op);
            }
            if get.receive(PORT, &packet, 0, &mut kept).is_err() {
                break;
            }
            prop_assert_eq!(get.received(), kept.bytes.len() as u64);
        }
    }
}
