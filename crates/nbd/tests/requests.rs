//! Requests: how they are cut, ordered, answered and refused.
#![allow(missing_docs)]

mod common;

use common::*;
use nbd::{Action, Command, ErrorCode, Failure, Limits, State, Tag};

/// Attached to a server that takes no more than 8 KiB at a time.
fn narrow() -> Bench {
    let mut bench = Bench::new("", Limits { in_flight: 3, ..Limits::default() });
    bench.attach(&[greeting(), blocks([512, 4096, 8192]), export(SIZE, ALL), ack()].concat());
    bench
}

#[test]
fn long_requests_go_in_pieces_that_end_with_blocks() {
    let mut bench = narrow();
    bench.submit(1, read(512, 20480));
    let pieces = bench.asked();
    let ranges: Vec<_> = pieces.iter().map(|piece| (piece.offset, piece.len)).collect();
    assert_eq!(ranges, [(512, 7680), (8192, 8192), (16384, 4608)]);
    // In any order; one answer, and each byte in its place.
    for at in [2, 0, 1] {
        assert_eq!(bench.answers(), []);
        bench.done(&pieces[at]);
    }
    assert_eq!(bench.answers(), [(1, Ok(()))]);
    let places: Vec<_> = bench.read.iter().map(|(tag, at, bytes)| (tag.0, *at, bytes.len())).collect();
    assert_eq!(places, [(1, 15872, 4608), (1, 0, 7680), (1, 7680, 8192)]);

    bench.submit(2, write(0, 20000 / 512 * 512));
    let pieces = bench.asked();
    let ranges: Vec<_> = pieces.iter().map(|piece| (piece.offset, piece.data.len())).collect();
    assert_eq!(ranges, [(0, 8192), (8192, 8192), (16384, 3584)]);
    // What carries no data is cut as well: a server may refuse it otherwise.
    pieces.iter().for_each(|piece| bench.done(piece));
    bench.submit(3, Command::WriteZeroes { offset: 0, len: 16384, fua: true, unmap: false });
    let pieces = bench.asked();
    assert_eq!(kinds(&pieces), [(ZEROES, 0), (ZEROES, 8192)]);
    // FUA and NO_HOLE.
    assert_eq!(pieces[0].flags, 3);
    pieces.iter().for_each(|piece| bench.done(piece));
}

#[test]
fn no_more_is_sent_than_may_be_in_flight() {
    let mut bench = narrow();
    (0..5).for_each(|at| bench.submit(at, read(at * 4096, 4096)));
    let first = bench.asked();
    assert_eq!(kinds(&first), [(READ, 0), (READ, 4096), (READ, 8192)]);
    bench.done(&first[1]);
    assert_eq!(kinds(&bench.asked()), [(READ, 12288)]);
    assert_eq!(bench.answers(), [(1, Ok(()))]);
}

#[test]
fn what_overlaps_keeps_its_order() {
    let mut bench = Bench::usual();
    bench.submit(1, write(0, 1024));
    bench.submit(2, read(512, 512));
    bench.submit(3, write(512, 1024));
    bench.submit(4, read(4096, 512));
    bench.submit(5, read(4096, 512));
    bench.submit(6, Command::Trim { offset: 1024, len: 512 });
    let first = bench.asked();
    assert_eq!(kinds(&first), [(WRITE, 0), (READ, 4096), (READ, 4096)]);
    bench.done(&first[0]);
    let second = bench.asked();
    assert_eq!(kinds(&second), [(READ, 512)]);
    bench.done(&second[0]);
    let third = bench.asked();
    assert_eq!(kinds(&third), [(WRITE, 512)]);
    bench.done(&third[0]);
    assert_eq!(kinds(&bench.asked()), [(TRIM, 1024)]);
    // A flush waits for none of them.
    bench.submit(7, Command::Flush);
    assert_eq!(kinds(&bench.asked()), [(FLUSH, 0)]);
}

