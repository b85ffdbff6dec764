//! What lasts: writes that are kept, flushes, lost servers, and the end.
#![allow(missing_docs)]

mod common;

use common::*;
use nbd::{Action, Command, ErrorCode, Failure, Limits, REPORT_AFTER_US, RETRY_US, State};

/// Submits, and answers what is asked.
fn do_it(bench: &mut Bench, command: Command) {
    bench.submit(9, command);
    for asked in bench.asked() {
        bench.done(&asked);
    }
    assert_eq!(bench.answers(), [(9, Ok(()))]);
}

/// Loses the connection and takes what is sent first on the next one.
fn again(bench: &mut Bench) -> Vec<Asked> {
    bench.cut();
    bench.attach(&go(SIZE, ALL));
    bench.asked()
}

#[test]
fn writes_that_were_answered_are_sent_again_until_they_are_flushed() {
    let mut bench = Bench::usual();
    do_it(&mut bench, write(0, 512));
    do_it(&mut bench, Command::WriteZeroes { offset: 8192, len: 512, fua: false, unmap: true });
    do_it(&mut bench, Command::Trim { offset: 16384, len: 512 });
    assert_eq!(bench.client.unflushed(), (2, 512));
    bench.submit(1, read(0, 512));
    bench.submit(2, read(4096, 512));
    assert_eq!(kinds(&bench.asked()), [(READ, 0), (READ, 4096)]);
    bench.cut();
    assert_eq!(
        bench.standing(),
        "stands still for 0 s, 4 requests wait (2 of them writes that were answered): the connection was closed \
         with 2 requests open; 1 attempts"
    );
    // A trim is no more than a hint. The read of what is sent again waits for it.
    bench.attach(&go(SIZE, ALL));
    let asked = bench.asked();
    assert_eq!(kinds(&asked), [(WRITE, 0), (ZEROES, 8192), (READ, 4096)]);
    assert_eq!(asked[0].data, [0xa5; 512]);
    bench.done(&asked[0]);
    assert_eq!(kinds(&bench.asked()), [(READ, 0)]);
    bench.done(&asked[1]);
    // Their answer was given.
    assert_eq!(bench.answers(), []);
    assert_eq!(bench.standing(), "");
    do_it(&mut bench, Command::Flush);
    assert_eq!(bench.client.unflushed(), (0, 0));
}

#[test]
fn a_flush_is_for_what_was_answered_before_it_was_sent_on_that_connection() {
    let mut bench = Bench::usual();
    do_it(&mut bench, write(0, 512));
    bench.submit(1, write(4096, 512));
    let late = bench.asked();
    bench.submit(2, Command::Flush);
    let flush = bench.asked();
    bench.done(&late[0]);
    bench.done(&flush[0]);
    assert_eq!(bench.answers(), [(1, Ok(())), (2, Ok(()))]);
    // The second write was answered behind the flush.
    bench.submit(3, Command::Flush);
    assert_eq!(kinds(&bench.asked()), [(FLUSH, 0)]);
    let asked = again(&mut bench);
    // A flush that has no answer waits for what is sent again.
    assert_eq!(kinds(&asked), [(WRITE, 4096)]);
    bench.done(&asked[0]);
    let flush = bench.asked();
    assert_eq!(kinds(&flush), [(FLUSH, 0)]);
    bench.done(&flush[0]);
    assert_eq!((bench.answers(), bench.client.unflushed()), (vec![(3, Ok(()))], (0, 0)));
}

#[test]
fn writes_with_fua_last_by_themselves() {
    let mut bench = Bench::usual();
    bench.submit(1, fua(0, 512));
    let asked = bench.asked();
    assert_eq!(asked[0].flags, 1);
    bench.done(&asked[0]);
    assert_eq!((bench.answers(), bench.client.unflushed()), (vec![(1, Ok(()))], (0, 0)));
    // Over a write that is kept, and would be sent again over it: the two last together.
    do_it(&mut bench, write(4096, 1024));
    bench.submit(2, fua(4608, 1024));
    let asked = bench.asked();
    bench.done(&asked[0]);
    assert_eq!(bench.answers(), []);
    let flush = bench.asked();
    assert_eq!(kinds(&flush), [(FLUSH, 0)]);
    bench.done(&flush[0]);
    assert_eq!((bench.answers(), bench.client.unflushed()), (vec![(2, Ok(()))], (0, 0)));
}

