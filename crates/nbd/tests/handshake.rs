//! Negotiation: what a server must say, and what becomes of one that says something else.
#![allow(missing_docs)]

mod common;

use common::*;
use nbd::{Blocks, Limits, State};
use proptest::prelude::*;

/// What the client says after a server has said this.
fn trouble(words: &str, says: &[u8]) -> String {
    let mut bench = Bench::new(words, Limits::default());
    bench.connect();
    bench.say(says);
    assert_eq!(bench.client.state(), State::Connecting);
    let text = bench.client.standing(0).expect("a trouble").trouble.to_string();
    // The connection is dropped, and after a while there is another try.
    assert_eq!(bench.client.poll(0), nbd::Action::Close);
    bench.attach(&go(SIZE, ALL));
    assert_eq!(bench.client.state(), State::Open);
    text
}

/// After the greeting.
fn lie(says: &[u8]) -> String {
    trouble("", &[greeting(), says.to_vec()].concat())
}

#[test]
fn an_export_with_and_without_block_sizes() {
    let bench = Bench::usual();
    let export = bench.client.export().unwrap();
    assert_eq!((export.size, export.flags, export.block()), (SIZE, ALL, 512));
    assert_eq!(export.blocks, Blocks { min: 1, preferred: 4096, max: 32 << 20 });
    assert!(export.flush() && export.fua() && export.trim() && export.write_zeroes() && !export.read_only());
    let mut bench = Bench::new("", Limits::default());
    // Names, descriptions and what nobody knows are passed over; the order is free, and the same may be said again.
    let sizes = blocks([4096, 8192, 1 << 20]);
    let says = [greeting(), sizes.clone(), info(1, b"disk"), info(2, b""), info(77, &[0xff; 100]), sizes];
    bench.attach(&[says.concat(), export_and_ack(SIZE, ALL)].concat());
    let export = bench.client.export().unwrap();
    assert_eq!((export.block(), export.blocks), (4096, Blocks { min: 4096, preferred: 8192, max: 1 << 20 }));
}

/// The end of a handshake.
fn export_and_ack(size: u64, flags: u16) -> Vec<u8> {
    [export(size, flags), ack()].concat()
}

#[test]
fn flags_of_the_client_are_those_that_the_server_has() {
    let mut bench = Bench::new("", Limits::default());
    bench.connect();
    bench.hear(b"NBDMAGICIHAVEOPT\0\x01");
    assert_eq!(bench.client.outgoing()[..4], [0, 0, 0, 1]);
    let mut bench = Bench::new("", Limits::default());
    bench.connect();
    bench.hear(b"NBDMAGICIHAVEOPT\xff\xff");
    assert_eq!(bench.client.outgoing()[..4], [0, 0, 0, 3]);
}