#[test]
fn the_server_s_errors_reach_the_caller() {
    let mut bench = Bench::usual();
    let codes = [
        (1, ErrorCode::Perm),
        (5, ErrorCode::Io),
        (12, ErrorCode::NoMem),
        (22, ErrorCode::Inval),
        (28, ErrorCode::NoSpc),
        (75, ErrorCode::Overflow),
        (95, ErrorCode::NotSup),
        (7, ErrorCode::Inval),
        (u32::MAX, ErrorCode::Inval),
    ];
    for (number, code) in codes {
        for command in [read(0, 512), write(0, 512), Command::Flush, Command::Trim { offset: 0, len: 512 }] {
            bench.submit(1, command);
            let asked = bench.asked();
            bench.fail(&asked[0], number);
            assert_eq!(bench.answers(), [(1, Err(Failure::Server(code)))]);
        }
    }
    // A write that was refused is no one's to keep.
    assert_eq!(bench.client.unflushed(), (0, 0));
    assert_eq!(ErrorCode::NoSpc.to_string(), "ENOSPC");
}

#[test]
fn one_piece_that_fails_is_the_end_of_its_request() {
    let mut bench = narrow();
    bench.submit(1, write(0, 8192 * 5));
    let pieces = bench.asked();
    bench.done(&pieces[0]);
    let fourth = bench.asked();
    bench.fail(&pieces[1], 28);
    // The first error counts, nothing more is sent, and the rest is waited for.
    bench.fail(&fourth[0], 5);
    assert_eq!((bench.answers(), bench.asked()), (vec![], vec![]));
    bench.done(&pieces[2]);
    assert_eq!(bench.answers(), [(1, Err(Failure::Server(ErrorCode::NoSpc)))]);
}

#[test]
fn a_server_that_ends_is_left_and_its_requests_go_to_the_next() {
    let mut bench = narrow();
    bench.submit(1, write(0, 16384));
    bench.submit(2, read(65536, 512));
    let pieces = bench.asked();
    bench.fail(&pieces[0], 108);
    bench.done(&pieces[1]);
    bench.done(&pieces[2]);
    // Two pieces, one of them good: the write is not done for that.
    assert_eq!(bench.answers(), [(2, Ok(()))]);
    assert_eq!(kinds(&bench.asked()), [(DISC, 0)]);
    assert_eq!(bench.client.state(), State::Leaving);
    bench.submit(3, read(0, 512));
    assert_eq!(bench.asked(), []);
    bench.cut();
    assert_eq!(
        bench.standing(),
        "stands still for 0 s, 2 requests wait: the server is about to end (ESHUTDOWN); 1 attempts"
    );
    bench.attach(&go(SIZE, ALL));
    assert_eq!(kinds(&bench.asked()), [(WRITE, 0)]);

    // Who wants to hear of it does.
    let mut bench = Bench::open(",on-error=report", Limits::default(), SIZE, ALL);
    bench.submit(1, write(0, 512));
    let asked = bench.asked();
    bench.fail(&asked[0], 108);
    assert_eq!(bench.answers(), [(1, Err(Failure::Server(ErrorCode::Shutdown)))]);
    assert_eq!(kinds(&bench.asked()), [(DISC, 0)]);
    // And the connection is closed, if the server does not.
    assert_eq!(bench.client.poll(nbd::LEAVE_US - 1), Action::None);
    assert_eq!(bench.client.poll(nbd::LEAVE_US), Action::Close);
    assert_eq!(bench.client.state(), State::Connecting);
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    let refused =
        |bench: &mut Bench, command| bench.client.submit(Tag(0), command, 0).unwrap_err().to_string();
    let mut bench = Bench::new("", Limits::default());
    assert_eq!(refused(&mut bench, read(0, 512)), "the disk is not attached");
    bench.attach(&go(SIZE, ALL));
    let outside = "bytes at 0xffe00 are not within the disk, which has 0x100000 bytes";
    assert_eq!(refused(&mut bench, read(SIZE - 512, 1024)), format!("1024 {outside}"));
    assert_eq!(refused(&mut bench, write(SIZE - 512, 0)), format!("0 {outside}"));
    assert!(
        refused(&mut bench, read(u64::MAX - 511, 512))
            .starts_with("512 bytes at 0xfffffffffffffe00 are not within")
    );
    assert_eq!(refused(&mut bench, read(256, 512)), "512 bytes at 0x100 are not whole blocks of 512 bytes");
    assert_eq!(refused(&mut bench, write(0, 100)), "100 bytes at 0x0 are not whole blocks of 512 bytes");
    let mut bench = Bench::open("", Limits::default(), SIZE, 1);
    assert_eq!(refused(&mut bench, Command::Flush), "the server does not know FLUSH");
    assert_eq!(refused(&mut bench, Command::Trim { offset: 0, len: 512 }), "the server does not know TRIM");
    let zeroes = Command::WriteZeroes { offset: 0, len: 512, fua: false, unmap: true };
    assert_eq!(refused(&mut bench, zeroes.clone()), "the server does not know WRITE_ZEROES");
    let mut bench = Bench::open(",ro", Limits::default(), SIZE, ALL);
    for command in [write(0, 512), zeroes, Command::Trim { offset: 0, len: 512 }] {
        assert_eq!(refused(&mut bench, command), "the disk is read-only");
    }
    let mut bench = Bench::open("", Limits { bytes: 4096, requests: 2, ..Limits::default() }, SIZE, ALL);
    assert_eq!(refused(&mut bench, write(0, 4608)), "a write of 4608 bytes, at most 4096 are taken");
    bench.submit(1, read(0, 512));
    bench.submit(2, read(0, 512));
    assert_eq!(refused(&mut bench, read(0, 512)), "no room for another request");
    // An answer has its room until it is taken.
    let asked = bench.asked();
    bench.done(&asked[0]);
    assert!(!bench.client.room(0));
    assert_eq!(bench.answers(), [(1, Ok(()))]);
    assert!(bench.client.room(0));
    bench.client.finish();
    assert_eq!(refused(&mut bench, read(0, 512)), "the disk is about to be detached");
}

