//! Records into a byte stream.

use alloc::format;
use alloc::vec::Vec;

use minicbor::Encode;

use crate::body::{Abort, encode, printable};
use crate::limits;
use crate::link::Link;
use crate::reason::Reason;
use crate::tuning::Clock;
use crate::wire::{RECORD_HEADER, RecordHeader, RecordType, STREAM_HEADER, StreamHeader, WireError};

/// Bytes on their way out. Bounded: the machines queue a large record only when it is empty.
#[derive(Clone)]
pub(crate) struct Outbox {
    buf: Vec<u8>,
    len: usize,
    sent: usize,
    seq: u32,
    /// When a byte last left.
    spoke: u64,
    /// Bytes queued so far.
    queued: u64,
}

impl Outbox {
    pub(crate) fn new(now: u64) -> Self {
        Self { buf: Vec::new(), len: 0, sent: 0, seq: 0, spoke: now, queued: 0 }
    }

    pub(crate) fn put_stream_header(&mut self) {
        let header = StreamHeader::OURS.to_bytes();
        self.append(&header);
        debug_assert_eq!(header.len(), STREAM_HEADER);
    }

    /// Queues a record with a CBOR body; its seal.
    pub(crate) fn put<T: Encode<()>>(&mut self, kind: RecordType, body: &T) -> u64 {
        self.put_raw(kind, &encode(body))
    }

    /// Queues a record; its seal.
    pub(crate) fn put_raw(&mut self, kind: RecordType, body: &[u8]) -> u64 {
        let (header, seal) = self.header(kind, body);
        self.append(&header);
        self.append(body);
        seal
    }

    /// Queues a record whose body stands at [`RECORD_HEADER`] of `ready`, by swapping buffers: no copy.
    /// Only for an empty outbox. `ready` is some other buffer afterwards. Its seal.
    pub(crate) fn put_swap(&mut self, kind: RecordType, ready: &mut Vec<u8>, len: usize) -> u64 {
        debug_assert!(self.is_empty() && ready.len() >= len);
        let body = ready.get(RECORD_HEADER..len).unwrap_or_default();
        let (header, seal) = self.header(kind, body);
        if let Some(front) = ready.first_chunk_mut() {
            *front = header;
        }
        core::mem::swap(&mut self.buf, ready);
        self.len = len;
        self.sent = 0;
        self.queued = self.queued.saturating_add(len as u64);
        seal
    }

    fn header(&mut self, kind: RecordType, body: &[u8]) -> ([u8; RECORD_HEADER], u64) {
        debug_assert!(body.len() <= kind.cap());
        let mut header = RecordHeader { kind: kind as u16, len: body.len() as u32, seq: self.seq, check: 0 };
        self.seq = self.seq.wrapping_add(1);
        let seal = header.seal(body);
        header.check = header.check_of(seal);
        (header.to_bytes(), seal)
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.is_empty() {
            self.len = 0;
            self.sent = 0;
        }
        let end = self.len.saturating_add(bytes.len());
        if self.buf.len() < end {
            self.buf.resize(end, 0);
        }
        if let Some(to) = self.buf.get_mut(self.len..end) {
            to.copy_from_slice(bytes);
        }
        self.len = end;
        self.queued = self.queued.saturating_add(bytes.len() as u64);
    }

    /// Queues a sign of life where nothing has left for `keepalive_ms`.
    pub(crate) fn keep_alive(&mut self, now: u64, clock: Clock, keepalive_ms: u64) {
        if self.is_empty() && clock.passed(self.spoke, now, keepalive_ms) {
            self.put_raw(RecordType::Ping, &[]);
        }
    }

    /// Tells the peer why it ends, unless the peer said so itself or cannot hear or understand it.
    pub(crate) fn put_abort(&mut self, reason: &Reason) {
        let deaf = matches!(
            reason,
            Reason::LinkLost | Reason::Peer(_) | Reason::Refused(_) | Reason::Wire(WireError::NotOurs(_))
        );
        if !deaf {
            let reason = printable(&format!("{reason}"), limits::MAX_TEXT);
            self.put(RecordType::Abort, &Abort { reason });
        }
    }

    /// Hands on what the link takes.
    pub(crate) fn flush(&mut self, link: &mut impl Link, now: u64) {
        while let Some(rest) = self.buf.get(self.sent..self.len) {
            let n = if rest.is_empty() { 0 } else { link.send(rest).min(rest.len()) };
            if n == 0 {
                break;
            }
            self.sent += n;
            self.spoke = now;
        }
    }

    /// Whether the link has taken everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.len
    }

    /// Whether an end that is over may go: its last words have left, or nobody is there to read them, or it has waited
    /// long enough (`late`).
    pub(crate) fn is_done(&self, link: &impl Link, late: bool) -> bool {
        self.is_empty() || !link.is_open() || late
    }

    pub(crate) fn queued(&self) -> u64 {
        self.queued
    }
}
