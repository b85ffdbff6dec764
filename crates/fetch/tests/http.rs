//! HTTP responses, whole and damaged, in pieces of any size.

mod common;

use common::{Kept, LIMIT, url};
use fetch::{FetchError, HttpGet, LEAST_RATE, PATIENCE_US, Status};
use proptest::prelude::*;

const FILE: &str = "http://10.0.0.2:8080/guests/kernel";

/// What a client makes of the response in pieces of `piece` bytes, with the connection closed behind it.
fn get(response: &[u8], piece: usize) -> Result<(Status, Kept), FetchError> {
    let (mut get, mut kept) = (HttpGet::new(url(FILE), 0), Kept::default());
    let mut status = Status::More;
    for bytes in response.chunks(piece) {
        status = get.receive(bytes, 0, &mut kept)?;
        if status != Status::More {
            break;
        }
    }
    if status == Status::More {
        get.closed()?;
        status = Status::Done;
    }
    assert_eq!(get.received(), kept.bytes.len() as u64);
    Ok((status, kept))
}

fn refused(response: &str) -> String {
    let all: Vec<String> = [1, 7, 4096]
        .iter()
        .map(|&piece| get(response.as_bytes(), piece).err().unwrap().to_string())
        .collect();
    assert!(all[0] == all[1] && all[1] == all[2], "the pieces' size matters: {all:?}");
    all[0].strip_prefix(&format!("{FILE}: ")).unwrap().to_owned()
}

#[test]
fn asks_for_the_file_on_its_host() {
    let request = HttpGet::new(url(FILE), 0).request();
    assert!(request.starts_with("GET /guests/kernel HTTP/1.1\r\nHost: 10.0.0.2:8080\r\n"), "{request}");
    assert!(request.contains("\r\nConnection: close\r\n") && request.ends_with("\r\n\r\n"));
}

#[test]
fn takes_a_body_by_its_length() {
    let response = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello and nothing of this";
    for piece in 1..response.len() {
        let (status, kept) = get(response, piece).unwrap();
        assert_eq!((status, kept.size, &*kept.bytes), (Status::Done, Some(5), b"hello".as_slice()));
    }
    let (status, kept) = get(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 3).unwrap();
    assert_eq!((status, kept.size, kept.bytes.len()), (Status::Done, Some(0), 0));
}

#[test]
fn takes_a_body_in_chunks_or_up_to_the_end() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n\
        4\r\nabcd\r\nA;name=value\r\n0123456789\r\n0\r\nDigest: x\r\n\r\n";
    for piece in 1..chunked.len() {
        let (_, kept) = get(chunked, piece).unwrap();
        assert_eq!((kept.size, &*kept.bytes), (None, b"abcd0123456789".as_slice()));
    }
    let (_, kept) = get(b"HTTP/1.0 200 OK\r\n\r\nto the end", 2).unwrap();
    assert_eq!(kept.bytes, b"to the end");
    let (_, kept) =
        get(b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 5)
            .unwrap();
    assert_eq!(kept.bytes, b"x");
}

