//! The project's own clients against the server.

use super::http::CLIENTS;
use super::*;
use crate::hub::peer::Peer;
use crate::hub::station;
use fetch::{FetchError, Sink, Status, TftpGet, Url, Why};
use net::{AddressConfig, MAX_DATAGRAM, Stack};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PATIENCE: Duration = Duration::from_secs(20);

fn bytes() -> Vec<u8> {
    (0..100_000_u32).map(|i| ((i * 7919) >> 8) as u8).collect()
}

fn server(hub: &Hub) -> Server {
    let files = Server::files(hub, 2, SERVER).unwrap();
    files.put("/whole", bytes(), Way::Whole);
    files.put("/full", bytes()[..2 * 1428].to_vec(), Way::Whole);
    files.put("/ends", bytes(), Way::EndsAfter(5000));
    files.put("/silent", bytes(), Way::SilentAfter(5000));
    files.put("/unsaid", bytes(), Way::Unsaid);
    files.put("/huge", bytes(), Way::Announced(1 << 40));
    files
}

fn http(peer: &mut Peer, path: &str, wait: Duration) -> (String, Vec<u8>, bool) {
    let connection = peer.connect(SERVER, 80, PATIENCE).unwrap();
    peer.send(
        connection,
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
        PATIENCE,
    )
    .unwrap();
    let (got, ended) = peer.read_to_end(connection, wait);
    peer.abort(connection);
    let head = got.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    (String::from_utf8(got[..head].to_vec()).unwrap(), got[head..].to_vec(), ended)
}

#[test]
fn http_files_come_as_they_are_meant_to() {
    let hub = Hub::new();
    let files = server(&hub);
    let mut peer = Peer::new(&hub, 1, CLIENT);
    let short = Duration::from_millis(700);
    for _ in 0..2 * CLIENTS {
        let (head, body, ended) = http(&mut peer, "/whole", PATIENCE);
        assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("Content-Length: 100000\r\n") && ended);
        assert_eq!(body, bytes());
    }
    assert!(http(&mut peer, "/none", PATIENCE).0.starts_with("HTTP/1.1 404 Not Found"));
    assert!(http(&mut peer, "/huge", short).0.contains("Content-Length: 1099511627776\r\n"));
    let (head, body, ended) = http(&mut peer, "/unsaid", PATIENCE);
    assert!(!head.contains("Length") && body == bytes() && ended);
    let (_, body, ended) = http(&mut peer, "/ends", PATIENCE);
    assert_eq!((body.len(), ended), (5000, true));
    let (_, body, ended) = http(&mut peer, "/silent", short);
    assert_eq!((body.len(), ended), (5000, false));
    assert_eq!(files.asked().len(), 2 * CLIENTS + 5);
    assert_eq!(files.asked()[2 * CLIENTS..][..2], ["http none (none)", "http huge"]);
}

struct Taken {
    bytes: Vec<u8>,
    size: u64,
}

impl Sink for Taken {
    fn size(&mut self, bytes: u64) -> Result<(), String> {
        self.size = bytes;
        if bytes > 1 << 30 { Err("too large".to_string()) } else { Ok(()) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.bytes.extend(bytes);
        Ok(())
    }
}

/// Fetches a file; ends after `wait` even if the server says nothing more.
fn tftp(hub: &Hub, path: &str, wait: Duration) -> (Taken, Result<Status, FetchError>) {
    let mut wire = station::Wire::new(hub, 1);
    let config = AddressConfig::Static { ip: CLIENT, prefix: 24, gateway: None };
    let mut stack = Stack::new(&mut wire, config, 1, 0).unwrap();
    stack.udp_open(SERVER).unwrap();
    let url = Url::parse(&format!("tftp://{SERVER}{path}")).unwrap();
    let mut get = TftpGet::new(url, 0);
    let mut taken = Taken { bytes: Vec::new(), size: 0 };
    let began = Instant::now();
    while began.elapsed() < wait {
        wire.wait(Duration::from_millis(5));
        let now = began.elapsed().as_micros() as u64;
        stack.poll(&mut wire, now);
        if let Some(request) = get.poll(now).unwrap() {
            stack.udp_send(request.port, &request.bytes).unwrap();
        }
        let mut room = [0; MAX_DATAGRAM];
        while let Some((port, count)) = stack.udp_receive(&mut room).unwrap() {
            let answered = get.receive(port, &room[..count], now, &mut taken);
            let (result, reply) = match answered {
                Ok((status, reply)) => (Ok(status), reply),
                Err((error, reply)) => (Err(error), reply),
            };
            if let Some(reply) = reply {
                stack.udp_send(reply.port, &reply.bytes).unwrap();
                stack.poll(&mut wire, now);
            }
            if result != Ok(Status::More) {
                return (taken, result);
            }
        }
    }
    (taken, Ok(Status::More))
}

#[test]
fn tftp_files_come_as_they_are_meant_to() {
    let hub = Hub::new();
    let files = server(&hub);
    for (path, length) in [("/whole", 100_000), ("/full", 2 * 1428), ("/unsaid", 100_000)] {
        let (taken, result) = tftp(&hub, path, PATIENCE);
        assert_eq!((result, taken.size), (Ok(Status::Done), if path == "/unsaid" { 0 } else { length }));
        assert!(taken.bytes == bytes()[..length as usize]);
    }
    let why = |path| tftp(&hub, path, PATIENCE).1.unwrap_err().why;
    assert_eq!(why("/none"), Why::Tftp { code: 1, text: "File not found".to_string() });
    assert_eq!(why("/huge"), Why::Sink("too large".to_string()));
    assert_eq!(why("/ends"), Why::Truncated { received: 5000, total: Some(100_000) });
    let (taken, result) = tftp(&hub, "/silent", Duration::from_secs(1));
    assert_eq!((taken.bytes.len(), result), (3 * 1428, Ok(Status::More)));
    assert_eq!(
        files.asked(),
        ["whole", "full", "unsaid", "none (none)", "huge", "ends", "silent"].map(|p| format!("tftp {p}"))
    );
}

#[test]
fn a_connection_takes_one_request_after_another() {
    let dir = std::env::temp_dir().join(format!("serve-test-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("a"), bytes()).unwrap();
    let hub = Hub::new();
    let server = Server::boot(&hub, 1, &dir, Rules::default()).unwrap();
    let mut peer = Peer::new(&hub, 2, SERVER);
    let connection = peer.connect(ADDRESS, 80, PATIENCE).unwrap();
    let request = "HEAD /a HTTP/1.1\r\n\r\nGET /a HTTP/1.1\r\nConnection: close\r\n\r\n";
    peer.send(connection, request.as_bytes(), PATIENCE).unwrap();
    let (got, closed) = peer.read_to_end(connection, PATIENCE);
    assert!(closed && got.ends_with(&bytes()), "{} bytes", got.len());
    assert_eq!(server.asked(), ["http a", "http a"]);
    std::fs::remove_dir_all(dir).unwrap();
}
