//! The keyed link of a migration over a TCP connection of this machine.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use entropy::Generator;
use secure_link::{
    Alert, ByteStream, Gate, HostKey, Initiator, Limit, PoolKey, PublicKey, Responder, Security, Service,
    Session,
};

use crate::Keys;
use crate::inspect::hex;

/// Ticks a second of [`Clock`].
pub(crate) const HZ: u64 = 1_000_000_000;
const HANDSHAKE: Limit = Limit { hz: HZ, ms: 10_000 };
const CONNECT: Duration = Duration::from_secs(10);
/// How long the last bytes may take to leave.
const LINGER: Duration = Duration::from_secs(2);
const PORT: u16 = 4444;
/// Between two looks at a connection on which nothing happens.
const PAUSE: Duration = Duration::from_micros(200);

/// A clock that does not go back.
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Nothing to do: lets others work.
pub(crate) fn pause() {
    std::thread::sleep(PAUSE);
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    const RANDOM: &str = "/dev/urandom";
    let mut bytes = [0; N];
    File::open(RANDOM).and_then(|mut file| file.read_exact(&mut bytes)).context(RANDOM)?;
    Ok(bytes)
}

impl Keys {
    /// How links are secured.
    pub(crate) fn security(&self) -> Result<Security> {
        self.key.as_ref().map_or(Ok(Security::Insecure), |text| keyed(text))
    }
}

/// Links with a pool key: its digits, or a file that holds them.
pub(crate) fn keyed(text: &str) -> Result<Security> {
    let digits = match parse(text) {
        Some(key) => Some(key),
        None if Path::new(text).is_file() => {
            parse(std::fs::read_to_string(text).with_context(|| text.to_string())?.trim())
        }
        None => None,
    };
    let Some(bytes) = digits else {
        bail!("--key takes 64 hexadecimal digits, or a file that holds them");
    };
    Ok(Security::Keyed { pool: PoolKey::new(bytes)?, host: host_key()? })
}

/// Where this machine's keys are kept.
pub(crate) fn config_folder() -> Result<PathBuf> {
    let Some(home) = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")))
    else {
        bail!("neither XDG_CONFIG_HOME nor HOME says where this machine's keys are kept");
    };
    Ok(home.join("flexctl"))
}

/// Hosts pin the key of a peer, so this machine has one: made at its first use.
fn host_key() -> Result<HostKey> {
    let folder = config_folder()?;
    let path = folder.join("host-key");
    let shown = || path.display().to_string();
    if !path.exists() {
        std::fs::create_dir_all(&folder).with_context(shown)?;
        let key: [u8; 32] = random()?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        match options.open(&path).and_then(|mut file| writeln!(file, "{}", hex(&key))) {
            // Another process was first.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other.with_context(shown)?,
        }
    }
    let text = std::fs::read_to_string(&path).with_context(shown)?;
    let key = parse(text.trim()).with_context(|| format!("{}: no host key", shown()))?;
    Ok(HostKey::new(key)?)
}

fn parse(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (i, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(key)
}

/// `HOST` or `HOST:PORT`.
pub(crate) fn resolve(host: &str) -> Result<SocketAddr> {
    let mut found = match host.to_socket_addrs() {
        Ok(found) => found,
        Err(_) => (host, PORT).to_socket_addrs().with_context(|| host.to_string())?,
    };
    found.next().with_context(|| format!("{host}: no address"))
}

struct Tcp {
    stream: TcpStream,
    open: bool,
    /// The peer has closed it in order.
    ended: bool,
}

impl Tcp {
    fn new(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, open: true, ended: false })
    }

    fn moved(&mut self, result: std::io::Result<usize>) -> usize {
        match result {
            Ok(0) => self.open = false,
            Ok(n) => return n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.open = false,
        }
        0
    }
}

impl ByteStream for Tcp {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        if buf.is_empty() {
            return 0;
        }
        let result = self.stream.read(buf);
        self.ended |= matches!(result, Ok(0));
        self.moved(result)
    }

    fn send(&mut self, data: &[u8]) -> usize {
        if data.is_empty() || !self.open {
            return 0;
        }
        let result = self.stream.write(data);
        self.moved(result)
    }

    fn is_open(&self) -> bool {
        self.open
    }
}

