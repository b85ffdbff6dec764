//! Both ends against each other, and each against anything.

use manage::{ALIVE_US, Asked, Client, MAX_LINE, MAX_QUEUED, PATIENCE_US, Said, Server, WireError};
use proptest::prelude::*;

/// Moves what waits in pieces of `piece` bytes.
fn carry(client: &mut Client, server: &mut Server, piece: usize, now: u64) {
    let to_server = client.outgoing().to_vec();
    to_server.chunks(piece).for_each(|bytes| server.feed(bytes, now));
    client.sent(to_server.len());
    let to_client = server.outgoing().to_vec();
    to_client.chunks(piece).for_each(|bytes| client.feed(bytes, now));
    server.sent(to_client.len());
}

fn all(client: &mut Client) -> Vec<Said> {
    std::iter::from_fn(|| client.take().unwrap()).collect()
}

#[test]
fn commands_and_their_ends() {
    for piece in [1, 2, 3, 7, 5000] {
        let (mut client, mut server) = (Client::new(0), Server::new("host a", 0));
        client.run("vm list").unwrap();
        assert_eq!(client.run("vm list"), Err(WireError::Busy));
        carry(&mut client, &mut server, piece, 0);
        assert_eq!(server.take(), Ok(Some(Asked::Run("vm list".into()))));
        let long = "\u{e9}".repeat(5000);
        server.output(&long);
        server.end(Ok(()));
        carry(&mut client, &mut server, piece, 0);
        let said = all(&mut client);
        assert_eq!(said.first(), Some(&Said::Hello("host a".into())));
        assert_eq!(said.last(), Some(&Said::End(Ok(()))));
        let text: String =
            said.iter().map(|s| if let Said::Output(text) = s { text.as_str() } else { "" }).collect();
        assert_eq!(text, long);

        client.run("vm destroy x").unwrap();
        client.interrupt();
        carry(&mut client, &mut server, piece, 0);
        assert_eq!(server.take(), Ok(Some(Asked::Run("vm destroy x".into()))));
        assert_eq!(server.take(), Ok(Some(Asked::Interrupt)));
        server.end(Err(("not-found", "no VM is named x")));
        carry(&mut client, &mut server, piece, 0);
        assert_eq!(all(&mut client), [Said::End(Err("not-found no VM is named x".into()))]);
    }
}

#[test]
fn a_silent_end_is_given_up_and_a_live_one_is_not() {
    let (mut client, mut server) = (Client::new(0), Server::new("a", 0));
    carry(&mut client, &mut server, 9, 0);
    server.take().unwrap();
    for now in (0..4 * PATIENCE_US).step_by(ALIVE_US as usize) {
        client.poll(now).unwrap();
        server.poll(now).unwrap();
        carry(&mut client, &mut server, 9, now);
        assert_eq!(server.take(), Ok(None));
        all(&mut client);
    }
    let late = 6 * PATIENCE_US;
    assert!(matches!(client.poll(late), Err(WireError::Silent(_))));
    assert!(matches!(server.poll(late), Err(WireError::Silent(_))));
}

#[test]
fn what_is_not_read_has_an_end() {
    let mut server = Server::new("a", 0);
    for _ in 0..2 * MAX_QUEUED / 1000 {
        server.output(&"x".repeat(1000));
    }
    assert!(server.queued() <= MAX_QUEUED + 4096);
    assert!(matches!(server.poll(0), Err(WireError::Unread(_))));
}

#[test]
fn what_has_no_place_is_refused() {
    let server = |bytes: &[u8]| {
        let mut server = Server::new("a", 0);
        server.feed(bytes, 0);
        loop {
            match server.take() {
                Ok(Some(_)) => {}
                other => return other.map(|_| ()),
            }
        }
    };
    let hello = [1, 1, 0, 1];
    assert_eq!(server(&hello), Ok(()));
    assert_eq!(server(&[2, 0, 0]), Err(WireError::Type(2))); // before hello
    assert_eq!(server(&[1, 1, 0, 9]), Err(WireError::Version(9)));
    assert_eq!(server(&[1, 0, 0]), Err(WireError::Body(1)));
    assert_eq!(server(&[&hello[..], &hello].concat()), Err(WireError::Type(1)));
    assert_eq!(server(&[&hello[..], &[5, 0, 0]].concat()), Err(WireError::Type(5)));
    assert_eq!(server(&[&hello[..], &[2, 1, 0, 0xff]].concat()), Err(WireError::Text));
    assert_eq!(server(&[&hello[..], &[2, 0, 0, 2, 0, 0]].concat()), Err(WireError::Busy));
    assert_eq!(server(&[&hello[..], &[3, 1, 0, 0]].concat()), Err(WireError::Body(3)));
    assert_eq!(server(&[&hello[..], &[2, 1, 16]].concat()), Err(WireError::Length(4097)));
    assert_eq!(Client::new(0).run(&"x".repeat(MAX_LINE + 1)), Err(WireError::Length(MAX_LINE + 1)));
}

