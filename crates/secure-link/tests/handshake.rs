//! Handshakes that end in a link, and all that do not.

mod common;

use std::task::Poll;

use common::{
    Door, End, LIMIT, Outcome, bytes, connected, errors, initiator, keyed, pipe, public, responder, shake,
};
use entropy::Generator;
use proptest::prelude::*;
use secure_link::{
    Alert, ByteStream, HostKey, Initiator, Limit, LinkError, MAGIC, PREFACE_BYTES, PoolKey, Responder,
    Security, Service,
};

/// Bytes that each side sends: preface and first message; preface, second message and proof; third message.
const FROM_INITIATOR: usize = PREFACE_BYTES + 48 + 64;
const FROM_RESPONDER: usize = PREFACE_BYTES + 96 + 19;

fn run(
    a: &Security,
    b: &Security,
    ends: &mut (End, End),
    door: &mut Door,
) -> (Option<Outcome>, Option<Outcome>) {
    shake(&mut initiator(a, 4), &mut responder(b, 5), ends, door)
}

fn failure(a: &Security, b: &Security, door: &mut Door) -> (LinkError, LinkError) {
    match errors(run(a, b, &mut pipe(), door)) {
        (Some(one), Some(two)) => (one, two),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn both_learn_who_the_other_is() {
    let (a, b) = (keyed(1, 2), keyed(1, 3));
    let (mut ends, mut door) = (pipe(), Door::default());
    let (Some(Ok(one)), Some(Ok(two))) = run(&a, &b, &mut ends, &mut door) else { panic!("no link") };
    assert_eq!((one.peer(), two.peer()), (Some(public(&b)), Some(public(&a))));
    assert_eq!((one.service(), two.service()), (Service::Pool, Service::Pool));
    assert_eq!(door.seen, [(Service::Pool, public(&a))]);
    assert_eq!(ends.0.out.borrow().all.len(), FROM_INITIATOR);
    assert_eq!(ends.1.out.borrow().all.len(), FROM_RESPONDER);
    assert_ne!(public(&a), public(&b));
    assert_eq!(public(&a).to_string().len(), 64);
}

/// RFC 7748, 5.2: the first iteration from the base point.
#[test]
fn host_keys_are_x25519() {
    let mut private = [0; 32];
    private[0] = 9;
    let key = HostKey::new(private).unwrap();
    let want = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
    assert_eq!(key.public().to_string(), want);
    assert_eq!(format!("{key:?}"), format!("HostKey({want})"));
}

#[test]
fn evident_mistakes_are_no_keys() {
    assert!(PoolKey::new([0; 32]).is_err() && HostKey::new([0xff; 32]).is_err());
}

#[test]
fn a_wrong_pool_key_is_named_on_both_sides() {
    let mut door = Door::default();
    let (one, two) = failure(&keyed(1, 2), &keyed(9, 3), &mut door);
    assert_eq!(one, LinkError::Refused(Alert::WrongKey));
    assert_eq!(two, LinkError::WrongKey);
    assert!(door.seen.is_empty(), "nobody's key is looked at before the pool key is proven");
    assert_eq!(one.to_string(), "the peer refuses: it holds another pool key");
}

#[test]
fn a_keyed_and_an_insecure_host_refuse_each_other() {
    let (keyed, plain) = (keyed(1, 2), Security::Insecure);
    assert_eq!(
        failure(&keyed, &plain, &mut Door::default()),
        (LinkError::PeerInsecure, LinkError::PeerKeyed)
    );
    assert_eq!(
        failure(&plain, &keyed, &mut Door::default()),
        (LinkError::PeerKeyed, LinkError::PeerInsecure)
    );
}

#[test]
fn a_service_that_is_not_offered_or_full_is_refused_before_any_work() {
    for alert in [Alert::Service, Alert::Busy] {
        let mut door = Door { service: Some(alert), ..Door::default() };
        for (a, b) in [(keyed(1, 2), keyed(1, 3)), (Security::Insecure, Security::Insecure)] {
            let got = failure(&a, &b, &mut door);
            assert_eq!(got, (LinkError::Refused(alert), LinkError::Denied(alert)));
        }
    }
}

#[test]
fn a_changed_host_key_is_refused_after_the_pool_key_is_proven() {
    let mut door = Door { identity: Some(Alert::Identity), ..Door::default() };
    let got = failure(&keyed(1, 2), &keyed(1, 3), &mut door);
    assert_eq!(got, (LinkError::Refused(Alert::Identity), LinkError::Denied(Alert::Identity)));
    assert_eq!(door.seen.len(), 1);
}

/// Lets an answerer hear `bytes` and nothing else.
fn answer(security: &Security, bytes: &[u8]) -> Outcome {
    let (client, mut server) = pipe();
    server.into.borrow_mut().waiting.extend(bytes);
    client.cut();
    let mut responder = responder(security, 5);
    for _ in 0..10 {
        if let Poll::Ready(outcome) = responder.poll(1, &mut server, &mut Door::default()) {
            return outcome;
        }
    }
    panic!("it waits for a peer that hung up");
}

fn preface(change: impl FnOnce(&mut [u8; 16])) -> Vec<u8> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&MAGIC);
    (bytes[8], bytes[10], bytes[12]) = (1, 1, 1);
    change(&mut bytes);
    bytes.to_vec()
}

