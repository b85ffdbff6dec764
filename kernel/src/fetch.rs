//! A file from a server, over the host's own network.

use alloc::format;
use alloc::string::{String, ToString};
use core::net::Ipv4Addr;
use core::task::Poll;

use ::fetch::{Digested, HttpGet, Scheme, Sink, Status, TftpGet, Url};
use ::net::{Connection, MAX_DATAGRAM, NetError};

use crate::net;
use hw::arch::tsc;
use hw::mm::held::{Filling, Held, Joining};

/// Bytes that are taken from the network at a time.
const PIECE: usize = 4 << 10;
/// How long one poll takes up pieces or datagrams, in microseconds: at least one. Their digest is computed on the way, which
/// takes about 20 instructions a byte.
const POLL_US: u64 = 100;

/// A file on its way.
pub(crate) struct Download {
    how: How,
    file: Option<Digested<File>>,
    wanted: Option<[u8; 32]>,
    /// All has come, and has this digest.
    joining: Option<(Joining, [u8; 32])>,
}

enum How {
    Http {
        get: HttpGet,
        connection: Connection,
        /// What the server has not been sent of the request.
        request: String,
    },
    Tftp(TftpGet),
}

/// Where the bytes go: memory, up to a limit.
struct File {
    bytes: Filling,
    most: u64,
}

impl File {
    fn fits(&self, bytes: u64) -> Result<(), String> {
        if bytes <= self.most {
            return Ok(());
        }
        Err(format!("{bytes} bytes, and at most {} are taken", self.most))
    }
}

impl Sink for File {
    fn size(&mut self, bytes: u64) -> Result<(), String> {
        self.fits(bytes)?;
        let free = self.bytes.reserve(bytes);
        if free { Ok(()) } else { Err(format!("{bytes} bytes are not free in one piece")) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let len = self.bytes.len() + bytes.len() as u64;
        self.fits(len)?;
        if self.bytes.push(bytes) { Ok(()) } else { Err(format!("{len} bytes are not free in one piece")) }
    }
}

fn connect(host: Ipv4Addr, port: u16) -> Result<Connection, NetError> {
    net::with_stack(|stack| stack.connect(host, port))
}

impl Download {
    /// Asks for the file. It may have at most `most` bytes and must have the digest, if one is given.
    ///
    /// # Errors
    /// The server cannot be reached from here, or another file comes by TFTP already.
    pub(crate) fn start(url: Url, most: u64, wanted: Option<[u8; 32]>) -> Result<Self, String> {
        let now = tsc::micros();
        let error = |error: NetError| match error {
            NetError::UdpInUse => format!("{url}: another file comes by TFTP: one at a time"),
            error => format!("{url}: {error}"),
        };
        let how = match url.scheme {
            Scheme::Http => {
                let connection = connect(url.host, url.port).map_err(error)?;
                let get = HttpGet::new(url, now);
                How::Http { request: get.request(), get, connection }
            }
            Scheme::Tftp => {
                net::with_stack(|stack| stack.udp_open(url.host)).map_err(error)?;
                How::Tftp(TftpGet::new(url, now))
            }
        };
        let file = Digested::new(File { bytes: Filling::default(), most });
        Ok(Self { how, file: Some(file), wanted, joining: None })
    }

    /// Bytes that have come, and how many there are, if the server says.
    pub(crate) fn progress(&self) -> (u64, Option<u64>) {
        match &self.how {
            How::Http { get, .. } => (get.received(), get.total()),
            How::Tftp(get) => (get.received(), get.total()),
        }
    }

    fn url(&self) -> &Url {
        match &self.how {
            How::Http { get, .. } => get.url(),
            How::Tftp(get) => get.url(),
        }
    }

