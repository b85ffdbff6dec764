//! The management protocol: each end against a peer that sends anything.

use manage::{Asked, Client, Said, Server};

/// The first byte says how the rest is cut into pieces.
pub fn manage(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let (mut client, mut server) = (Client::new(0), Server::new("host", 0));
    let _ = client.run("vm list");
    let (mut client_works, mut server_works) = (true, true);
    for bytes in bytes.chunks(usize::from(*piece).max(1)) {
        if client_works {
            client.feed(bytes, 0);
        }
        if server_works {
            server.feed(bytes, 0);
        }
        while server_works {
            match server.take() {
                Ok(Some(Asked::Run(line))) => {
                    server.output(&line);
                    server.end(Err(("usage", &line)));
                }
                Ok(Some(Asked::Interrupt)) => {}
                Ok(None) => break,
                Err(_) => server_works = false,
            }
        }
        while client_works {
            match client.take() {
                Ok(Some(Said::End(_))) => assert!(client.run("next").is_ok()),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => client_works = false,
            }
        }
    }
    let sent = server.outgoing().len();
    server.sent(sent / 2);
    assert_eq!(server.queued(), sent - sent / 2);
}