#[test]
fn odd_prefaces_are_named() {
    let host = keyed(1, 2);
    let cases: [(Vec<u8>, LinkError); 9] = [
        (b"GET / HTTP/1.0\r\n".to_vec(), LinkError::NotOurs(*b"GET ")),
        (b"FLEXMIG\x1a\x01\x00\x01\x00\0\0\0\0".to_vec(), LinkError::NotOurs(*b"FLEX")),
        (b"x".to_vec(), LinkError::NotOurs([b'x', 0, 0, 0])),
        (preface(|b| b[8] = 2), LinkError::Version(2)),
        (preface(|b| b[11] = 9), LinkError::Service(0x901)),
        (preface(|b| b[12] = 2), LinkError::Reserved),
        (preface(|b| b[13] = 1), LinkError::Reserved),
        (preface(|b| b[13] = 99), LinkError::Reserved),
        (preface(|b| b[15] = 1), LinkError::Reserved),
    ];
    for (bytes, want) in cases {
        let outcome = answer(&host, &bytes);
        assert_eq!(outcome.err(), Some(want), "{bytes:x?}");
    }
    assert_eq!(answer(&host, &[]).err(), Some(LinkError::Cut));
    assert_eq!(answer(&host, &preface(|_| {})[..15]).err(), Some(LinkError::Cut));
}

/// Another protocol gets not a byte, and is told without waiting for sixteen.
#[test]
fn another_protocol_is_told_at_once() {
    let (mut client, mut server) = pipe();
    client.send(b"GET ");
    let mut responder = responder(&keyed(1, 2), 5);
    let Poll::Ready(outcome) = responder.poll(1, &mut server, &mut Door::default()) else {
        panic!("it waits")
    };
    assert_eq!(outcome.err(), Some(LinkError::NotOurs(*b"GET ")));
    assert!(server.out.borrow().all.is_empty());
}

/// A host of another version refuses by its preface: the one that connected learns the version.
#[test]
fn versions_are_named_on_both_sides() {
    let (mut client, mut server) = pipe();
    client.send(&preface(|b| b[8] = 7));
    let Poll::Ready(outcome) = responder(&keyed(1, 2), 5).poll(1, &mut server, &mut Door::default()) else {
        panic!("it waits")
    };
    assert_eq!(outcome.err(), Some(LinkError::Version(7)));
    let said = server.out.borrow().all.clone();
    assert_eq!((said[8], said[13]), (1, Alert::Version as u8));
    let (mut client, mut server) = pipe();
    let mut initiator = initiator(&keyed(1, 2), 4);
    assert!(initiator.poll(1, &mut client).is_pending());
    server.send(&preface(|b| (b[8], b[10], b[13]) = (7, 2, 1)));
    let Poll::Ready(outcome) = initiator.poll(1, &mut client) else { panic!("it waits") };
    assert_eq!(outcome.err(), Some(LinkError::Version(7)));
}