/// After a lie the connection is dropped, the lie named, and everything is sent again.
fn lie(says: impl FnOnce(&mut Bench, &[Asked]) -> Vec<u8>) -> String {
    let mut bench = Bench::usual();
    bench.submit(1, write(0, 512));
    bench.submit(2, read(4096, 512));
    let asked = bench.asked();
    let says = says(&mut bench, &asked);
    bench.hear(&says);
    let text = bench.client.standing(0).expect("a trouble").trouble.to_string();
    assert_eq!(bench.client.poll(0), Action::Close);
    // What still comes of that connection is nobody's.
    bench.hear(&[0xff; 100]);
    bench.answers();
    bench.attach(&go(SIZE, ALL));
    assert!(!bench.asked().is_empty());
    text
}

#[test]
fn a_server_that_lies_is_left() {
    assert_eq!(
        lie(|_, _| b"\xff\xff\xff\xff".to_vec()),
        "a reply begins with 0xffffffff, which is not its magic number"
    );
    // Also the structured replies that nobody has asked for.
    assert_eq!(
        lie(|_, _| b"\x66\x8e\x33\xef".to_vec()),
        "a reply begins with 0x668e33ef, which is not its magic number"
    );
    assert_eq!(lie(|_, _| reply(77, 0, &[])), "a reply to request 0x4d, which was not sent");
    assert_eq!(lie(|_, _| reply(0, 5, &[])), "a reply to request 0x0, which was not sent");
    assert_eq!(
        lie(|_, asked| reply(asked[0].cookie, 0, &[]).repeat(2)),
        format!("a second reply to request {:#x}", 1)
    );
    assert_eq!(
        lie(|bench, _| {
            bench.submit(3, write(8192, 512));
            // The header is sent, and not all of the data.
            bench.client.sent(28);
            bench.client.sent(511);
            reply(3, 0, &[])
        }),
        "a reply to request 0x3 before it was sent whole"
    );
    // An answer of the connection before.
    let mut bench = Bench::usual();
    bench.submit(1, read(0, 512));
    let old = bench.asked();
    bench.cut();
    bench.attach(&go(SIZE, ALL));
    let new = bench.asked();
    assert_ne!(old[0].cookie, new[0].cookie);
    bench.done(&old[0]);
    assert_eq!(
        bench.client.standing(bench.now_us).unwrap().trouble.to_string(),
        "a reply to request 0x1, which was not sent"
    );
    assert_eq!(bench.answers(), []);
}

#[test]
fn replies_may_come_byte_by_byte() {
    let mut bench = Bench::usual();
    bench.submit(1, read(0, 512));
    bench.submit(2, write(4096, 512));
    let asked = bench.asked();
    let says = [reply(asked[0].cookie, 0, &[9; 512]), reply(asked[1].cookie, 0, &[])].concat();
    says.iter().for_each(|byte| bench.hear(&[*byte]));
    assert_eq!(bench.answers(), [(1, Ok(())), (2, Ok(()))]);
    assert_eq!(bench.read.len(), 512);
    assert!(bench.read.iter().enumerate().all(|(at, read)| *read == (Tag(1), at as u64, vec![9])));
}
