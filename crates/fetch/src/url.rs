//! URLs of the form `http://IP[:PORT]/path` and `tftp://IP[:PORT]/path`.

use alloc::string::String;
use core::fmt;
use core::net::Ipv4Addr;

use crate::shown::shown;

/// Longest URL in bytes.
pub const MAX_URL: usize = 1024;

/// How a file is fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// HTTP/1.1 over TCP, port 80 unless said otherwise.
    Http,
    /// TFTP over UDP, port 69 unless said otherwise.
    Tftp,
}

impl Scheme {
    /// As in a URL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tftp => "tftp",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Tftp => 69,
        }
    }
}

/// A file on a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Url {
    /// How it is fetched.
    pub scheme: Scheme,
    /// The server.
    pub host: Ipv4Addr,
    /// Its port, never 0.
    pub port: u16,
    /// The path with its query, from the `/` on: printable ASCII without blanks.
    pub path: String,
}

/// Why a text is no URL of ours; it holds the text, shortened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Longer than [`MAX_URL`].
    #[error("the URL has {0} bytes, at most {MAX_URL} are taken")]
    Long(usize),
    /// Neither scheme.
    #[error("'{0}' begins with neither http:// nor tftp://")]
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
    /// No path, or bytes in it that no URL has.
    #[error("path '{0}' is not / and printable characters without blanks")]
    Path(String),
}

impl Url {
    /// Reads a URL.
    ///
    /// # Errors
    /// Which part is wrong, with its value.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.len() > MAX_URL {
            return Err(UrlError::Long(text.len()));
        }
        let found = [Scheme::Http, Scheme::Tftp]
            .into_iter()
            .find_map(|scheme| Some((scheme, text.strip_prefix(scheme.name())?.strip_prefix("://")?)));
        let Some((scheme, rest)) = found else { return Err(UrlError::Scheme(shown(text.as_bytes()))) };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, read_port(port)?),
            None => (authority, scheme.port()),
        };
        let host: Ipv4Addr = host.parse().map_err(|_| UrlError::Host(shown(host.as_bytes())))?;
        if host.is_unspecified() || host.is_multicast() || host.is_broadcast() {
            return Err(UrlError::NotOneHost(host));
        }
        let url = Self { scheme, host, port, path: String::from(path) };
        if path.len() < 2 || !path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return Err(UrlError::Path(shown(path.as_bytes())));
        }
        Ok(url)
    }

    /// What a `Location` of this file means: a whole URL, or a path on the same server.
    ///
    /// # Errors
    /// Which part is wrong, with its value.
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        if !location.starts_with('/') || location.starts_with("//") {
            return Self::parse(location);
        }
        Self::parse(&alloc::format!("{}://{}:{}{location}", self.scheme.name(), self.host, self.port))
    }
}

fn read_port(text: &str) -> Result<u16, UrlError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|&port: &u16| digits && port != 0);
    port.ok_or_else(|| UrlError::Port(shown(text.as_bytes())))
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        if self.port != self.scheme.port() {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}
