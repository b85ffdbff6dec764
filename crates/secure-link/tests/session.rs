//! Bytes through an established link, and everything that can happen to them on the way.

mod common;

use common::{Door, End, connected, initiator, keyed, pipe, responder, shake, transfer};
use proptest::prelude::*;
use secure_link::{LinkError, MAX_PLAIN, Security, Service, Session};

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31) >> 3) as u8).collect()
}

#[test]
fn bytes_arrive_both_ways_and_nothing_is_in_clear() {
    let (mut a, mut b) = connected();
    assert_eq!(a.0.service(), Service::Pool);
    let text = data(200_000);
    assert!(transfer(&mut a, &mut b, &text) == text);
    assert!(transfer(&mut b, &mut a, &text[..1000]) == text[..1000]);
    let wire = a.1.out.borrow().all.clone();
    assert!(wire.windows(16).all(|w| w != &text[5000..5016]), "plaintext on the wire");
}

#[test]
fn small_and_slow_pipes_only_take_longer() {
    for (step, room) in [(1, 0), (7, 0), (0, 1), (0, 17), (1460, 64_240), (3, 5)] {
        let (mut a, mut b) = connected();
        {
            let mut way = a.1.out.borrow_mut();
            (way.step, way.room) = (step, room);
        }
        let text = data(MAX_PLAIN + 300);
        assert!(transfer(&mut a, &mut b, &text) == text, "step {step}, room {room}");
    }
}

/// A frame is as large as what was given at once; four of them hold a migration's largest record.
#[test]
fn frames_are_large() {
    let (mut a, mut b) = connected();
    let before = a.1.out.borrow().all.len();
    let text = data(64 * 1024 + 16);
    assert!(transfer(&mut a, &mut b, &text) == text);
    assert_eq!(a.1.out.borrow().all.len() - before, text.len() + 4 * 18);
}

#[test]
fn an_end_is_told_from_a_cut() {
    let (mut a, mut b) = connected();
    let mut buf = [0; 100];
    assert_eq!(a.0.send(&mut a.1, b"last words"), 10);
    a.0.close(&mut a.1);
    assert_eq!(a.0.send(&mut a.1, b"more"), 0, "nothing goes behind the end");
    assert!(!a.0.is_open(&a.1));
    a.1.cut();
    assert_eq!(b.0.recv(&mut b.1, &mut buf), 10);
    assert!(!b.0.is_ended());
    assert_eq!(b.0.recv(&mut b.1, &mut buf), 0);
    assert!(b.0.is_ended() && b.0.fault().is_none() && !b.0.is_open(&b.1));

    // The same, but the end is lost: whatever is cut off, down to the last byte.
    let end = 18;
    for lost in 1..=(end + 10 + 18) {
        let (mut a, mut b) = connected();
        a.0.send(&mut a.1, b"last words");
        a.0.close(&mut a.1);
        a.1.cut();
        {
            let mut way = a.1.out.borrow_mut();
            let left = way.waiting.len() - lost;
            way.waiting.truncate(left);
        }
        let mut got = 0;
        for _ in 0..4 {
            got += b.0.recv(&mut b.1, &mut buf);
        }
        assert!(got == if lost > end { 0 } else { 10 }, "{lost} bytes lost, {got} came");
        assert_eq!(b.0.fault(), Some(&LinkError::Cut), "{lost} bytes lost");
        assert!(!b.0.is_ended());
    }
}

#[test]
fn what_the_peer_still_says_can_be_read_after_our_end() {
    let (mut a, mut b) = connected();
    a.0.close(&mut a.1);
    let mut buf = [0; 10];
    assert_eq!(b.0.recv(&mut b.1, &mut buf), 0);
    assert!(b.0.is_ended());
    assert_eq!(b.0.send(&mut b.1, b"bye"), 3);
    assert_eq!(a.0.recv(&mut a.1, &mut buf), 3);
}

/// Each byte of two frames, each with two of its bits flipped: never a wrong byte comes out.
#[test]
fn a_flipped_bit_never_gets_through() {
    let text = b"0123456789abcdef0123456789abcdef";
    let frame = 2 + text.len() + 16;
    for at in 0..2 * frame {
        for bits in [1, 0x80] {
            let (mut a, mut b) = connected();
            let start = a.1.out.borrow().all.len();
            a.1.out.borrow_mut().flip = Some((start + at, bits));
            a.0.send(&mut a.1, text);
            a.0.send(&mut a.1, text);
            a.0.close(&mut a.1);
            a.1.cut();
            let mut got: Vec<u8> = Vec::new();
            let mut buf = [0; 100];
            for _ in 0..5 {
                let n = b.0.recv(&mut b.1, &mut buf);
                got.extend(&buf[..n]);
            }
            let whole = if at < frame { &[][..] } else { &text[..] };
            assert_eq!(got, whole, "byte {at}");
            let fault = b.0.fault().unwrap_or_else(|| panic!("byte {at} ^ {bits:#x} went unnoticed"));
            assert!(
                matches!(fault, LinkError::Frame(_) | LinkError::Length(_) | LinkError::Cut),
                "byte {at}: {fault}"
            );
            assert!(!b.0.is_open(&b.1) && !b.0.is_ended());
        }
    }
}

