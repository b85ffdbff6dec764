//! An expect engine on an emulated serial port: everything received goes to a log file and to one buffer, and a
//! cursor moves over the buffer as expectations are met.

use anyhow::{Context, Result, anyhow};
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many lines of the log an error shows.
const TAIL_LINES: usize = 40;

/// What `expect` can fail with; the text holds the last lines of the log.
#[derive(Debug)]
pub enum ExpectError {
    /// The text did not come in time.
    TimeOut(String),
    /// The other end closed the connection first.
    Closed(String),
}

impl fmt::Display for ExpectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimeOut(text) | Self::Closed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ExpectError {}

#[derive(Default)]
struct Received {
    /// Text without carriage returns.
    text: String,
    /// Bytes of an unfinished UTF-8 sequence.
    partial: Vec<u8>,
    closed: bool,
}

struct Shared {
    received: Mutex<Received>,
    news: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listening socket that an emulator's serial port connects to.
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
}

impl Port {
    /// Listens on a free local port.
    pub fn open() -> Result<Self> {
        Ok(Self { listener: TcpListener::bind(("127.0.0.1", 0)).context("no free TCP port")? })
    }

    /// The TCP port number to give to the emulator.
    pub fn number(&self) -> Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Waits for the emulator to connect.
    pub fn accept(&self, name: &str, log: &Path, timeout: Duration) -> Result<Console> {
        self.listener.set_nonblocking(true)?;
        let deadline = Instant::now() + timeout;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Console::new(name, stream, log);
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    if Instant::now() > deadline {
                        return Err(anyhow!("{name}: the emulator did not connect its serial port"));
                    }
                    // accept() has no time-out of its own.
                    thread::park_timeout(Duration::from_millis(10));
                }
                Err(e) => return Err(e).with_context(|| format!("{name}: serial port")),
            }
        }
    }
}

/// A connected serial console.
pub struct Console {
    name: String,
    stream: TcpStream,
    shared: Arc<Shared>,
    cursor: usize,
    log: PathBuf,
    deadline: Option<Instant>,
}

impl Console {
    /// Takes a connected stream; all that it brings is also written to `log`.
    pub fn new(name: &str, stream: TcpStream, log: &Path) -> Result<Self> {
        let shared = Arc::new(Shared { received: Mutex::default(), news: Condvar::new() });
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let reader = stream.try_clone()?;
        stream.set_nodelay(true)?;
        let sink = Arc::clone(&shared);
        thread::spawn(move || receive(reader, file, &sink));
        Ok(Self { name: name.to_string(), stream, shared, cursor: 0, log: log.to_path_buf(), deadline: None })
    }

