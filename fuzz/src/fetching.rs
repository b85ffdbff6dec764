//! What servers send that files are fetched from.

use fetch::{HttpGet, PATIENCE_US, Sink, Status, TftpGet, Url};

const LIMIT: u64 = 1 << 16;

/// Counts what comes, and takes no more than a limit.
#[derive(Default)]
struct Counter {
    size: Option<u64>,
    bytes: u64,
}

impl Sink for Counter {
    fn size(&mut self, bytes: u64) -> Result<(), String> {
        assert!(self.size.replace(bytes).is_none() && self.bytes == 0);
        if bytes > LIMIT { Err(format!("{bytes} bytes are too many")) } else { Ok(()) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.bytes += bytes.len() as u64;
        if self.bytes > LIMIT { Err("too many bytes".into()) } else { Ok(()) }
    }
}

impl Counter {
    /// A whole file has the bytes that were announced.
    fn check(&self, received: u64) {
        assert_eq!(self.bytes, received);
        assert!(self.size.is_none_or(|size| size == self.bytes));
    }
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A connection's bytes, in pieces as long as the first byte says; then the server closes it.
pub fn http(data: &[u8]) {
    let Some((&piece, response)) = data.split_first() else { return };
    let (mut get, mut counter) = (HttpGet::new(url("http://10.0.0.2/kernel"), 0), Counter::default());
    for bytes in response.chunks(usize::from(piece).max(1)) {
        match get.receive(bytes, 0, &mut counter) {
            Ok(Status::More) => {}
            Ok(Status::Done) => return counter.check(get.received()),
            Ok(Status::Moved(to)) => {
                assert_eq!(to.scheme, fetch::Scheme::Http);
                return assert!(get.moved(to, 0).is_ok());
            }
            Err(error) => return assert!(error.to_string().len() < 400),
        }
    }
    if get.closed().is_ok() {
        counter.check(get.received());
    }
}

/// Datagrams, each behind its length in two bytes.
pub fn tftp(data: &[u8]) {
    let (mut get, mut counter) = (TftpGet::new(url("tftp://10.0.0.2/kernel"), 0), Counter::default());
    let mut data = crate::Bytes(data);
    while !data.0.is_empty() {
        let len = usize::from(data.u8()) << 8 | usize::from(data.u8());
        match get.receive(5000, data.take(len), 0, &mut counter) {
            Ok((Status::Done, reply)) => {
                assert!(reply.is_some());
                return counter.check(get.received());
            }
            Ok((_, reply)) => assert!(reply.is_none_or(|reply| reply.port == 5000 && reply.bytes.len() == 4)),
            Err((error, _)) => return assert!(error.to_string().len() < 400),
        }
    }
    assert!(get.poll(PATIENCE_US).is_err());
}