#[test]
fn a_flush_stands_in_for_fua() {
    let mut bench = Bench::open("", Limits::default(), SIZE, NO_FUA);
    bench.submit(1, fua(0, 512));
    bench.submit(2, fua(4096, 512));
    let asked = bench.asked();
    assert_eq!(asked[0].flags, 0);
    bench.done(&asked[0]);
    let flush = bench.asked();
    assert_eq!(kinds(&flush), [(FLUSH, 0)]);
    bench.done(&asked[1]);
    assert_eq!(bench.answers(), []);
    bench.done(&flush[0]);
    assert_eq!(bench.answers(), [(1, Ok(()))]);
    let flush = bench.asked();
    bench.fail(&flush[0], 5);
    assert_eq!(bench.answers(), [(2, Err(Failure::Server(ErrorCode::Io)))]);
    // Until then they are requests without an answer.
    let mut bench = Bench::open("", Limits { requests: 2, ..Limits::default() }, SIZE, NO_FUA);
    bench.submit(1, fua(0, 512));
    bench.submit(2, fua(4096, 512));
    let asked = bench.asked();
    asked.iter().for_each(|asked| bench.done(asked));
    assert!(!bench.client.room(0));
    // Without either there is nothing to be had.
    let mut bench = Bench::open("", Limits::default(), SIZE, 1);
    do_it(&mut bench, fua(0, 512));
    assert_eq!((bench.asked(), bench.client.unflushed()), (vec![], (0, 0)));
}

#[test]
fn what_is_kept_has_a_bound_and_a_flush_makes_room() {
    let limits = Limits { bytes: 4096, writes: 8, ..Limits::default() };
    let mut bench = Bench::open("", limits, SIZE, ALL);
    do_it(&mut bench, write(0, 1536));
    assert_eq!(bench.asked(), []);
    // Half of the bytes: a flush that nobody has asked for, and only one.
    do_it(&mut bench, write(4096, 512));
    let flush = bench.asked();
    assert_eq!(kinds(&flush), [(FLUSH, 0)]);
    assert_eq!(bench.asked(), []);
    assert!(bench.client.room(2048) && !bench.client.room(2560));
    bench.done(&flush[0]);
    assert!(bench.client.room(4096));
    assert_eq!((bench.answers(), bench.client.unflushed()), (vec![], (0, 0)));
    // Less than half is kept, and there is no room: also then.
    do_it(&mut bench, write(0, 512));
    assert_eq!(bench.asked(), []);
    assert!(!bench.client.room(4096));
    let flush = bench.asked();
    assert_eq!(kinds(&flush), [(FLUSH, 0)]);
    bench.done(&flush[0]);
    assert!(bench.client.room(4096));
    // Half of the writes.
    (0..3).for_each(|at| do_it(&mut bench, write(at * 4096, 512)));
    assert_eq!(bench.asked(), []);
    do_it(&mut bench, Command::WriteZeroes { offset: 0, len: 512, fua: false, unmap: true });
    assert_eq!(kinds(&bench.asked()), [(FLUSH, 0)]);
}

#[test]
fn a_flush_of_its_own_that_fails_is_tried_again() {
    let mut bench = Bench::open("", Limits { bytes: 1024, ..Limits::default() }, SIZE, ALL);
    do_it(&mut bench, write(0, 512));
    let flush = bench.asked();
    bench.fail(&flush[0], 5);
    assert_eq!(bench.standing(), "stands still for 0 s, 0 requests wait: the server cannot flush: EIO");
    assert_eq!((bench.asked(), bench.client.next_deadline(0)), (vec![], Some(RETRY_US)));
    bench.now_us = RETRY_US;
    let flush = bench.asked();
    bench.done(&flush[0]);
    assert_eq!((bench.standing().as_str(), bench.client.unflushed()), ("", (0, 0)));
    // A caller that wants to hear of errors has it with its next flush, once.
    let mut bench = Bench::open(",on-error=report", Limits { bytes: 1024, ..Limits::default() }, SIZE, ALL);
    do_it(&mut bench, write(0, 512));
    let flush = bench.asked();
    bench.fail(&flush[0], 28);
    for result in [Err(Failure::Server(ErrorCode::NoSpc)), Ok(())] {
        bench.now_us += RETRY_US;
        bench.submit(1, Command::Flush);
        let flush = bench.asked();
        bench.done(&flush[0]);
        assert_eq!(bench.answers(), [(1, result)]);
    }
}

