//! An HTTP/1.1 GET (RFC 9110, RFC 9112): one request on one connection.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use httparse::{EMPTY_HEADER, Header, ParserConfig, Response};

use crate::error::{FetchError, RedirectError, Why};
use crate::shown::shown;
use crate::url::Url;
use crate::{PATIENCE_US, Sink, Status, is_slow};

/// Most bytes of a response's header.
pub const MAX_HEAD: usize = 8192;
/// Most header fields.
const MAX_FIELDS: usize = 64;
/// Redirections followed in a row.
const MAX_REDIRECTS: u8 = 5;
/// Interim responses before the one proper; each has a header of its own.
const MAX_INTERIM: u8 = 8;
/// Most bytes of a chunk's size line, extensions included.
const MAX_CHUNK_LINE: usize = 256;

/// What the next bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Head,
    /// Of the body, this many are left.
    Body(u64),
    /// The body ends with the connection.
    ToTheEnd,
    ChunkSize,
    Chunk(u64),
    /// CR LF behind a chunk.
    ChunkEnd,
    /// Lines behind the last chunk, up to a blank one.
    Trailer,
    Done,
}

/// A file that is fetched by HTTP.
#[derive(Debug)]
pub struct HttpGet {
    url: Url,
    part: Part,
    /// Header, chunk line or trailer line that is not whole.
    line: Vec<u8>,
    /// Bytes of all trailer lines.
    trailer: usize,
    total: Option<u64>,
    received: u64,
    began_us: u64,
    heard_us: u64,
    interim: u8,
    redirects: u8,
}

impl HttpGet {
    /// Of this URL, beginning now.
    #[must_use]
    pub fn new(url: Url, now_us: u64) -> Self {
        Self {
            url,
            part: Part::Head,
            line: Vec::new(),
            trailer: 0,
            total: None,
            received: 0,
            began_us: now_us,
            heard_us: now_us,
            interim: 0,
            redirects: 0,
        }
    }

    /// The same for what a response said has [`Status::Moved`]; for a new connection.
    ///
    /// # Errors
    /// Too many in a row.
    pub fn moved(&self, to: Url, now_us: u64) -> Result<Self, FetchError> {
        if self.redirects == MAX_REDIRECTS {
            let to = shown(format!("{to}").as_bytes());
            return Err(self.error(Why::Redirect { to, why: RedirectError::TooMany(MAX_REDIRECTS) }));
        }
        Ok(Self { redirects: self.redirects + 1, ..Self::new(to, now_us) })
    }