#[test]
fn no_server_or_an_old_one() {
    assert_eq!(
        trouble("", b"HTTP/1.1 400"),
        "the greeting begins with 0x485454502f312e31, which is not NBDMAGIC"
    );
    assert_eq!(
        trouble("", b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53"),
        "the server speaks the oldstyle handshake, which has no NBD_OPT_GO"
    );
    assert_eq!(
        trouble("", b"NBDMAGIC        "),
        "the handshake is of style 0x2020202020202020, which is not IHAVEOPT"
    );
    assert_eq!(
        trouble("", b"NBDMAGICIHAVEOPT\0\x02"),
        "handshake flags 0x2: the server does not speak fixed newstyle, and has no NBD_OPT_GO"
    );
    assert_eq!(lie(&option(GO, 0x8000_0001, b"")), "the server does not know NBD_OPT_GO (NBD_REP_ERR_UNSUP)");
}

#[test]
fn a_server_that_refuses_the_export() {
    assert_eq!(
        lie(&option(GO, 0x8000_0006, b"export 'disk' not present\n")),
        "the server refuses the export: NBD_REP_ERR_UNKNOWN (there is no such export): export \\'disk\\' not present"
    );
    assert_eq!(
        lie(&option(GO, 0x8000_0005, b"")),
        "the server refuses the export: NBD_REP_ERR_TLS_REQD (this client has no TLS)"
    );
    assert_eq!(lie(&option(GO, 0x8000_0002, b"")), "the server refuses the export: NBD_REP_ERR_POLICY");
    // Words that are no UTF-8, with control characters, far too long.
    let text = lie(&option(GO, 0xffff_ffff, &[&b"\x1b[2J\xff"[..], &[b'x'; 5000]].concat()));
    assert_eq!(
        text,
        format!("the server refuses the export: error 2147483647: \\u{{1b}}[2J\u{fffd}{}", "x".repeat(95))
    );
}

#[test]
fn option_replies_that_cannot_be() {
    assert_eq!(
        lie(&[0x11; 8]),
        "an option reply begins with 0x1111111111111111, which is not its magic number"
    );
    assert_eq!(lie(&option(3, 1, &[])), "a reply to option 3, where NBD_OPT_GO (7) was sent");
    assert_eq!(lie(&option(GO, 2, b"\0\0\0\0")), "NBD_OPT_GO is answered with reply type 2");
    assert_eq!(lie(&option(GO, 1, b"x")), "NBD_OPT_GO is answered with reply type 1");
    // The length alone is enough: nothing of the body is waited for.
    let long = &option(GO, 3, &[0; 8193])[..20];
    assert_eq!(lie(long), "NBD_OPT_GO is answered with 8193 bytes, at most 8192 are taken");
    assert_eq!(
        lie(&info(9, &[0; 10]).repeat(65)),
        "NBD_OPT_GO is answered more than 64 times without an end"
    );
    let mut bench = Bench::new("", Limits::default());
    bench.connect();
    bench.hear(&go(SIZE, ALL));
    assert_eq!(
        bench.client.standing(0).unwrap().trouble.to_string(),
        "NBD_OPT_GO is answered before it was sent whole"
    );
    assert_eq!(lie(&ack()), "NBD_OPT_GO is acknowledged without NBD_INFO_EXPORT");
    assert_eq!(lie(&option(GO, 3, b"\0")), "NBD_REP_INFO has 1 bytes");
    assert_eq!(lie(&info(0, &[0; 11])), "NBD_INFO_EXPORT has 13 bytes");
    assert_eq!(lie(&info(3, &[0; 8])), "NBD_INFO_BLOCK_SIZE has 10 bytes");
    assert_eq!(
        lie(&[export(SIZE, ALL), export(SIZE * 2, ALL)].concat()),
        "NBD_INFO_EXPORT is said twice, and differently"
    );
}

#[test]
fn exports_that_cannot_be() {
    let lie = |says: &[u8]| lie(&[says, &ack()].concat());
    assert_eq!(lie(&export(SIZE, 0x6c)), "transmission flags 0x6c are without NBD_FLAG_HAS_FLAGS");
    assert_eq!(lie(&export(0, ALL)), "the export has 0 bytes");
    assert_eq!(lie(&export(1 << 63, ALL)), "the export has 9223372036854775808 bytes");
    assert_eq!(
        lie(&export(1000, ALL)),
        "the export has 1000 bytes, which is no multiple of its block of 512"
    );
    let of = |sizes| lie(&[blocks(sizes), export(SIZE + 512, ALL)].concat());
    assert_eq!(
        of([4096, 4096, 4096]),
        "the export has 1049088 bytes, which is no multiple of its block of 4096"
    );
    for sizes in [
        [0, 4096, 4096],
        [3, 4096, 4096],
        [1 << 17, 1 << 17, 1 << 20],
        [1, 256, 4096],
        [1024, 512, 4096],
        [1, 5000, 1 << 20],
        [1, 4096, 2048],
        [1, 0, 0],
    ] {
        let [min, preferred, max] = sizes;
        assert_eq!(
            of(sizes),
            format!("block sizes {min}, {preferred}, {max} (least, preferred, most) cannot be")
        );
    }
}

#[test]
fn a_read_only_export_wants_a_read_only_disk() {
    let says = [greeting(), export_and_ack(SIZE, ALL | 2)].concat();
    assert_eq!(trouble("", &says), "the export is read-only, and the disk is not (add ',ro')");
    let bench = Bench::open(",ro", Limits::default(), SIZE, ALL | 2);
    assert!(bench.client.export().unwrap().read_only());
}

#[test]
fn a_server_that_is_silent_or_gone_before_there_is_an_export() {
    let mut bench = Bench::new("", Limits::default());
    assert_eq!(bench.client.poll(0), nbd::Action::Connect);
    bench.client.closed("refused\x07", 0);
    assert_eq!(
        bench.standing(),
        "stands still for 0 s, 0 requests wait: no connection: refused\\u{7}; 1 attempts"
    );
    bench.connect();
    bench.cut();
    assert_eq!(
        bench.client.standing(0).unwrap().trouble.to_string(),
        "the connection was closed before the server's greeting"
    );
    bench.connect();
    bench.hear(&greeting());
    bench.cut();
    assert_eq!(
        bench.client.standing(0).unwrap().trouble.to_string(),
        "the connection was closed while the export was asked for"
    );
    // One that lets the client wait, as qemu-nbd does while it serves another.
    bench.connect();
    let end = bench.now_us + nbd::HANDSHAKE_US;
    assert_eq!(bench.client.next_deadline(bench.now_us), Some(end));
    assert_eq!(bench.client.poll(end - 1), nbd::Action::None);
    assert_eq!(bench.client.poll(end), nbd::Action::Close);
    assert_eq!(
        bench.client.standing(end).unwrap().trouble.to_string(),
        "no answer for 20 s before the server's greeting"
    );
}

#[test]
fn attempts_are_further_and_further_apart() {
    let mut bench = Bench::new("", Limits::default());
    let mut at = Vec::new();
    for _ in 0..9 {
        bench.connect();
        at.push(bench.now_us / 1000);
        bench.client.closed("refused", bench.now_us);
    }
    assert_eq!(at, [0, 100, 300, 700, 1500, 3100, 6300, 11300, 16300]);
}

proptest! {
    /// However the bytes are cut, the same comes of them.
    #[test]
    fn pieces_make_no_difference(cuts in prop::collection::vec(1_usize..30, 1..40), flags in any::<u16>()) {
        let says = [greeting(), info(2, b"words"), blocks([512, 4096, 65536]), export_and_ack(SIZE, flags | 1)].concat();
        let run = |cuts: &[usize]| {
            let mut bench = Bench::new(",ro", Limits::default());
            bench.connect();
            let mut cuts = cuts.iter().copied().chain(std::iter::repeat(says.len()));
            for mut rest in [&says[..18], &says[18..]] {
                while !rest.is_empty() {
                    let (now, then) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                    bench.hear(now);
                    rest = then;
                }
                bench.collect();
            }
            bench.client.export().copied()
        };
        prop_assert!(run(&[]).is_some());
        prop_assert_eq!(run(&cuts), run(&[]));
    }

    /// Any bytes in place of any others: an export or a trouble, never a panic.
    #[test]
    fn a_broken_handshake_is_named(at in any::<prop::sample::Index>(), value in any::<[u8; 3]>()) {
        let mut says = [greeting(), blocks([512, 4096, 65536]), export_and_ack(SIZE, ALL)].concat();
        let at = at.index(says.len() - 2);
        says[at..at + 3].copy_from_slice(&value);
        let mut bench = Bench::new("", Limits::default());
        bench.connect();
        bench.hear(&says[..18]);
        bench.collect();
        bench.hear(&says[18..]);
        if let Some(standing) = bench.client.standing(0) {
            prop_assert!(standing.to_string().len() < 400);
        }
    }
}