#[test]
fn time_limits_hold_on_both_sides() {
    let (mut client, mut server) = pipe();
    let limit = Limit { hz: 1_000_000, ms: 50 };
    let generator = || Generator::from_secret(bytes(1));
    let mut one = Initiator::new(Service::Migrate, &keyed(1, 2), generator(), limit, 1_000).unwrap();
    let mut two = Responder::new(keyed(1, 2), generator(), limit, 1_000);
    client.out.borrow_mut().room = 3;
    assert!(one.poll(50_999, &mut client).is_pending());
    assert!(two.poll(50_999, &mut server, &mut Door::default()).is_pending());
    let Poll::Ready(Err(error)) = one.poll(51_000, &mut client) else { panic!("it waits") };
    assert_eq!(error.to_string(), "no link within 50 ms");
    assert!(matches!(
        two.poll(51_000, &mut server, &mut Door::default()),
        Poll::Ready(Err(LinkError::Late(50)))
    ));
    // An end that is over stays so.
    assert!(matches!(one.poll(51_001, &mut client), Poll::Ready(Err(_))));
    assert_eq!(LIMIT.ms, 10_000);
}

/// Whoever gives way to another is told by this: a preface is no work, a first message is.
#[test]
fn a_peer_is_silent_until_its_first_message() {
    let (mut client, mut server) = pipe();
    let generator = || Generator::from_secret(bytes(1));
    let mut one = Initiator::new(Service::Migrate, &keyed(1, 2), generator(), LIMIT, 0).unwrap();
    let mut two = Responder::new(keyed(1, 2), generator(), LIMIT, 0);
    assert!(two.is_silent());
    client.out.borrow_mut().room = PREFACE_BYTES;
    assert!(one.poll(1, &mut client).is_pending());
    assert!(two.poll(1, &mut server, &mut Door::default()).is_pending());
    assert!(two.is_silent(), "its preface alone has come");
    client.out.borrow_mut().room = 1000;
    assert!(one.poll(2, &mut client).is_pending());
    assert!(two.poll(2, &mut server, &mut Door::default()).is_pending());
    assert!(!two.is_silent());
}

/// Everything that came from a real initiator, again: the answerer's one-time key is another.
#[test]
fn a_replayed_handshake_is_refused_by_name() {
    let mut ends = pipe();
    let (a, b) = (keyed(1, 2), keyed(1, 3));
    let (Some(Ok(_)), Some(Ok(_))) = run(&a, &b, &mut ends, &mut Door::default()) else { panic!("no link") };
    let captured = ends.0.out.borrow().all.clone();
    let (client, mut server) = pipe();
    server.into.borrow_mut().waiting.extend(&captured);
    let mut replayed = responder(&b, 6);
    let mut door = Door::default();
    let outcome = (0..10).find_map(|_| match replayed.poll(1, &mut server, &mut door) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    });
    assert_eq!(outcome.unwrap().err(), Some(LinkError::Forged(3)));
    assert!(door.seen.is_empty());
    drop(client);
    // And an answer, to an initiator.
    let captured = ends.1.out.borrow().all.clone();
    let (mut client, mut server) = pipe();
    server.send(&captured);
    let mut replayed = initiator(&a, 7);
    let Poll::Ready(outcome) = replayed.poll(1, &mut client) else { panic!("it waits") };
    assert_eq!(outcome.err(), Some(LinkError::Forged(2)));
}

/// Without the pool key nobody passes for an answerer, whatever else is right.
#[test]
fn an_answerer_without_the_pool_key_proves_nothing() {
    let mut ends = pipe();
    let mut one = initiator(&keyed(1, 2), 4);
    let mut two = responder(&keyed(9, 3), 5);
    assert!(one.poll(1, &mut ends.0).is_pending());
    assert!(two.poll(1, &mut ends.1, &mut Door::default()).is_pending());
    assert!(one.poll(1, &mut ends.0).is_pending());
    // It does not admit that the third message means nothing to it, and makes up a proof.
    let mut end = ends.1.clone();
    end.send(&[17, 0]);
    end.send(&[0x5a; 17]);
    let Poll::Ready(outcome) = one.poll(1, &mut ends.0) else { panic!("it waits") };
    assert_eq!(outcome.err(), Some(LinkError::Unproven));
}

