//! A TCP connection as the protocol's link, with a tap on both of its streams.

use std::collections::VecDeque;

use migrate::Link;
use migrate::wire::{RECORD_HEADER, STREAM_HEADER};
use net::{Connection, ConnectionState, Stack};

/// Counts the records in a stream: the stream header is the first.
#[derive(Clone, Default)]
pub struct Counter {
    pub records: u64,
    pub bytes: u64,
    /// Of the record that is under way.
    begun: Vec<u8>,
    /// Type of each record that is whole; the stream header's is 0.
    pub kinds: Vec<u16>,
    /// And its length in bytes.
    pub lengths: Vec<u64>,
}

impl Counter {
    /// Takes bytes and gives back those records that are whole with them.
    fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.bytes += bytes.len() as u64;
        self.begun.extend(bytes);
        let mut whole = Vec::new();
        loop {
            let length = if self.records == 0 {
                STREAM_HEADER
            } else if self.begun.len() < RECORD_HEADER {
                return whole;
            } else {
                RECORD_HEADER + u32::from_le_bytes(self.begun[4..8].try_into().unwrap()) as usize
            };
            if self.begun.len() < length {
                return whole;
            }
            let rest = self.begun.split_off(length);
            let record = std::mem::replace(&mut self.begun, rest);
            self.kinds.push(if self.records == 0 { 0 } else { u16::from_le_bytes([record[0], record[1]]) });
            self.records += 1;
            self.lengths.push(length as u64);
            whole.push(record);
        }
    }
}

/// A point in a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// So many records, the stream header counted.
    Record(u64),
    Byte(u64),
}

impl Point {
    fn reached(self, counter: &Counter) -> bool {
        match self {
            Self::Record(n) => counter.records >= n,
            Self::Byte(n) => counter.bytes >= n,
        }
    }

    /// How many of these bytes may pass until the point is reached.
    fn most(self, counter: &Counter, data: &[u8]) -> usize {
        match self {
            Self::Record(n) => {
                let mut ahead = counter.clone();
                data.iter()
                    .take_while(|byte| {
                        ahead.records < n && {
                            ahead.push(&[**byte]);
                            true
                        }
                    })
                    .count()
            }
            Self::Byte(n) => data.len().min(n.saturating_sub(counter.bytes) as usize),
        }
    }
}

/// What is done to a record on its way: TCP never does it, a broken host might.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tamper {
    Leave,
    Double,
    /// It comes behind the next one.
    Exchange,
    /// It waits for so long, in microseconds; those behind it wait too.
    Delay(u64),
}

/// A tap on one end of a connection.
#[derive(Default)]
pub struct Tap {
    pub sent: Counter,
    pub read: Counter,
    /// Where the fault comes, in what this end sends or reads.
    pub stop_sent: Option<Point>,
    pub stop_read: Option<Point>,
    /// Number of the record, and what becomes of it.
    pub tamper: Option<(u64, Tamper)>,
    pub held: Option<Vec<u8>>,
    pub waits_until: u64,
    pub queue: VecDeque<u8>,
}

impl Tap {
    pub fn stopped(&self) -> bool {
        self.stop_sent.is_some_and(|point| point.reached(&self.sent))
            || self.stop_read.is_some_and(|point| point.reached(&self.read))
    }

    fn pass(&mut self, record: Vec<u8>, number: u64, now: u64) {
        match self.tamper {
            Some((at, what)) if at == number => match what {
                Tamper::Leave => {}
                Tamper::Double => {
                    self.queue.extend(&record);
                    self.queue.extend(&record);
                }
                Tamper::Exchange => self.held = Some(record),
                Tamper::Delay(us) => {
                    self.waits_until = now + us;
                    self.queue.extend(&record);
                }
            },
            _ => {
                self.queue.extend(&record);
                self.queue.extend(self.held.take().unwrap_or_default());
            }
        }
    }
}

/// Bytes of tampered records that wait for TCP, at most.
const ROOM: usize = 64 * 1024;

pub struct TcpLink<'a> {
    pub stack: &'a mut Stack,
    pub connection: Connection,
    pub tap: &'a mut Tap,
    pub now: u64,
}

impl TcpLink<'_> {
    /// Hands on what has been tampered with.
    pub fn flush(&mut self) {
        if self.now < self.tap.waits_until {
            return;
        }
        let bytes = self.tap.queue.make_contiguous();
        let taken = self.stack.send(self.connection, bytes).unwrap_or(bytes.len());
        self.tap.queue.drain(..taken);
    }
}

impl Link for TcpLink<'_> {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        if self.tap.stopped() {
            return 0;
        }
        // A machine reads no further than to the end of a record.
        let most = match self.tap.stop_read {
            Some(Point::Byte(n)) => buf.len().min(n.saturating_sub(self.tap.read.bytes) as usize),
            _ => buf.len(),
        };
        let count = self.stack.receive(self.connection, &mut buf[..most]).unwrap_or(0);
        self.tap.read.push(&buf[..count]);
        count
    }

    fn send(&mut self, data: &[u8]) -> usize {
        if self.tap.tamper.is_some() {
            let count = data.len().min(ROOM - self.tap.queue.len().min(ROOM));
            let first = self.tap.sent.records;
            for (record, number) in self.tap.sent.push(&data[..count]).into_iter().zip(first..) {
                self.tap.pass(record, number, self.now);
            }
            self.flush();
            return count;
        }
        if self.tap.stopped() {
            return 0;
        }
        let most = self.tap.stop_sent.map_or(data.len(), |point| point.most(&self.tap.sent, data));
        let count = self.stack.send(self.connection, &data[..most]).unwrap_or(0);
        self.tap.sent.push(&data[..count]);
        count
    }

    fn is_open(&self) -> bool {
        matches!(
            self.stack.connection_state(self.connection),
            Ok(ConnectionState::Connecting | ConnectionState::Open | ConnectionState::Closing)
        )
    }
}
