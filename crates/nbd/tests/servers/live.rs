//! A client on a socket.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nbd::{Action, Client, Command, Disk, Failure, Limits, State, Tag};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Live {
    pub(crate) client: Client,
    stream: Option<TcpStream>,
    since: Instant,
    tag: u64,
    /// Reads that wait, and what came of them.
    reads: HashMap<u64, Vec<u8>>,
    /// Answers that nobody has looked at.
    answers: HashMap<u64, Result<(), Failure>>,
    waiting: usize,
    /// How many were opened.
    pub(crate) connections: usize,
}

impl Live {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            client: Client::new(Disk::parse(url).unwrap(), Limits::default(), 0),
            stream: None,
            since: Instant::now(),
            tag: 0,
            reads: HashMap::new(),
            answers: HashMap::new(),
            waiting: 0,
            connections: 0,
        }
    }

    pub(crate) fn open(url: &str) -> Self {
        let mut live = Self::new(url);
        live.until("the export", |client| client.export().is_some());
        live
    }

    /// What the first trouble is of a disk that cannot be had.
    pub(crate) fn refused(url: &str) -> String {
        let mut live = Self::new(url);
        live.until("a refusal", |client| client.standing(0).is_some());
        live.client.standing(0).unwrap().trouble.to_string()
    }

    fn now_us(&self) -> u64 {
        self.since.elapsed().as_micros() as u64
    }

    /// One turn: what can be sent, what has come; a rest of a moment if that is nothing.
    pub(crate) fn turn(&mut self) {
        let now_us = self.now_us();
        match self.client.poll(now_us) {
            Action::None => {}
            Action::Close => self.stream = None,
            Action::Connect => {
                let server: SocketAddr = self.client.disk().server.into();
                match TcpStream::connect_timeout(&server, Duration::from_secs(5)) {
                    Ok(stream) => {
                        stream.set_nonblocking(true).unwrap();
                        stream.set_nodelay(true).unwrap();
                        self.stream = Some(stream);
                        self.connections += 1;
                        self.client.connected(now_us);
                    }
                    Err(error) => self.client.closed(&error.to_string(), now_us),
                }
            }
        }
        match self.exchange(now_us) {
            Ok(true) => {}
            Ok(false) => std::thread::sleep(Duration::from_micros(200)),
            Err(why) => {
                self.stream = None;
                self.client.closed(&why, now_us);
            }
        }
        while let Some(answer) = self.client.answer() {
            self.waiting -= 1;
            assert!(self.answers.insert(answer.tag.0, answer.result).is_none());
        }
    }

    /// Whether anything moved.
    fn exchange(&mut self, now_us: u64) -> Result<bool, String> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let mut moved = false;
        let later = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
        while !self.client.outgoing().is_empty() {
            match stream.write(self.client.outgoing()) {
                Ok(count) => self.client.sent(count),
                Err(error) if later(&error) => break,
                Err(error) => return Err(error.to_string()),
            }
            moved = true;
        }
        let mut buffer = [0; 65536];
        match stream.read(&mut buffer) {
            Ok(0) => Err("end".into()),
            Ok(count) => {
                let reads = &mut self.reads;
                self.client.receive(&buffer[..count], now_us, &mut |tag, at, bytes| {
                    let to = reads.get_mut(&tag.0).expect("bytes of a read");
                    to[at as usize..][..bytes.len()].copy_from_slice(bytes);
                });
                Ok(true)
            }
            Err(error) if later(&error) => Ok(moved),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Client) -> bool) {
        let since = Instant::now();
        while !done(&self.client) {
            self.turn();
            assert!(
                since.elapsed() < PATIENCE,
                "{what} does not come: {:?}",
                self.client.standing(self.now_us())
            );
        }
    }

    /// Asks as soon as there is room.
    pub(crate) fn submit(&mut self, command: Command) -> u64 {
        let bytes = if let Command::Write { data, .. } = &command { data.len() } else { 0 };
        let since = Instant::now();
        while !self.client.room(bytes) {
            self.turn();
            assert!(since.elapsed() < PATIENCE, "no room: {:?}", self.client.standing(self.now_us()));
        }
        self.tag += 1;
        if let Command::Read { len, .. } = command {
            self.reads.insert(self.tag, vec![0xee; len as usize]);
        }
        self.client.submit(Tag(self.tag), command, self.now_us()).unwrap();
        self.waiting += 1;
        self.tag
    }

    /// Asks and waits.
    pub(crate) fn run(&mut self, command: Command) -> Result<(), Failure> {
        let tag = self.submit(command);
        let since = Instant::now();
        loop {
            if let Some(result) = self.answers.remove(&tag) {
                return result;
            }
            self.turn();
            assert!(since.elapsed() < PATIENCE, "no answer: {:?}", self.client.standing(self.now_us()));
        }
    }

    pub(crate) fn read(&mut self, offset: u64, len: u32) -> Vec<u8> {
        self.run(Command::Read { offset, len }).unwrap();
        self.reads.remove(&self.tag).unwrap()
    }

    /// Waits for all answers; each is good.
    pub(crate) fn finish_all(&mut self) {
        let since = Instant::now();
        while self.waiting > 0 {
            self.turn();
            assert!(since.elapsed() < PATIENCE, "no answers: {:?}", self.client.standing(self.now_us()));
        }
        for (tag, result) in self.answers.drain() {
            assert_eq!(result, Ok(()), "request {tag}");
        }
    }

    /// The end in order, which the server has a part in: it closes.
    pub(crate) fn end(mut self) {
        self.client.finish();
        self.until("the end", |client| client.state() == State::Finished);
        assert_eq!(self.client.unflushed(), (0, 0));
    }
}
