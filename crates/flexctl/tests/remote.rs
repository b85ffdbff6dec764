//! `--host` against a host's end of the protocol, as a script uses it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use entropy::Generator;
use manage::{Asked, Server};
use secure_link::{Alert, ByteStream, Gate, Limit, PublicKey, Responder, Security, Service};

struct Tcp(TcpStream, bool);

impl Tcp {
    fn moved(&mut self, result: std::io::Result<usize>) -> usize {
        match result {
            Ok(count) if count > 0 => return count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => self.1 = false,
        }
        0
    }
}

impl ByteStream for Tcp {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        let result = if buf.is_empty() { return 0 } else { self.0.read(buf) };
        self.moved(result)
    }

    fn send(&mut self, data: &[u8]) -> usize {
        let result = if data.is_empty() { return 0 } else { self.0.write(data) };
        self.moved(result)
    }

    fn is_open(&self) -> bool {
        self.1
    }
}

struct Open;

impl Gate for Open {
    fn service(&mut self, service: Service) -> Result<(), Alert> {
        if service == Service::Manage { Ok(()) } else { Err(Alert::Service) }
    }

    fn identity(&mut self, _: Service, _: &PublicKey) -> Result<(), Alert> {
        Ok(())
    }
}

/// Takes one link: `say TEXT` prints it, `flood` prints until it is interrupted, `cut` loses the link, all else is an
/// error. The lines that were run.
fn host(listener: &TcpListener) -> Vec<String> {
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut tcp = Tcp(stream, true);
    let began = Instant::now();
    let now = || began.elapsed().as_micros() as u64;
    let limit = Limit { hz: 1_000_000, ms: 10_000 };
    let mut responder = Responder::new(Security::Insecure, Generator::from_secret([7; 32]), limit, now());
    let mut session = loop {
        match responder.poll(now(), &mut tcp, &mut Open) {
            Poll::Ready(session) => break session.unwrap(),
            Poll::Pending => thread::sleep(Duration::from_millis(1)),
        }
    };
    let (mut server, mut lines, mut floods) = (Server::new("test", now()), Vec::new(), false);
    loop {
        let mut bytes = [0; 1024];
        let count = session.recv(&mut tcp, &mut bytes);
        server.feed(&bytes[..count], now());
        while let Some(asked) = server.take().unwrap() {
            match asked {
                Asked::Run(line) => {
                    match line.split_once(' ').unwrap_or((&line, "")) {
                        ("say", text) => {
                            server.output(text);
                            server.end(Ok(()));
                        }
                        ("flood", _) => floods = true,
                        ("cut", _) => return lines,
                        _ => server.end(Err(("usage", "no such command"))),
                    }
                    lines.push(line);
                }
                Asked::Interrupt if floods => {
                    floods = false;
                    server.end(Err(("failed", "interrupted")));
                }
                Asked::Interrupt => {}
            }
        }
        if floods && server.queued() < 8192 {
            server.output(&"x".repeat(999));
        }
        server.poll(now()).unwrap();
        let sent = session.send(&mut tcp, server.outgoing());
        server.sent(sent);
        session.flush(&mut tcp);
        if count == 0 && !session.is_open(&tcp) {
            return lines;
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// A host, and the program that talks to it.
fn begin(words: &[&str]) -> (thread::JoinHandle<Vec<String>>, Child) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let host = thread::spawn(move || host(&listener));
    let mut command = Command::new(env!("CARGO_BIN_EXE_flexctl"));
    command.args(["--insecure", "--host", &address]).args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    (host, command.spawn().unwrap())
}

#[test]
fn lines_come_when_they_come() {
    let (host, mut child) = begin(&[]);
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    writeln!(input, "say one").unwrap();
    // The host prints no end of line: the next command's text follows.
    thread::sleep(Duration::from_millis(200));
    writeln!(input, "say two").unwrap();
    drop(input);
    assert_eq!(output.next().unwrap().unwrap(), "onetwo");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(host.join().unwrap(), ["say one", "say two"]);
}

#[test]
fn a_line_that_fails_or_is_too_long_ends_it() {
    for (text, status, told) in [
        ("bogus\nsay no\n".to_string(), 2, "error: usage: no such command\n"),
        (
            format!("{}\nsay no\n", "x".repeat(5000)),
            2,
            "flexctl: a line of 5000 bytes, at most 4096 are taken\n",
        ),
    ] {
        let (host, mut child) = begin(&[]);
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(status), &[][..]));
        assert_eq!(String::from_utf8(ended.stderr).unwrap(), told);
        assert!(!host.join().unwrap().contains(&"say no".to_string()));
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command() {
    let (host, mut child) = begin(&["flood"]);
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0; 5000]).unwrap();
    drop(output);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "error: failed: interrupted\n");
    assert_eq!(host.join().unwrap(), ["flood"]);
}

#[test]
fn a_host_that_is_lost_is_told_from_an_error() {
    let (host, child) = begin(&["cut"]);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    assert!(String::from_utf8(ended.stderr).unwrap().contains("the link ended"));
    host.join().unwrap();
}
