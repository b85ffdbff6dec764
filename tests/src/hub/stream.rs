//! Looks into a migration stream on its way over the hub, so that a cable can be cut at a chosen record.

use super::Frame;

/// Port on which hosts take migrations.
pub const PORT: u16 = 4444;

/// Record types of the stream that tests wait for (docs/migration.md).
pub mod record {
    /// Source: the VM's CPU policy.
    pub const POLICY: u16 = 0x0003;
    /// Source: runs of pages.
    pub const MEMORY: u16 = 0x0006;
    /// Source: a round is over.
    pub const ROUND_END: u16 = 0x0007;
    /// Source: state of one vCPU or device.
    pub const STATE: u16 = 0x0008;
    /// Target: all is held and verified.
    pub const READY: u16 = 0x000a;
    /// Source: the VM is the target's.
    pub const COMMIT: u16 = 0x000b;
    /// Target: it runs.
    pub const RUNNING: u16 = 0x000c;
}

const HEADER: usize = 16;
/// How either end of a link begins.
const PREFACE: &[u8] = b"FLEXLNK";

/// The bytes of one direction of a connection, put together from its segments.
#[derive(Clone, Debug, Default)]
pub struct Bytes {
    next: Option<u32>,
}

/// What a segment brought.
enum Part<'a> {
    /// A new connection begins.
    Opens,
    /// So many bytes that follow those before.
    Fresh(&'a [u8]),
    /// Nothing new.
    Nothing,
}

impl Bytes {
    fn take<'a>(&mut self, frame: Frame<'a>) -> Part<'a> {
        let Some(segment) = frame.tcp() else { return Part::Nothing };
        if segment.opens {
            self.next = Some(segment.sequence.wrapping_add(1));
            return Part::Opens;
        }
        let Some(next) = self.next.filter(|_| !segment.payload.is_empty()) else { return Part::Nothing };
        // What comes again is passed over, as is the byte of a keep-alive; with a gap nothing more can be said.
        let known = next.wrapping_sub(segment.sequence) as usize;
        let Some(fresh) = segment.payload.get(known..) else { return Part::Nothing };
        self.next = Some(next.wrapping_add(fresh.len() as u32));
        Part::Fresh(fresh)
    }

    /// Takes a frame of this direction and adds its new bytes to `all`, which a new connection empties.
    pub fn collect(&mut self, frame: Frame<'_>, all: &mut Vec<u8>) {
        match self.take(frame) {
            Part::Opens => all.clear(),
            Part::Fresh(bytes) => all.extend(bytes),
            Part::Nothing => {}
        }
    }
}

/// The records in one direction of a connection that is not encrypted; a new connection begins anew.
#[derive(Clone, Debug, Default)]
pub struct Records {
    bytes: Bytes,
    buffer: Vec<u8>,
    opened: bool,
    /// Bytes of a record's body that are still to come.
    rest: usize,
    /// The body of the last small record, as far as it has come.
    body: Vec<u8>,
    wants_body: bool,
}

impl Records {
    /// Takes a frame of this direction; gives back the types of the records whose headers became complete with it.
    pub fn take(&mut self, frame: Frame<'_>) -> Vec<u16> {
        match self.bytes.take(frame) {
            Part::Opens => *self = Self { bytes: self.bytes.clone(), ..Self::default() },
            Part::Fresh(bytes) => return self.push(bytes),
            Part::Nothing => {}
        }
        Vec::new()
    }

    /// Pages that were dirty at the end of the last round, once that has passed.
    pub fn dirty(&self) -> Option<u64> {
        // a map of three: round, pages, dirty
        let mut rest = self.body.strip_prefix(&[0xa3])?;
        let mut last = None;
        for _ in 0..6 {
            let (&head, behind) = rest.split_first()?;
            let (value, bytes) = match head {
                0..24 => (u64::from(head), 0),
                0x18..=0x1b => {
                    let bytes = 1 << (head - 0x18);
                    let value = behind.get(..bytes)?;
                    (value.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)), bytes)
                }
                _ => return None,
            };
            last = Some(value);
            rest = behind.get(bytes..)?;
        }
        last
    }

    fn push(&mut self, bytes: &[u8]) -> Vec<u16> {
        self.buffer.extend(bytes);
        let mut kinds = Vec::new();
        loop {
            let skip = self.rest.min(self.buffer.len());
            let body: Vec<u8> = self.buffer.drain(..skip).collect();
            if self.wants_body {
                self.body.extend(body);
            }
            self.rest -= skip;
            if self.rest > 0 || self.buffer.len() < HEADER {
                return kinds;
            }
            let header: Vec<u8> = self.buffer.drain(..HEADER).collect();
            if !self.opened {
                // an insecure link's preface, then the stream's own header: both as long as a record's
                self.opened = !header.starts_with(PREFACE);
                continue;
            }
            let kind = u16::from_le_bytes([header[0], header[1]]);
            kinds.push(kind);
            self.rest = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
            self.wants_body = kind == record::ROUND_END;
            if self.wants_body {
                self.body.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dirty_pages_are_read_from_the_end_of_a_round() {
        let body = [0xa3, 0, 2, 1, 0x19, 1, 0, 2, 0x18, 30];
        let header =
            [&record::ROUND_END.to_le_bytes()[..], &[0, 0, body.len() as u8, 0, 0, 0], &[0; 8]].concat();
        let stream = [&[0; HEADER][..], &header, &body].concat();
        for cut in 0..=stream.len() {
            let mut records = Records::default();
            records.push(&stream[..cut]);
            assert_eq!(records.dirty(), (cut == stream.len()).then_some(30), "{cut} bytes");
            records.push(&stream[cut..]);
            assert_eq!(records.dirty(), Some(30));
        }
    }

    #[test]
    fn records_are_found_however_the_bytes_are_cut() {
        let mut stream = vec![0; HEADER];
        for (kind, length) in [(1_u16, 5_u32), (record::MEMORY, 40), (record::COMMIT, 0)] {
            stream.extend(kind.to_le_bytes());
            stream.extend([0, 0]);
            stream.extend(length.to_le_bytes());
            stream.extend([0; 8]);
            stream.extend(vec![0xff; length as usize]);
        }
        let linked = [b"FLEXLNK\x1a\x01\0\x01\0\0\0\0\0".as_slice(), &stream].concat();
        for (step, stream) in (1..stream.len()).flat_map(|step| [(step, &stream), (step, &linked)]) {
            let mut records = Records::default();
            let kinds: Vec<u16> = stream.chunks(step).flat_map(|chunk| records.push(chunk)).collect();
            assert_eq!(kinds, [1, record::MEMORY, record::COMMIT], "{step} bytes at a time");
        }
    }
}