/// Sends `count` frames of one byte each; gives the frames back instead of delivering them.
fn frames(a: &mut (Session, End), count: u8) -> Vec<Vec<u8>> {
    (0..count)
        .map(|i| {
            assert_eq!(a.0.send(&mut a.1, &[i]), 1);
            a.1.out.borrow_mut().waiting.drain(..).collect()
        })
        .collect()
}

fn deliver(b: &mut (Session, End), frame: &[u8]) -> Option<u8> {
    b.1.into.borrow_mut().waiting.extend(frame);
    let mut buf = [0; 4];
    let n = b.0.recv(&mut b.1, &mut buf);
    (n == 1).then_some(buf[0])
}

#[test]
fn frames_cannot_be_repeated_left_out_or_moved() {
    // Each order of delivery, the number of bytes that get through, and the frame that is noticed.
    let repeated: &[usize] = &[0, 0];
    let cases = [(repeated, 1, 1), (&[0, 2], 1, 1), (&[1, 0], 0, 0), (&[0, 1, 2, 1], 3, 3)];
    for (order, good, fault) in cases {
        let (mut a, mut b) = connected();
        let frames = frames(&mut a, 3);
        let got: Vec<u8> = order.iter().filter_map(|i| deliver(&mut b, &frames[*i])).collect();
        assert_eq!(got.len(), good, "{order:?}");
        assert_eq!(b.0.fault(), Some(&LinkError::Frame(fault)), "{order:?}");
        assert_eq!(deliver(&mut b, &frames[2]), None, "after a fault nothing is taken");
    }
}

#[test]
fn frames_of_another_link_or_the_other_way_do_not_open() {
    let (mut a, mut b) = connected();
    // A second link of the same hosts, with other one-time keys.
    let mut ends = pipe();
    let (x, y) = (keyed(1, 2), keyed(1, 3));
    let outcome = shake(&mut initiator(&x, 40), &mut responder(&y, 50), &mut ends, &mut Door::default());
    let (Some(Ok(one)), Some(Ok(_))) = outcome else { panic!("no link") };
    let mut other = (one, ends.0);
    let foreign = frames(&mut other, 1);
    assert_eq!(deliver(&mut b, &foreign[0]), None);
    assert_eq!(b.0.fault(), Some(&LinkError::Frame(0)));
    // What this end sent comes back to it.
    let own = frames(&mut a, 2);
    assert_eq!(deliver(&mut a, &own[1]), None);
    assert!(matches!(a.0.fault(), Some(LinkError::Frame(_))));
}

#[test]
fn bytes_behind_the_end_are_an_error() {
    let (mut a, mut b) = connected();
    a.0.close(&mut a.1);
    b.1.into.borrow_mut().waiting.extend([17, 0]);
    let mut buf = [0; 4];
    assert_eq!(b.0.recv(&mut b.1, &mut buf), 0);
    assert_eq!(b.0.recv(&mut b.1, &mut buf), 0);
    assert_eq!(b.0.fault(), Some(&LinkError::AfterEnd));
}

#[test]
fn an_insecure_link_is_the_bytes_themselves() {
    let mut ends = pipe();
    let plain = Security::Insecure;
    let outcome =
        shake(&mut initiator(&plain, 1), &mut responder(&plain, 2), &mut ends, &mut Door::default());
    let (Some(Ok(one)), Some(Ok(two))) = outcome else { panic!("no link") };
    let (mut a, mut b) = ((one, ends.0), (two, ends.1));
    assert_eq!((a.0.peer(), b.0.peer()), (None, None));
    let text = data(100_000);
    assert!(transfer(&mut a, &mut b, &text) == text);
    assert!(a.1.out.borrow().all.ends_with(&text));
    a.0.close(&mut a.1);
    assert_eq!(a.0.send(&mut a.1, b"x"), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any bytes in place of frames: an error or silence, nothing comes out, memory stays bounded.
    #[test]
    fn arbitrary_bytes_open_nothing(noise in proptest::collection::vec(any::<u8>(), 0..70_000)) {
        let (_a, mut b) = connected();
        b.1.into.borrow_mut().waiting.extend(&noise);
        b.1.cut();
        let mut buf = [0; 1000];
        for _ in 0..10 {
            prop_assert_eq!(b.0.recv(&mut b.1, &mut buf), 0);
        }
        prop_assert!(b.0.fault().is_some() || noise.is_empty() || !b.0.is_open(&b.1));
    }

    /// Any way of cutting the stream into pieces gives the same bytes.
    #[test]
    fn any_split_gives_the_same(
        sizes in proptest::collection::vec(1_usize..20_000, 1..4),
        step in 1_usize..3000,
        room in 1_usize..20_000,
    ) {
        let (mut a, mut b) = connected();
        {
            let mut way = a.1.out.borrow_mut();
            (way.step, way.room) = (step, room);
        }
        let text = data(sizes.iter().sum());
        let mut got = Vec::new();
        let mut at = 0;
        for size in sizes {
            got.extend(transfer(&mut a, &mut b, &text[at..at + size]));
            at += size;
        }
        prop_assert!(got == text);
    }
}