#[test]
fn names_what_is_wrong() {
    assert_eq!(refused("HTTP/1.1 404 Not Found\r\n\r\n"), "the server answers 404 Not Found");
    assert_eq!(
        refused("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        "truncated: the server ended after 4 of 10 bytes"
    );
    assert_eq!(
        refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab"),
        "truncated: the server ended after 2 of an unknown number of bytes"
    );
    let field = |header: &str| refused(&format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\nx"));
    let not_taken = "which this client does not take";
    assert_eq!(field("Content-Length: -1"), format!("header field Content-Length is '-1', {not_taken}"));
    assert_eq!(
        field("Content-Length: 1\r\nContent-Length: 2"),
        format!("header field Content-Length is '2', {not_taken}")
    );
    assert_eq!(
        field("Content-Encoding: gzip"),
        format!("header field Content-Encoding is 'gzip', {not_taken}")
    );
    assert_eq!(
        field("Content-Length: 1\r\nTransfer-Encoding: chunked"),
        format!("header field Transfer-Encoding is 'chunked', {not_taken}")
    );
    assert_eq!(field(&format!("Content-Length: {}", LIMIT + 1)), "1048577 bytes are too many");
    assert!(refused("SSH-2.0-server\r\n\r\n").starts_with("no HTTP response: "));
    assert_eq!(
        refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n"),
        "no HTTP response: a chunk is longer than its size"
    );
    assert_eq!(
        refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nab\r\n"),
        "no HTTP response: a chunk without a size in hexadecimal"
    );
    let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(9000));
    assert_eq!(refused(&long), "the header has more than 8192 bytes");
}

#[test]
fn follows_only_within_the_scheme_and_not_for_ever() {
    let moved = |to: &str| get(format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\n\r\n").as_bytes(), 9);
    let (status, _) = moved("/other?from=http://x").unwrap();
    assert_eq!(status, Status::Moved(url("http://10.0.0.2:8080/other?from=http://x")));
    let (status, _) = moved("http://10.0.0.3/k").unwrap();
    assert_eq!(status, Status::Moved(url("http://10.0.0.3/k")));
    for to in ["https://10.0.0.2/k", "tftp://10.0.0.2/k"] {
        let text = moved(to).err().unwrap().to_string();
        assert_eq!(text, format!("{FILE}: redirected to '{to}', which is not followed: another scheme"));
    }
    assert!(moved("http://server/k").err().unwrap().to_string().contains("host 'server' is no IPv4 address"));
    let mut get = HttpGet::new(url(FILE), 0);
    for _ in 0..5 {
        get = get.moved(url(FILE), 0).unwrap();
    }
    assert!(get.moved(url(FILE), 0).is_err());
}

#[test]
fn gives_a_silent_server_up() {
    let mut get = HttpGet::new(url(FILE), 1000);
    get.poll(1000 + PATIENCE_US - 1).unwrap();
    get.receive(b"HTTP/1.1 ", 2000, &mut Kept::default()).unwrap();
    get.poll(2000 + PATIENCE_US - 1).unwrap();
    let error = get.poll(2000 + PATIENCE_US).err().unwrap();
    assert_eq!(error.to_string(), format!("{FILE}: the server has been silent for 20 s, 0 bytes came"));
}

/// Issue 12, fault 3.3: each counted as a sign of life, and there was no end to them.
#[test]
fn interim_responses_have_an_end() {
    let interim = "HTTP/1.1 102 Processing\r\n\r\n";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    let (status, kept) = get(format!("{}{ok}", interim.repeat(8)).as_bytes(), 7).unwrap();
    assert_eq!((status, kept.bytes), (Status::Done, b"x".to_vec()));
    assert_eq!(
        refused(&format!("{}{ok}", interim.repeat(9))),
        "no HTTP response: too many interim responses"
    );
}

/// A byte now and then is no file: of 60 GB it would take a human life.
#[test]
fn gives_a_slow_server_up() {
    for head in ["HTTP/1.1 200 OK\r\nServer: ", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"] {
        let mut get = HttpGet::new(url(FILE), 0);
        let mut sink = Kept::default();
        get.receive(head.as_bytes(), 0, &mut sink).unwrap();
        let slow = (1..1000).find_map(|second| {
            let now = second * 1_000_000;
            // One byte of the header, or of the file.
            get.receive(b"H", now, &mut sink).unwrap();
            get.poll(now).err()
        });
        let received = if head.contains("Server") { 0 } else { 61 };
        let text = format!("{FILE}: the server is too slow: {received} bytes in 61 s");
        assert_eq!(slow.unwrap().to_string(), text);
    }
    // A server that keeps the least rate is waited for.
    let mut get = HttpGet::new(url(FILE), 0);
    let mut sink = Kept::default();
    get.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", 0, &mut sink).unwrap();
    for second in 1..900 {
        get.receive(&[b'f'; LEAST_RATE as usize], second * 1_000_000, &mut sink).unwrap();
        get.poll(second * 1_000_000).unwrap();
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..2000), piece in 1_usize..64) {
        let _ = get(&bytes, piece);
    }

    #[test]
    fn a_damaged_response_does_no_harm(at in 0_usize..90, byte in any::<u8>(), piece in 1_usize..100) {
        let mut response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nServer: s\r\n\r\n4\r\nabcd\r\n0\r\n\r\n".to_vec();
        if let Some(place) = response.get_mut(at) {
            *place = byte;
        }
        let _ = get(&response, piece);
    }

    #[test]
    fn any_file_comes_through_in_any_pieces(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8), piece in 1_usize..200,
    ) {
        let file = chunks.concat();
        let mut by_length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.len()).into_bytes();
        by_length.extend_from_slice(&file);
        let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            chunked.extend_from_slice(chunk);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        for response in [by_length, chunked] {
            let (status, kept) = get(&response, piece).unwrap();
            prop_assert_eq!(status, Status::Done);
            prop_assert_eq!(&kept.bytes, &file);
        }
    }
}