#[test]
fn one_who_never_reads_is_given_up() {
    // commands without output, whose ends nobody reads
    let mut server = Server::new("a", 0);
    server.feed(&[1, 1, 0, 1], 0);
    for _ in 0..2 * MAX_QUEUED / 20 {
        server.feed(&[2, 1, 0, b'x'], 0);
        assert!(matches!(server.take(), Ok(Some(Asked::Run(_)))));
        server.end(Err(("usage", "no command is named x")));
    }
    assert!(server.queued() <= MAX_QUEUED);
    assert!(matches!(server.poll(0), Err(WireError::Unread(_))));

    // one who lives and takes nothing, and one who takes a byte now and then
    for reads in [false, true] {
        let mut server = Server::new("a", 0);
        server.feed(&[1, 1, 0, 1], 0);
        let mut given_up = None;
        for now in (0..3 * PATIENCE_US).step_by(ALIVE_US as usize) {
            server.feed(&[4, 0, 0], now);
            server.take().unwrap();
            if reads {
                server.sent(1);
            }
            given_up = given_up.or(server.poll(now).err().map(|error| (now, error)));
        }
        match given_up {
            Some((now, WireError::Unread(_))) => assert!(!reads && now > PATIENCE_US),
            other => assert!(reads && other.is_none(), "{other:?}"),
        }
    }
}

#[test]
fn what_is_sent_ahead_stays_with_the_sender() {
    let mut server = Server::new("a", 0);
    assert!(server.is_hungry());
    server.feed(&[1, 1], 0);
    assert!(server.is_hungry());
    server.feed(&[0, 1, 3, 0, 0, 4], 0);
    assert!(!server.is_hungry());
    assert_eq!(server.take(), Ok(Some(Asked::Interrupt)));
    assert!(server.is_hungry());
    // a message that can never be whole is looked at, too
    server.feed(&[0xff, 0xff], 0);
    assert!(!server.is_hungry());
    assert_eq!(server.take(), Err(WireError::Length(0xffff)));
}

/// What a host understands of a stream, and whether all of it had a place.
fn asked(bytes: &[u8]) -> (Vec<Asked>, bool) {
    let mut server = Server::new("a", 0);
    server.feed(bytes, 0);
    let mut all = Vec::new();
    loop {
        match server.take() {
            Ok(Some(asked)) => {
                if let Asked::Run(_) = asked {
                    server.end(Ok(()));
                }
                all.push(asked);
            }
            Ok(None) => return (all, true),
            Err(_) => return (all, false),
        }
    }
}

/// What a workstation sends, and what a host answers.
fn seeds() -> (Vec<u8>, Vec<u8>) {
    let (mut client, mut server) = (Client::new(0), Server::new("host", 0));
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for (line, result) in [("vm list --json", Ok(())), ("vm pause d\u{e9}mo", Err(("state", "it is paused")))]
    {
        client.run(line).unwrap();
        client.interrupt();
        let sent = client.outgoing().to_vec();
        client.sent(sent.len());
        server.feed(&sent, 0);
        up.extend(sent);
        while server.take().unwrap().is_some() {}
        server.output("[{\"name\":\"d\u{e9}mo\"}]\n");
        server.end(result);
        let sent = server.outgoing().to_vec();
        server.sent(sent.len());
        client.feed(&sent, 0);
        down.extend(sent);
        all(&mut client);
    }
    (up, down)
}

/// A link that is lost at any byte: no line is run that was not sent whole, no end is told that was not.
#[test]
fn a_loss_at_any_byte_leaves_a_beginning() {
    let (up, down) = seeds();
    let (whole, well) = asked(&up);
    assert!(well && whole.len() == 4, "{whole:?}");
    for cut in 0..up.len() {
        let (some, well) = asked(&up[..cut]);
        assert!(well && whole.starts_with(&some) && some.len() < whole.len(), "{cut}: {some:?}");
    }
    let first = down.windows(3).position(|w| w == [6, 0, 0]).unwrap() + 3;
    for cut in 0..first {
        let mut client = Client::new(0);
        client.run("vm list --json").unwrap();
        client.feed(&down[..cut], 0);
        assert!(all(&mut client).iter().all(|said| !matches!(said, Said::End(_))), "{cut}");
    }
}

proptest! {
    #[test]
    fn altered_streams_do_no_harm(at in any::<prop::sample::Index>(), with: u8, cut in any::<prop::sample::Index>()) {
        let (mut up, mut down) = seeds();
        let (at_up, at_down) = (at.index(up.len()), at.index(down.len()));
        up[at_up] = with;
        down[at_down] = with;
        prop_assert!(asked(&up[..cut.index(up.len())]).0.len() < 20);
        let mut client = Client::new(0);
        client.run("vm list --json").unwrap();
        client.feed(&down, 0);
        while let Ok(Some(said)) = client.take() {
            if let Said::End(_) = said {
                client.run("next").unwrap();
            }
        }
    }

    #[test]
    fn any_bytes_do_no_harm(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
        let (mut client, mut server) = (Client::new(0), Server::new("a", 0));
        client.run("x").unwrap();
        server.feed(&[1, 1, 0, 1], 0);
        client.feed(&[1, 1, 0, 1], 0);
        for bytes in chunks {
            client.feed(&bytes, 0);
            server.feed(&bytes, 0);
            while let Ok(Some(asked)) = server.take() {
                if let Asked::Run(_) = asked {
                    server.end(Ok(()));
                }
            }
            while let Ok(Some(_)) = client.take() {}
        }
    }
}
