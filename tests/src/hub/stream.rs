//! Looks into a migration stream on its way over the hub, so that a cable can be cut at a chosen record.

use super::Frame;

/// Port on which hosts take migrations.
pub const PORT: u16 = 4444;

/// Record types of the stream that tests wait for (docs/migration.md).
pub mod record {
    /// Source: runs of pages.
    pub const MEMORY: u16 = 0x0006;
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

    fn push(&mut self, bytes: &[u8]) -> Vec<u16> {
        self.buffer.extend(bytes);
        let mut kinds = Vec::new();
        loop {
            let skip = self.rest.min(self.buffer.len());
            self.buffer.drain(..skip);
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
            kinds.push(u16::from_le_bytes([header[0], header[1]]));
            self.rest = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