    /// The file.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// What to send once the connection is open.
    #[must_use]
    pub fn request(&self) -> String {
        let Url { host, port, path, .. } = &self.url;
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: flexvisor\r\nAccept: */*\r\n\
             Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
        )
    }

    /// Bytes of the file so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that the file has, where the server said so.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Whether the server is still worth waiting for.
    ///
    /// # Errors
    /// It has been silent for [`PATIENCE_US`], or sends less than [`LEAST_RATE`](crate::LEAST_RATE).
    pub fn poll(&self, now_us: u64) -> Result<(), FetchError> {
        let received = self.received;
        let [silent, us] = [self.heard_us, self.began_us].map(|since| now_us.saturating_sub(since));
        match self.part {
            Part::Done => Ok(()),
            _ if silent >= PATIENCE_US => Err(self.error(Why::Silent { us: silent, received })),
            _ if is_slow(received, us) => Err(self.error(Why::Slow { us, received })),
            _ => Ok(()),
        }
    }

    /// The next bytes of the connection.
    ///
    /// # Errors
    /// Why the file will not come; the connection is of no use then.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        now_us: u64,
        sink: &mut dyn Sink,
    ) -> Result<Status, FetchError> {
        if !bytes.is_empty() {
            self.heard_us = now_us;
        }
        while !bytes.is_empty() {
            match self.part {
                Part::Head => {
                    if let Some(to) = self.head(&mut bytes, sink).map_err(|why| self.error(why))? {
                        return Ok(Status::Moved(to));
                    }
                }
                Part::Body(left) | Part::Chunk(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (now, rest) = bytes.split_at(take);
                    self.write(now, sink)?;
                    bytes = rest;
                    let left = left - take as u64;
                    self.part = match (self.part, left) {
                        (Part::Body(_), 0) => Part::Done,
                        (Part::Body(_), left) => Part::Body(left),
                        (_, 0) => Part::ChunkEnd,
                        (_, left) => Part::Chunk(left),
                    };
                }
                Part::ToTheEnd => {
                    self.write(bytes, sink)?;
                    bytes = &[];
                }
                Part::ChunkSize | Part::ChunkEnd | Part::Trailer => {
                    if let Some(line) = self.take_line(&mut bytes)? {
                        self.line(&line).map_err(|why| self.error(why))?;
                    }
                }
                // What follows a whole file is nothing to us.
                Part::Done => break,
            }
        }
        Ok(if self.part == Part::Done { Status::Done } else { Status::More })
    }

    /// The server has ended the connection.
    ///
    /// # Errors
    /// The file is not whole.
    pub fn closed(&mut self) -> Result<(), FetchError> {
        match self.part {
            Part::ToTheEnd | Part::Done => {
                self.part = Part::Done;
                Ok(())
            }
            _ => Err(self.error(Why::Truncated { received: self.received, total: self.total })),
        }
    }

    fn error(&self, why: Why) -> FetchError {
        FetchError { url: self.url.clone(), why }
    }

    fn write(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<(), FetchError> {
        self.received = self.received.saturating_add(bytes.len() as u64);
        sink.write(bytes).map_err(|why| self.error(Why::Sink(why)))
    }

    /// Takes bytes up to the end of the header. A URL: the file lies there.
    fn head(&mut self, bytes: &mut &[u8], sink: &mut dyn Sink) -> Result<Option<Url>, Why> {
        let before = self.line.len();
        let room = (MAX_HEAD - before).min(bytes.len());
        self.line.extend_from_slice(&bytes[..room]);
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut response = Response::new(&mut fields);
        let parsed = ParserConfig::default()
            .parse_response(&mut response, &self.line)
            .map_err(|error| Why::Http(words(error)))?;
        let httparse::Status::Complete(used) = parsed else {
            if self.line.len() == MAX_HEAD {
                return Err(Why::HeadTooLarge(MAX_HEAD));
            }
            *bytes = &[];
            return Ok(None);
        };
        let taken = used.saturating_sub(before).min(bytes.len());
        *bytes = &bytes[taken..];
        let code = response.code.unwrap_or(0);
        let next = match code {
            // Interim: the response proper follows.
            100..=199 if self.interim < MAX_INTERIM => {
                self.interim += 1;
                Ok((Part::Head, None))
            }
            100..=199 => Err(Why::Http("too many interim responses")),
            200 => body(response.headers),
            301 | 302 | 303 | 307 | 308 => {
                let to = location(&self.url, response.headers)?;
                self.line.clear();
                return Ok(Some(to));
            }
            _ => Err(Why::Status { code, reason: shown(response.reason.unwrap_or("").as_bytes()) }),
        };
        (self.part, self.total) = next?;
        self.line.clear();
        if let Some(total) = self.total {
            sink.size(total).map_err(Why::Sink)?;
        }
        Ok(None)
    }

    /// The next line without its end, once it is whole.
    fn take_line(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, FetchError> {
        let end = bytes.iter().position(|&b| b == b'\n');
        let take = end.map_or(bytes.len(), |end| end + 1);
        if self.line.len() + take > MAX_CHUNK_LINE {
            return Err(self.error(Why::Http("a chunk's line is too long")));
        }
        let (now, rest) = bytes.split_at(take);
        *bytes = rest;
        self.line.extend_from_slice(now);
        if end.is_none() {
            return Ok(None);
        }
        let mut line = core::mem::take(&mut self.line);
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Why> {
        self.part = match self.part {
            Part::ChunkSize => match chunk_size(line) {
                None => return Err(Why::Http("a chunk without a size in hexadecimal")),
                Some(0) => Part::Trailer,
                Some(size) => Part::Chunk(size),
            },
            Part::ChunkEnd if line.is_empty() => Part::ChunkSize,
            Part::ChunkEnd => return Err(Why::Http("a chunk is longer than its size")),
            Part::Trailer if line.is_empty() => Part::Done,
            other => {
                self.trailer += line.len() + 2;
                if self.trailer > MAX_HEAD {
                    return Err(Why::HeadTooLarge(MAX_HEAD));
                }
                other
            }
        };
        Ok(())
    }
}

fn words(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::TooManyHeaders => "too many header fields",
        httparse::Error::Version => "no HTTP/1.0 or HTTP/1.1",
        httparse::Error::Status => "a status line that is none",
        _ => "a header that is none",
    }
}

/// RFC 9112, 7.1: hexadecimal digits, then extensions behind `;`.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&b| b == b';').next()?.trim_ascii_end();
    let text = core::str::from_utf8(digits).ok()?;
    let hex = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| hex)
}

fn fields<'a>(headers: &'a [Header<'_>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// How the body's end is found (RFC 9112, 6.3).
fn body(headers: &[Header<'_>]) -> Result<(Part, Option<u64>), Why> {
    let refused = |name, value: &[u8]| Why::Field { name, value: shown(value) };
    if let Some(value) = fields(headers, "Content-Encoding").find(|v| !v.eq_ignore_ascii_case(b"identity")) {
        return Err(refused("Content-Encoding", value));
    }
    let mut length = None;
    for value in fields(headers, "Content-Length") {
        let found = content_length(value).filter(|n| length.is_none_or(|other| other == *n));
        length = Some(found.ok_or_else(|| refused("Content-Length", value))?);
    }
    let mut codings = fields(headers, "Transfer-Encoding");
    match (codings.next(), length) {
        (Some(value), None) if value.eq_ignore_ascii_case(b"chunked") && codings.next().is_none() => {
            Ok((Part::ChunkSize, None))
        }
        // Both: another machine on the way may have taken the other one.
        (Some(value), _) => Err(refused("Transfer-Encoding", value)),
        (None, Some(0)) => Ok((Part::Done, Some(0))),
        (None, Some(length)) => Ok((Part::Body(length), Some(length))),
        (None, None) => Ok((Part::ToTheEnd, None)),
    }
}

fn content_length(value: &[u8]) -> Option<u64> {
    let text = core::str::from_utf8(value).ok()?;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

fn location(from: &Url, headers: &[Header<'_>]) -> Result<Url, Why> {
    let value = fields(headers, "Location").next().unwrap_or_default();
    let refused = |why| Why::Redirect { to: shown(value), why };
    let text = core::str::from_utf8(value).unwrap_or_default();
    if text.contains("://") && !text.starts_with('/') && !text.starts_with("http://") {
        return Err(refused(RedirectError::Scheme));
    }
    let to = from.join(text).map_err(|why| refused(why.into()))?;
    if to.scheme != from.scheme {
        return Err(refused(RedirectError::Scheme));
    }
    Ok(to)
}