    /// Goes on for a bounded time. The file and its SHA-256, once it is whole.
    pub(crate) fn poll(&mut self) -> Poll<Result<(Held, [u8; 32]), String>> {
        if let Some((joining, digest)) = &mut self.joining {
            let Poll::Ready(file) = joining.poll() else { return Poll::Pending };
            let file = file.map(|file| (file, *digest));
            return Poll::Ready(file.ok_or_else(|| format!("{}: not free in one piece", self.url())));
        }
        let step = match (&mut self.how, &mut self.file) {
            (_, None) => return Poll::Pending, // it did not come
            (How::Http { get, connection, request }, Some(file)) => http(get, connection, request, file),
            (How::Tftp(get), Some(file)) => tftp(get, file),
        };
        match step {
            Ok(false) => Poll::Pending,
            Err(why) => Poll::Ready(Err(why)),
            Ok(true) => {
                let Some(file) = self.file.take() else { return Poll::Pending };
                match file.finish(self.url(), self.wanted.as_ref()) {
                    Ok((file, digest)) => {
                        self.joining = Some((file.bytes.join(), digest));
                        self.poll()
                    }
                    Err(error) => Poll::Ready(Err(error.to_string())),
                }
            }
        }
    }
}

/// The TSC of this CPU at which a poll is over.
fn poll_until() -> u64 {
    tsc::read().saturating_add(tsc::ticks(POLL_US))
}

/// True once the file is whole.
fn http(
    get: &mut HttpGet,
    connection: &mut Connection,
    request: &mut String,
    file: &mut Digested<File>,
) -> Result<bool, String> {
    let now = tsc::micros();
    get.poll(now).map_err(|error| error.to_string())?;
    let failed = |get: &HttpGet, error: NetError| format!("{}: {error}", get.url());
    if !request.is_empty() {
        let sent = net::with_stack(|stack| {
            stack.connection_state(*connection)?;
            stack.send(*connection, request.as_bytes())
        });
        request.drain(..sent.map_err(|error| failed(get, error))?);
    }
    let mut piece = [0; PIECE];
    let until = poll_until();
    loop {
        match net::with_stack(|stack| stack.receive(*connection, &mut piece)) {
            Ok(0) => break,
            Ok(len) => match get.receive(piece.get(..len).unwrap_or_default(), now, file) {
                Ok(Status::More) if tsc::read() < until => {}
                Ok(Status::More) => break,
                Ok(Status::Done) => return Ok(true),
                Ok(Status::Moved(to)) => {
                    *get = get.moved(to, now).map_err(|error| error.to_string())?;
                    let _ = net::with_stack(|stack| stack.abort(*connection));
                    *connection =
                        connect(get.url().host, get.url().port).map_err(|error| failed(get, error))?;
                    *request = get.request();
                    break;
                }
                Err(error) => return Err(error.to_string()),
            },
            Err(NetError::Closed) => return get.closed().map(|()| true).map_err(|error| error.to_string()),
            Err(error) => return Err(failed(get, error)),
        }
    }
    Ok(false)
}

/// True once the file is whole.
fn tftp(get: &mut TftpGet, file: &mut Digested<File>) -> Result<bool, String> {
    let failed = |get: &TftpGet, error: NetError| format!("{}: {error}", get.url());
    let now = tsc::micros();
    if let Some(reply) = get.poll(now).map_err(|error| error.to_string())? {
        let sent = net::with_stack(|stack| stack.udp_send(reply.port, &reply.bytes));
        sent.map_err(|error| failed(get, error))?;
    }
    let mut datagram = [0; MAX_DATAGRAM];
    let until = poll_until();
    while let Some((port, len)) =
        net::with_stack(|stack| stack.udp_receive(&mut datagram)).map_err(|error| failed(get, error))?
    {
        let (status, reply) = match get.receive(port, datagram.get(..len).unwrap_or_default(), now, file) {
            Ok((status, reply)) => (Ok(status), reply),
            Err((error, reply)) => (Err(error.to_string()), reply),
        };
        if let Some(reply) = reply {
            let _ = net::with_stack(|stack| stack.udp_send(reply.port, &reply.bytes));
        }
        if status? == Status::Done {
            return Ok(true);
        }
        if tsc::read() >= until {
            break;
        }
    }
    Ok(false)
}

impl Drop for Download {
    fn drop(&mut self) {
        let _ = net::with_stack(|stack| match &self.how {
            How::Http { connection, .. } => stack.abort(*connection),
            How::Tftp(get) => {
                if let Some(reply) = get.abort() {
                    stack.udp_send(reply.port, &reply.bytes)?;
                }
                stack.udp_close();
                Ok(())
            }
        });
    }
}