#[test]
fn a_write_that_is_refused_when_it_is_sent_again_stands_still_or_is_told() {
    let mut bench = Bench::usual();
    do_it(&mut bench, write(0, 512));
    let asked = again(&mut bench);
    bench.submit(1, read(0, 512));
    bench.fail(&asked[0], 28);
    assert_eq!(
        bench.standing(),
        "stands still for 0 s, 2 requests wait (1 of them writes that were answered): a write of 512 bytes at 0x0, \
         answered before, is refused now: ENOSPC"
    );
    // What overlaps waits too, until there is room on the server.
    assert_eq!((bench.asked(), bench.answers()), (vec![], vec![]));
    bench.now_us = bench.client.next_deadline(bench.now_us).unwrap();
    let asked = bench.asked();
    assert_eq!(kinds(&asked), [(WRITE, 0)]);
    bench.done(&asked[0]);
    assert_eq!((kinds(&bench.asked()), bench.standing().as_str()), (vec![(READ, 0)], ""));

    let mut bench = Bench::open(",on-error=report", Limits::default(), SIZE, ALL);
    do_it(&mut bench, write(0, 512));
    let asked = again(&mut bench);
    bench.fail(&asked[0], 28);
    bench.submit(1, Command::Flush);
    let flush = bench.asked();
    bench.done(&flush[0]);
    assert_eq!(bench.answers(), [(1, Err(Failure::Server(ErrorCode::NoSpc)))]);
    assert_eq!(bench.client.unflushed(), (0, 0));
}

#[test]
fn another_disk_at_the_same_place_is_not_written_to() {
    let mut bench = Bench::usual();
    bench.submit(1, write(0, 512));
    for (says, text) in [
        (go(SIZE * 2, ALL), "size was 0x100000 and is 0x200000 now: this is not the disk that it was"),
        (go(SIZE, 1), "flags was 0x6c and is 0x0 now: this is not the disk that it was"),
        (
            [greeting(), blocks([4096, 4096, 65536]), export(SIZE, ALL), ack()].concat(),
            "block was 0x200 and is 0x1000 now: this is not the disk that it was",
        ),
        (go(SIZE, ALL | 2), "the export is read-only, and the disk is not (add ',ro')"),
    ] {
        bench.cut();
        bench.attach(&says);
        assert_eq!(bench.client.standing(0).unwrap().trouble.to_string(), text);
        assert_eq!((bench.client.state(), bench.client.outgoing()), (State::Connecting, &[][..]));
    }
    // The old one comes back; that it serves several connections now, and sends less at once, is no matter.
    bench.attach(&[greeting(), blocks([512, 4096, 4096]), export(SIZE, ALL | 0x100), ack()].concat());
    assert_eq!(kinds(&bench.asked()), [(WRITE, 0)]);
}

#[test]
fn whoever_waits_is_told_nothing_and_the_operator_is() {
    let mut bench = Bench::usual();
    bench.submit(1, read(0, 512));
    let asked = bench.asked();
    bench.now_us = 4_999_999;
    assert_eq!(bench.standing(), "");
    bench.now_us = 3_600_000_000;
    assert_eq!((bench.asked(), bench.answers()), (vec![], vec![]));
    assert_eq!(
        bench.standing(),
        "stands still for 3600 s, 1 requests wait: no answer for 3600 s with 1 request open"
    );
    // A server that is only slow is not left.
    bench.done(&asked[0]);
    assert_eq!((bench.answers(), bench.standing().as_str()), (vec![(1, Ok(()))], ""));
}