/// Each byte of the handshake changed on its way: either side or both end with an error, never a link on both.
#[test]
fn a_flipped_bit_makes_no_link() {
    let (a, b) = (keyed(1, 2), keyed(1, 3));
    for (from, bytes) in [(0, FROM_INITIATOR), (1, FROM_RESPONDER)] {
        for at in 0..bytes {
            let mut ends = pipe();
            let way = if from == 0 { &ends.0.out } else { &ends.1.out };
            way.borrow_mut().flip = Some((at, 1 << (at % 8)));
            let mut one = initiator(&a, 4);
            let mut two = responder(&b, 5);
            let outcome = shake(&mut one, &mut two, &mut ends, &mut Door::default());
            if from == 1 && at == PREFACE_BYTES - 3 {
                // The status byte of a preface that accepts: a made-up refusal is believed, and harms nothing else.
                assert!(matches!(outcome.0, Some(Err(_))), "byte {at}");
                continue;
            }
            let both = matches!(outcome, (Some(Ok(_)), Some(Ok(_))));
            assert!(!both, "byte {at} of {from} was changed and nobody noticed");
            let named = errors(outcome);
            assert!(named.0.is_some() || named.1.is_some(), "byte {at} of {from}: both wait for ever");
        }
    }
}

/// However the streams are cut into pieces, the handshake ends in the same link.
#[test]
fn every_split_ends_in_a_link() {
    for step in 1..=FROM_INITIATOR {
        let mut ends = pipe();
        ends.0.out.borrow_mut().step = step;
        ends.1.out.borrow_mut().step = FROM_INITIATOR + 1 - step;
        let outcome = run(&keyed(1, 2), &keyed(1, 3), &mut ends, &mut Door::default());
        assert!(matches!(outcome, (Some(Ok(_)), Some(Ok(_)))), "{step} bytes at a time");
    }
}

/// A connection that ends at any byte of the handshake is named as cut.
#[test]
fn every_cut_is_named() {
    let mut ends = pipe();
    let (a, b) = (keyed(1, 2), keyed(1, 3));
    run(&a, &b, &mut ends, &mut Door::default());
    let said = ends.1.out.borrow().all.clone();
    for len in (0..said.len()).step_by(3) {
        let (mut client, mut server) = pipe();
        server.send(&said[..len]);
        server.cut();
        let mut one = initiator(&a, 4);
        let Poll::Ready(outcome) = one.poll(1, &mut client) else { panic!("it waits") };
        assert_eq!(outcome.err(), Some(LinkError::Cut), "after {len} bytes");
    }
    let asked = ends.0.out.borrow().all.clone();
    for len in (1..asked.len()).step_by(3) {
        assert_eq!(answer(&b, &asked[..len]).err(), Some(LinkError::Cut), "after {len} bytes");
    }
}

#[test]
fn a_session_starts_where_the_handshake_ends() {
    let ((mut one, mut end), (mut two, mut other)) = connected();
    assert_eq!(one.send(&mut end, b"first"), 5);
    let mut buf = [0; 9];
    assert_eq!(two.recv(&mut other, &mut buf), 5);
    assert_eq!(&buf[..5], b"first");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Anything said to an answerer or an initiator ends in an error once the peer hangs up.
    #[test]
    fn arbitrary_bytes_make_no_link(
        ours in any::<bool>(),
        noise in proptest::collection::vec(any::<u8>(), 0..400),
        insecure in any::<bool>(),
    ) {
        let security = if insecure { Security::Insecure } else { keyed(1, 2) };
        let mut said = if ours { preface(|b| b[12] = u8::from(!insecure)) } else { Vec::new() };
        said.extend(noise);
        let outcome = answer(&security, &said);
        // An insecure host takes whoever says the right sixteen bytes: that is what insecure means.
        prop_assert!(outcome.is_err() || (insecure && ours));
        let (mut client, mut server) = pipe();
        server.send(&said);
        server.cut();
        let Poll::Ready(outcome) = initiator(&security, 4).poll(1, &mut client) else { panic!("it waits") };
        prop_assert!(outcome.is_err() || (insecure && ours));
    }
}