    /// No later wait goes on past `deadline`.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// The file with all that was received.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).with_context(|| format!("{}: connection lost", self.name))
    }

    /// Sends a line, ended by a carriage return as a terminal does.
    pub fn send_line(&mut self, line: &str) -> Result<()> {
        self.send(format!("{line}\r").as_bytes())
    }

    /// A second handle for sending, for a thread of its own.
    pub fn sender(&self) -> Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    /// Waits for a line that contains `pattern` (`*` stands for any text within the line) and gives it back. The
    /// line need not be complete, so a prompt can be waited for.
    pub fn expect(&mut self, pattern: &str, timeout: Duration) -> Result<String> {
        self.wait(&format!("\"{pattern}\""), timeout, |line| {
            line.text.find_pattern(pattern).map(|end| (end, line.text.to_string()))
        })
    }

    /// Waits for a complete line that contains one of `patterns`; gives back its index and the line.
    pub fn expect_any(&mut self, patterns: &[&str], timeout: Duration) -> Result<(usize, String)> {
        self.wait(&format!("one of {patterns:?}"), timeout, |line| {
            let index = patterns.iter().position(|p| line.complete && line.text.find_pattern(p).is_some())?;
            Some((line.text.len(), (index, line.text.to_string())))
        })
    }

    /// Waits for a complete line for which `accept` gives a value.
    pub fn expect_line<T>(
        &mut self,
        what: &str,
        timeout: Duration,
        mut accept: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        self.wait(what, timeout, |line| {
            if line.complete { accept(line.text).map(|value| (line.text.len(), value)) } else { None }
        })
    }

    /// The lines received and not yet passed by the cursor; the cursor moves past the complete ones.
    pub fn take_lines(&mut self) -> Vec<String> {
        let received = self.shared.lock();
        let rest = received.text.get(self.cursor..).unwrap_or_default();
        let end = rest.rfind('\n').map_or(0, |at| at + 1);
        let lines = rest[..end].lines().map(str::to_string).collect();
        self.cursor += end;
        lines
    }

    /// All the text received so far.
    pub fn text(&self) -> String {
        self.shared.lock().text.clone()
    }

    /// The text from byte `at` on.
    pub fn text_from(&self, at: usize) -> String {
        self.shared.lock().text.get(at..).unwrap_or_default().to_string()
    }

    /// A handle for another reader of the same text.
    pub fn tap(&self) -> Tap {
        Tap(Arc::clone(&self.shared))
    }

    /// Waits for more than `known` bytes of text; `false` when nothing came within `timeout` or all is over.
    pub fn wait_news(&self, known: usize, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut received = self.shared.lock();
        loop {
            if received.text.len() > known {
                return true;
            }
            let Some(rest) = deadline.checked_duration_since(Instant::now()) else { return false };
            if received.closed {
                return false;
            }
            received =
                self.shared.news.wait_timeout(received, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until nothing has come for `quiet`, at most `limit`.
    pub fn drain(&self, quiet: Duration, limit: Duration) {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            let known = self.shared.lock().text.len();
            if !self.wait_news(known, quiet) {
                return;
            }
        }
    }

    /// The other end has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }

    fn wait<T>(
        &mut self,
        what: &str,
        timeout: Duration,
        mut test: impl FnMut(Line<'_>) -> Option<(usize, T)>,
    ) -> Result<T> {
        let mut deadline = Instant::now() + timeout;
        if let Some(limit) = self.deadline {
            deadline = deadline.min(limit);
        }
        let started = Instant::now();
        let mut received = self.shared.lock();
        loop {
            let mut at = self.cursor;
            while let Some(rest) = received.text.get(at..)
                && !rest.is_empty()
            {
                let end = rest.find('\n');
                let line = Line { text: &rest[..end.unwrap_or(rest.len())], complete: end.is_some() };
                if let Some((used, value)) = test(line) {
                    self.cursor = at + used;
                    return Ok(value);
                }
                let Some(end) = end else { break };
                // A complete line that did not match never will.
                at += end + 1;
                self.cursor = at;
            }
            let closed = received.closed;
            let rest = deadline.checked_duration_since(Instant::now());
            if closed || rest.is_none() {
                let how = if closed { "connection closed" } else { "time-out" };
                let text = format!(
                    "{}: {how} after {:.1} s waiting for {what}\n--- last lines of {} ---\n{}",
                    self.name,
                    started.elapsed().as_secs_f64(),
                    self.log.display(),
                    tail(&received.text, TAIL_LINES)
                );
                let error = if closed { ExpectError::Closed(text) } else { ExpectError::TimeOut(text) };
                return Err(error.into());
            }
            let rest = rest.unwrap_or_default();
            received =
                self.shared.news.wait_timeout(received, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Another reader of a console's text.
#[derive(Clone)]
pub struct Tap(Arc<Shared>);

impl Tap {
    /// Waits for text beyond byte `at` and gives back all of it; none once the connection is closed.
    pub fn wait_from(&self, at: usize) -> Option<String> {
        let mut received = self.0.lock();
        loop {
            match received.text.get(at..) {
                Some(text) if !text.is_empty() => return Some(text.to_string()),
                _ if received.closed => return None,
                _ => received = self.0.news.wait(received).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

struct Line<'a> {
    text: &'a str,
    complete: bool,
}

fn receive(mut stream: TcpStream, mut log: File, shared: &Shared) {
    let mut buffer = [0; 4096];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let _ = log.write_all(&buffer[..count]);
        let mut received = shared.lock();
        received.push(&buffer[..count]);
        shared.news.notify_all();
    }
    shared.lock().closed = true;
    shared.news.notify_all();
}

impl Received {
    fn push(&mut self, bytes: &[u8]) {
        self.partial.extend(bytes.iter().filter(|&&byte| byte != b'\r' && byte != 0));
        let valid = match std::str::from_utf8(&self.partial) {
            Ok(text) => text.len(),
            // An unfinished sequence waits for its rest; a wrong one is shown as it can be.
            Err(e) if e.error_len().is_none() => e.valid_up_to(),
            Err(_) => self.partial.len(),
        };
        let rest = self.partial.split_off(valid);
        self.text.push_str(&String::from_utf8_lossy(&self.partial));
        self.partial = rest;
    }
}

/// The last `count` lines of `text`.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Simple patterns: literal pieces separated by `*`.
pub trait FindPattern {
    /// Where the first match of `pattern` ends.
    fn find_pattern(&self, pattern: &str) -> Option<usize>;
}

impl FindPattern for str {
    fn find_pattern(&self, pattern: &str) -> Option<usize> {
        let mut at = 0;
        for piece in pattern.split('*') {
            at += self[at..].find(piece)? + piece.len();
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (TcpStream, Console, PathBuf) {
        let log = std::env::temp_dir().join(format!("console-test-{:?}.log", thread::current().id()));
        let port = Port::open().unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port.number().unwrap())).unwrap();
        let console = port.accept("test", &log, Duration::from_secs(5)).unwrap();
        (stream, console, log)
    }

    #[test]
    fn patterns_match_in_order() {
        assert_eq!("vm a: stopped: reset".find_pattern("vm *: stopped"), Some(13));
        assert_eq!("stopped vm".find_pattern("vm*stopped"), None);
    }

    #[test]
    fn lines_and_prompts_are_found_in_turn() {
        let (mut stream, mut console, log) = pair();
        stream.write_all(b"first\r\nsecond \xc3\xa9\r\nprompt> ").unwrap();
        let second = Duration::from_secs(5);
        assert_eq!(console.expect("sec*d", second).unwrap(), "second \u{e9}");
        assert_eq!(console.expect("prompt> ", second).unwrap(), "prompt> ");
        let error = console.expect("first", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(ExpectError::TimeOut(_))), "{error}");
        stream.write_all(b"no match\nlast 7\n").unwrap();
        let value = console.expect_line("a number", second, |l| l.strip_prefix("last ")?.parse::<u32>().ok());
        assert_eq!(value.unwrap(), 7);
        drop(stream);
        let error = console.expect("never", second).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(ExpectError::Closed(_))), "{error}");
        assert!(error.to_string().contains("last 7"), "{error}");
        assert!(std::fs::read_to_string(log).unwrap().contains("second"));
    }

    #[test]
    fn send_line_ends_with_carriage_return() {
        let (mut stream, mut console, _log) = pair();
        console.send_line("vm list").unwrap();
        let mut got = [0; 8];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"vm list\r");
    }
}
