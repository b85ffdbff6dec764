//! Disks as they are named: `nbd://HOST[:PORT]/EXPORT[,ro][,serial=TEXT][,on-error=wait|report]`.

use alloc::string::String;
use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};

use crate::trouble::said;

/// Longest text in bytes.
pub const MAX_URL: usize = 1024;
/// Longest serial in bytes, as virtio-blk has room for.
pub const MAX_SERIAL: usize = 20;
/// The port of NBD.
pub const PORT: u16 = 10809;

/// What becomes of requests while the server is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnError {
    /// They wait for as long as it takes; the guest sees no error.
    #[default]
    Wait,
    /// After [`REPORT_AFTER_US`](crate::REPORT_AFTER_US) they are answered with an error.
    Report,
}

/// A disk: where it is, and how it is to be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    /// The server; its port is not 0.
    pub server: SocketAddrV4,
    /// The export's name; empty: the server's default.
    pub export: String,
    /// `ro`: no writes.
    pub read_only: bool,
    /// `serial=`: what the guest reads as the disk's serial number: printable ASCII; empty if not said.
    pub serial: String,
    /// `on-error=`
    pub on_error: OnError,
}

/// Why a text names no disk.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Longer than [`MAX_URL`].
    #[error("the disk's URL has {0} bytes, at most {MAX_URL} are taken")]
    Long(usize),
    /// Another scheme.
    #[error("'{0}' does not begin with nbd://")]
    Scheme(String),
    /// The host is no IPv4 address.
    #[error("host '{0}' is no IPv4 address like 10.0.0.2 (there is no DNS here)")]
    Host(String),
    /// The host is the address of no single machine.
    #[error("host {0} is not the address of one machine")]
    NotOneHost(Ipv4Addr),
    /// No port.
    #[error("port '{0}' is no number from 1 to 65535")]
    Port(String),
    /// No `/` behind the host.
    #[error("'{0}' names no export: nbd://HOST[:PORT]/EXPORT")]
    NoExport(String),
    /// Bytes that an export's name does not have here.
    #[error("export '{0}' is not printable characters and %XX that make UTF-8 without control characters")]
    Export(String),
    /// A word behind a comma.
    #[error("'{0}' is none of ro, serial=TEXT, on-error=wait|report (a comma in the export's name is %2C)")]
    Word(String),
    /// The same word again.
    #[error("'{0}' is said twice")]
    Twice(String),
    /// A serial that no disk can have.
    #[error("serial '{0}' is not 1 to {MAX_SERIAL} printable ASCII characters")]
    Serial(String),
}

impl Disk {
    /// Reads a disk's URL and what follows it.
    ///
    /// # Errors
    /// Which part is wrong, with its value.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let shown = |text: &str| said(text.as_bytes());
        if text.len() > MAX_URL {
            return Err(UrlError::Long(text.len()));
        }
        let Some(rest) = text.strip_prefix("nbd://") else { return Err(UrlError::Scheme(shown(text))) };
        let (url, words) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
        let Some((authority, export)) = url.split_once('/') else {
            return Err(UrlError::NoExport(shown(text)));
        };
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, read_port(port)?),
            None => (authority, PORT),
        };
        let host: Ipv4Addr = host.parse().map_err(|_| UrlError::Host(shown(host)))?;
        if host.octets()[0] == 0 || host.is_multicast() || host.is_broadcast() {
            return Err(UrlError::NotOneHost(host));
        }
        let mut disk = Self {
            server: SocketAddrV4::new(host, port),
            export: decode(export).ok_or_else(|| UrlError::Export(shown(export)))?,
            read_only: false,
            serial: String::new(),
            on_error: OnError::Wait,
        };
        disk.words(words.strip_prefix(',')).map(|()| disk)
    }

    fn words(&mut self, words: Option<&str>) -> Result<(), UrlError> {
        let mut seen = [false; 3];
        for word in words.into_iter().flat_map(|words| words.split(',')) {
            let which = match word.split_once('=') {
                None if word == "ro" => {
                    self.read_only = true;
                    0
                }
                Some(("serial", serial)) => {
                    let fits = (1..=MAX_SERIAL).contains(&serial.len())
                        && serial.bytes().all(|b| (0x20..0x7f).contains(&b));
                    if !fits {
                        return Err(UrlError::Serial(said(serial.as_bytes())));
                    }
                    self.serial = String::from(serial);
                    1
                }
                Some(("on-error", "wait")) => 2,
                Some(("on-error", "report")) => {
                    self.on_error = OnError::Report;
                    2
                }
                _ => return Err(UrlError::Word(said(word.as_bytes()))),
            };
            if core::mem::replace(&mut seen[which], true) {
                return Err(UrlError::Twice(said(word.as_bytes())));
            }
        }
        Ok(())
    }
}

fn read_port(text: &str) -> Result<u16, UrlError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|&port: &u16| digits && port != 0);
    port.ok_or_else(|| UrlError::Port(said(text.as_bytes())))
}

/// RFC 3986, 2.1.
fn decode(text: &str) -> Option<String> {
    let mut bytes = alloc::vec::Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (pair, tail) = rest.split_at_checked(2)?;
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        bytes.push((digit(0)? << 4 | digit(1)?) as u8);
        rest = tail;
    }
    String::from_utf8(bytes).ok().filter(|name| !name.chars().any(char::is_control))
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nbd://{}", self.server.ip())?;
        if self.server.port() != PORT {
            write!(f, ":{}", self.server.port())?;
        }
        f.write_str("/")?;
        for byte in self.export.bytes() {
            match byte {
                0x21..0x7f if !b",%\"".contains(&byte) => write!(f, "{}", char::from(byte))?,
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        if self.read_only {
            f.write_str(",ro")?;
        }
        if !self.serial.is_empty() {
            write!(f, ",serial={}", self.serial)?;
        }
        if self.on_error == OnError::Report {
            f.write_str(",on-error=report")?;
        }
        Ok(())
    }
}