/// Shut once a promise could not be kept in the file: what is queued then never leaves.
#[derive(Clone, Default)]
pub(crate) struct Bar(Rc<Cell<bool>>);

impl Bar {
    pub(crate) fn shut(&self) {
        self.0.set(true);
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.0.get()
    }
}

/// A link that stands.
pub(crate) struct Link {
    tcp: Tcp,
    session: Session,
    bar: Bar,
}

impl migrate::Link for Link {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        self.session.recv(&mut self.tcp, buf)
    }

    fn send(&mut self, data: &[u8]) -> usize {
        if self.bar.is_shut() {
            return 0;
        }
        self.session.send(&mut self.tcp, data)
    }

    fn is_open(&self) -> bool {
        !self.bar.is_shut() && self.session.is_open(&self.tcp)
    }
}

struct Migrations;

impl Gate for Migrations {
    fn service(&mut self, service: Service) -> Result<(), Alert> {
        if service == Service::Migrate { Ok(()) } else { Err(Alert::Service) }
    }

    fn identity(&mut self, _: Service, _: &PublicKey) -> Result<(), Alert> {
        Ok(())
    }
}

impl Link {
    /// Connects to a host.
    pub(crate) fn dial(
        service: Service,
        to: SocketAddr,
        security: &Security,
        bar: Bar,
    ) -> Result<Self, String> {
        let stream = TcpStream::connect_timeout(&to, CONNECT).map_err(|error| error.to_string())?;
        let mut tcp = Tcp::new(stream).map_err(|error| error.to_string())?;
        let clock = Clock::start();
        let generator = generator()?;
        let mut initiator = Initiator::new(service, security, generator, HANDSHAKE, clock.now())
            .map_err(|error| error.to_string())?;
        loop {
            match initiator.poll(clock.now(), &mut tcp) {
                Poll::Pending => pause(),
                Poll::Ready(Ok(session)) => return Ok(Self { tcp, session, bar }),
                Poll::Ready(Err(error)) => return Err(error.to_string()),
            }
        }
    }

    /// Takes a connection.
    pub(crate) fn answer(stream: TcpStream, security: &Security, bar: Bar) -> Result<Self, String> {
        let mut tcp = Tcp::new(stream).map_err(|error| error.to_string())?;
        let clock = Clock::start();
        let mut responder = Responder::new(security.clone(), generator()?, HANDSHAKE, clock.now());
        loop {
            match responder.poll(clock.now(), &mut tcp, &mut Migrations) {
                Poll::Pending => pause(),
                Poll::Ready(Ok(session)) => return Ok(Self { tcp, session, bar }),
                Poll::Ready(Err(error)) => return Err(error.to_string()),
            }
        }
    }

    /// What ended the link before its time, as the end of a sentence.
    pub(crate) fn fault(&self) -> String {
        self.session.fault().map(|fault| format!(": {fault}")).unwrap_or_default()
    }

    /// Says that nothing follows, and waits until the peer has said so too. Whether it has.
    pub(crate) fn close(mut self) -> bool {
        let began = Instant::now();
        self.session.close(&mut self.tcp);
        while !self.session.flush(&mut self.tcp) && self.tcp.open && began.elapsed() < LINGER {
            pause();
        }
        let _ = self.tcp.stream.shutdown(std::net::Shutdown::Write);
        let mut rest = [0; 4096];
        while self.tcp.open && began.elapsed() < LINGER {
            if self.session.recv(&mut self.tcp, &mut rest) == 0 {
                pause();
            }
            if self.session.fault().is_some() || self.session.is_ended() {
                break;
            }
        }
        let insecure = self.session.peer().is_none();
        (self.session.is_ended() || insecure && self.tcp.ended) && self.session.fault().is_none()
    }
}

fn generator() -> Result<Generator, String> {
    random().map(Generator::from_secret).map_err(|error| format!("{error:#}"))
}