#[test]
fn whoever_wants_a_report_has_it_in_time() {
    let mut bench = Bench::open(",on-error=report", Limits::default(), SIZE, ALL);
    do_it(&mut bench, write(4096, 512));
    bench.submit(1, read(0, 512));
    bench.submit(2, write(0, 512));
    bench.cut();
    let since = bench.now_us;
    bench.submit(3, Command::Flush);
    let mut now = since;
    while bench.client.poll(now) == Action::Connect || now < since + REPORT_AFTER_US {
        assert_eq!(bench.answers(), []);
        bench.client.closed("refused", now);
        now = bench.client.next_deadline(now).unwrap();
    }
    let gone = Err(Failure::Gone);
    assert_eq!((now, bench.answers()), (since + REPORT_AFTER_US, vec![(1, gone), (2, gone), (3, gone)]));
    // What is asked now is told at once, and never sent; what was answered before is sent again.
    bench.now_us = now;
    bench.submit(4, write(8192, 512));
    while bench.client.poll(bench.now_us) == Action::Connect {
        bench.client.closed("refused", bench.now_us);
    }
    assert_eq!(bench.answers(), [(4, gone)]);
    bench.attach(&go(SIZE, ALL));
    let asked = bench.asked();
    assert_eq!(kinds(&asked), [(WRITE, 4096)]);
    bench.done(&asked[0]);
    assert_eq!(bench.standing(), "");

    // One that is there and says nothing.
    bench.submit(5, read(0, 512));
    bench.asked();
    let end = bench.now_us + REPORT_AFTER_US;
    assert_eq!(
        (bench.client.next_deadline(bench.now_us), bench.client.poll(end - 1)),
        (Some(end), Action::None)
    );
    assert_eq!(bench.client.poll(end), Action::Close);
    assert_eq!(bench.answers(), [(5, gone)]);
    bench.now_us = end;
    bench.attach(&go(SIZE, ALL));
    assert_eq!(kinds(&bench.asked()), [(WRITE, 4096)]);
}

#[test]
fn the_end_comes_behind_the_last_answer_and_a_flush() {
    let mut bench = Bench::usual();
    do_it(&mut bench, write(0, 512));
    bench.submit(1, read(0, 512));
    let asked = bench.asked();
    bench.client.finish();
    assert_eq!(bench.asked(), []);
    bench.done(&asked[0]);
    assert_eq!(bench.answers(), [(1, Ok(()))]);
    let flush = bench.asked();
    assert_eq!(kinds(&flush), [(FLUSH, 0)]);
    bench.done(&flush[0]);
    assert_eq!(kinds(&bench.asked()), [(DISC, 0)]);
    assert_eq!((bench.client.state(), bench.client.next_deadline(0)), (State::Leaving, Some(nbd::LEAVE_US)));
    bench.cut();
    assert_eq!((bench.client.state(), bench.client.next_deadline(0)), (State::Finished, None));
    assert_eq!(bench.client.poll(60_000_000), Action::None);
    // The move was called off.
    bench.client.resume(60_000_000);
    bench.now_us = 60_000_000;
    bench.attach(&go(SIZE, ALL));
    do_it(&mut bench, read(0, 512));
    // Called off before the end.
    bench.client.finish();
    assert_eq!(kinds(&bench.asked()), [(DISC, 0)]);
    bench.client.resume(bench.now_us);
    bench.submit(2, read(0, 512));
    bench.cut();
    bench.attach(&go(SIZE, ALL));
    assert_eq!(kinds(&bench.asked()), [(READ, 0)]);
}

#[test]
fn an_end_while_the_server_is_gone() {
    // Nothing is owed: at once, also while a connection is opened.
    let mut bench = Bench::new("", Limits::default());
    bench.connect();
    bench.client.finish();
    assert_eq!((bench.client.poll(0), bench.client.state()), (Action::Close, State::Finished));
    // A write that may be lost is sent again first.
    let mut bench = Bench::usual();
    do_it(&mut bench, write(0, 512));
    bench.client.finish();
    let asked = again(&mut bench);
    assert_eq!(kinds(&asked), [(WRITE, 0)]);
    bench.done(&asked[0]);
    let flush = bench.asked();
    // A flush that fails ends nothing.
    bench.fail(&flush[0], 5);
    assert_eq!((bench.asked(), bench.client.state()), (vec![], State::Open));
    bench.now_us += RETRY_US;
    let flush = bench.asked();
    bench.done(&flush[0]);
    assert_eq!(kinds(&bench.asked()), [(DISC, 0)]);
    assert_eq!(bench.client.poll(bench.now_us + nbd::LEAVE_US), Action::Close);
    assert_eq!(bench.client.state(), State::Finished);
}
