//! A target that is fed records by hand.

use super::*;

/// A record with a fitting seal.
pub fn record(seq: u32, kind: u16, body: &[u8]) -> Vec<u8> {
    let mut header = migrate::wire::RecordHeader { kind, len: body.len() as u32, seq, check: 0 };
    header.check = header.check_of(header.seal(body));
    let mut out = header.to_bytes().to_vec();
    out.extend(body);
    out
}

/// The records of a stream, its header taken off.
pub fn records(stream: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut out = Vec::new();
    let mut rest = &stream[migrate::wire::STREAM_HEADER..];
    while let Some((header, behind)) = rest.split_first_chunk() {
        let (header, _) = migrate::wire::RecordHeader::from_bytes(header).unwrap();
        let (body, next) = behind.split_at(header.len as usize);
        assert_eq!(header.check, header.check_of(header.seal(body)));
        out.push((header.kind, body.to_vec()));
        rest = next;
    }
    assert!(rest.is_empty());
    out
}

/// Stream header and records, each a piece.
pub fn pieces(records: &[(u16, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut out = vec![migrate::wire::StreamHeader::OURS.to_bytes().to_vec()];
    out.extend(records.iter().enumerate().map(|(i, (kind, body))| record(i as u32, *kind, body)));
    out
}

/// A link that is fed by hand and takes everything.
#[derive(Default)]
pub struct Hand {
    pub input: VecDeque<u8>,
    pub output: Vec<u8>,
    pub closed: bool,
}

impl Link for Hand {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.input.len());
        for (slot, byte) in buf.iter_mut().zip(self.input.drain(..n)) {
            *slot = byte;
        }
        n
    }

    fn send(&mut self, data: &[u8]) -> usize {
        self.output.extend(data);
        data.len()
    }

    fn is_open(&self) -> bool {
        !self.closed
    }
}

/// A target that is fed by hand.
pub struct FedTarget {
    pub target: Target,
    pub vm: Coming,
    pub link: Hand,
    pub now: u64,
    pub events: Vec<TargetEvent>,
    pub outcome: Option<TargetOutcome>,
}

impl FedTarget {
    pub fn new() -> Self {
        Self {
            target: Target::new(target_params(), 0),
            vm: Coming::default(),
            link: Hand::default(),
            now: 0,
            events: Vec::new(),
            outcome: None,
        }
    }

    /// Polls until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            self.now += 1;
            match self.target.poll(self.now, &mut self.link, &mut self.vm) {
                TargetEvent::Waiting => return,
                TargetEvent::Working => {}
                TargetEvent::Finished(outcome) => self.outcome = Some(outcome),
                event => self.events.push(event),
            }
        }
        panic!("it does not settle");
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.link.input.extend(bytes);
        self.settle();
    }

    pub fn close(&mut self) {
        self.link.closed = true;
        self.settle();
    }

    /// Why it failed, as text.
    pub fn failure(&self) -> String {
        match &self.outcome {
            Some(TargetOutcome::Failed(reason) | TargetOutcome::Held(reason)) => reason.to_string(),
            other => panic!("{other:?}, events {:?}", self.events),
        }
    }
}
