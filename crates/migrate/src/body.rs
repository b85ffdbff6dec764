//! The bodies of the control records: CBOR maps with numbered fields, so that a later version can add some.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use minicbor::decode::Error;
use minicbor::{Decode, Encode};
use vm_types::{Gpa, MemRange, PAGE_SIZE, StateRecord};

use crate::limits;
use crate::wire::{RecordType, WireError};

/// A VM's uuid, a migration's id, a host's boot id.
pub type Id = [u8; 16];

/// What becomes of the VM at its source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Purpose {
    /// It is the target's afterwards.
    #[n(0)]
    Move,
    /// It stays; the target keeps a copy that never runs as this VM. Only a target that stores takes one.
    #[n(1)]
    Copy,
}

/// HELLO: who speaks, and for which VM.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// Drawn for this attempt; hand-over messages repeat it.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub migration: Id,
    /// Of the VM, from its first start to its end.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub vm_uuid: Id,
    /// Drawn by the source when it started.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub boot: Id,
    /// Of the VM.
    #[n(3)]
    pub vm_name: String,
    /// Ends after the verdict: nothing is made, nothing is sent.
    #[n(4)]
    pub check_only: bool,
    /// Keys what both ends say when they ask each other later. A source of version 1 has none.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub secret: Option<Secret>,
    /// Absent is [`Purpose::Move`].
    #[n(6)]
    pub purpose: Option<Purpose>,
    /// TCP port on which the source listens for migrations, so that the target can ask it.
    #[n(7)]
    pub port: Option<u16>,
}

impl Hello {
    /// Whether the VM stays at its source.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        self.purpose == Some(Purpose::Copy)
    }
}

/// Bytes in a [`Secret`].
pub const SECRET_BYTES: usize = 32;
/// Drawn by the source for one migration.
pub type Secret = [u8; SECRET_BYTES];

/// FATE: what one end says of a migration, on a connection that is not the migration's own.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Fate {
    /// As in HELLO.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub migration: Id,
    /// Of the VM.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub vm_uuid: Id,
    /// Boot id of who speaks.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub from: Id,
    /// Boot id of who is spoken to, as it was in the migration.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub to: Id,
    /// 0 the source speaks, 1 the target.
    #[n(4)]
    pub role: u8,
    /// Number of the [`crate::handover::Word`].
    #[n(5)]
    pub word: u8,
    /// Nanoseconds since the state was exported, where the word is COMMIT.
    #[n(6)]
    pub exported_ns: u64,
    /// [`crate::handover::Deal`] says over what.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub mac: [u8; 32],
}

/// HELLO_ACK.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct HelloAck {
    /// As in HELLO.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub migration: Id,
    /// Drawn by the target when it started.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub boot: Id,
}

/// A run of guest RAM in pages of 4 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct PageRange {
    /// First page frame.
    #[n(0)]
    pub first: u64,
    /// Pages.
    #[n(1)]
    pub pages: u64,
}

/// SHAPE: the machine that the guest sees, its CPU apart.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Shape {
    /// Number of vCPUs.
    #[n(0)]
    pub vcpus: u32,
    /// RAM, ascending and without overlap.
    #[n(1)]
    pub ranges: Vec<PageRange>,
    /// Ticks a second of the guest's TSC.
    #[n(2)]
    pub tsc_hz: u64,
    /// The devices, as `kind` or `kind/version`; the target must know each.
    #[n(3)]
    pub devices: Vec<String>,
}

impl Shape {
    /// Bytes of state that a VM of this shape can need. More is refused before it is held: a host keeps it in its heap
    /// until all of it can be judged.
    pub(crate) fn most_state(&self) -> usize {
        let vcpus = (self.vcpus as usize).saturating_mul(limits::STATE_OF_VCPU);
        let devices = self.devices.len().saturating_mul(limits::STATE_OF_DEVICE);
        limits::STATE_OF_VM.saturating_add(vcpus).saturating_add(devices).min(limits::MAX_STATE_BYTES)
    }

    /// RAM as pages.
    #[must_use]
    pub fn page_ranges(ranges: &[MemRange]) -> Vec<PageRange> {
        ranges.iter().map(|r| PageRange { first: r.start.gfn(), pages: r.len / PAGE_SIZE }).collect()
    }

    /// RAM as bytes; for a checked shape.
    #[must_use]
    pub fn mem_ranges(&self) -> Vec<MemRange> {
        let bytes = |pages: u64| pages.saturating_mul(PAGE_SIZE);
        self.ranges.iter().map(|r| MemRange { start: Gpa(bytes(r.first)), len: bytes(r.pages) }).collect()
    }

    /// All pages of a checked shape.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.ranges.iter().fold(0, |sum: u64, r| sum.saturating_add(r.pages))
    }

    /// Whether `count` page frames from `first` on are RAM.
    #[must_use]
    pub fn covers(&self, first: u64, count: u64) -> bool {
        let Some(end) = first.checked_add(count) else { return false };
        let mut at = first;
        for range in &self.ranges {
            let range_end = range.first.saturating_add(range.pages);
            if at >= range.first && at < range_end {
                at = range_end;
            }
        }
        at >= end
    }

    /// The first page frame of RAM that is not below `gfn`.
    #[must_use]
    pub fn next_frame(&self, gfn: u64) -> Option<u64> {
        self.ranges.iter().find(|r| gfn < r.first.saturating_add(r.pages)).map(|r| gfn.max(r.first))
    }

    /// Checks every number against the constants.
    ///
    /// # Errors
    /// [`WireError::Body`] with the field and its value.
    pub fn validate(&self) -> Result<(), WireError> {
        let bad = |why: String| Err(WireError::Body { kind: RecordType::Shape, why });
        if self.vcpus == 0 || self.vcpus > limits::MAX_VCPUS {
            return bad(format!("{} vCPUs", self.vcpus));
        }
        if !limits::TSC_HZ.contains(&self.tsc_hz) {
            return bad(format!("TSC of {}", vm_types::Megahertz(self.tsc_hz)));
        }
        if self.ranges.is_empty() || self.ranges.len() > limits::MAX_RANGES {
            return bad(format!("{} memory ranges", self.ranges.len()));
        }
        let mut end = 0;
        let mut total = 0u64;
        for r in &self.ranges {
            if r.pages == 0 || r.pages > limits::MAX_PAGES || r.first > limits::MAX_GFN - r.pages {
                return bad(format!("memory range of {} pages at frame {:#x}", r.pages, r.first));
            }
            if r.first < end {
                return bad(format!("memory range at frame {:#x} begins before {end:#x}", r.first));
            }
            end = r.first + r.pages;
            total += r.pages;
        }
        if total > limits::MAX_PAGES {
            return bad(format!("{total} pages, at most {} are allowed", limits::MAX_PAGES));
        }
        if self.devices.len() > limits::MAX_DEVICES {
            return bad(format!("{} devices", self.devices.len()));
        }
        self.devices.iter().try_for_each(|name| check_name(RecordType::Shape, "device name", name))
    }
}

/// VERDICT.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Verdict {
    /// Why the target does not take the VM; absent where it does.
    #[n(0)]
    pub refused: Option<String>,
    /// What the operator should know before the VM comes; it is taken all the same.
    #[n(1)]
    pub warning: Option<String>,
    /// That of HELLO where it is not [`Purpose::Move`]: without it the target has not understood, and would take the VM.
    #[n(2)]
    pub purpose: Option<Purpose>,
    /// Which files of ORIGIN the source is to send, by number, ascending; absent where there was no ORIGIN, or where the
    /// target knows none.
    #[n(3)]
    pub files: Option<Vec<u32>>,
}

/// ROUND_END.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct RoundEnd {
    /// From 1.
    #[n(0)]
    pub round: u32,
    /// Pages in this round.
    #[n(1)]
    pub pages: u64,
    /// Pages known to be dirty at its end.
    #[n(2)]
    pub dirty: u64,
}

/// STATE: a [`StateRecord`] on the wire.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct State {
    /// What it is.
    #[n(0)]
    pub kind: String,
    /// Which of several.
    #[n(1)]
    pub instance: u16,
    /// Version of the body's schema.
    #[n(2)]
    pub version: u16,
    /// The device's own CBOR.
    #[cbor(n(3), encode_with = "minicbor::bytes::encode", decode_with = "decode_bytes")]
    pub body: Vec<u8>,
}

/// Bytes whose number the peer chooses: where there is no memory for them that is the end of its migration, not of this
/// host.
fn decode_bytes<C>(decoder: &mut minicbor::Decoder<'_>, _: &mut C) -> Result<Vec<u8>, Error> {
    let bytes = decoder.bytes()?;
    copied(bytes).ok_or_else(|| Error::message("no memory for it"))
}

/// A copy of bytes that have come; none where there is no memory for it.
pub(crate) fn copied(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).ok()?;
    copy.extend_from_slice(bytes);
    Some(copy)
}

impl From<StateRecord> for State {
    fn from(r: StateRecord) -> Self {
        Self { kind: r.kind, instance: r.instance, version: r.version, body: r.body }
    }
}

impl From<State> for StateRecord {
    fn from(s: State) -> Self {
        Self { kind: s.kind, instance: s.instance, version: s.version, body: s.body }
    }
}

/// STATE_END and READY: what was sent, what is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Holding {
    /// As in HELLO.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub migration: Id,
    /// Pages, each as often as it was sent.
    #[n(1)]
    pub pages: u64,
    /// Of them zero pages.
    #[n(2)]
    pub zero: u64,
    /// Of them fill pages, zero pages not counted.
    #[n(3)]
    pub fill: u64,
    /// MEMORY records.
    #[n(4)]
    pub memory_records: u64,
    /// STATE records.
    #[n(5)]
    pub state_records: u64,
    /// Chain over the seals of all MEMORY and STATE records.
    #[n(6)]
    pub digest: u64,
    /// Digest of the whole RAM, where the source asks for it.
    #[n(7)]
    pub ram: Option<u64>,
}

/// COMMIT.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Commit {
    /// As in HELLO.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub migration: Id,
    /// Nanoseconds from the guest's stop to this record, on the source's clock.
    #[n(1)]
    pub paused_ns: u64,
    /// Nanoseconds from the export of the state, and so of the guest's TSC, to this record.
    #[n(2)]
    pub exported_ns: u64,
    /// Half a round trip, measured with HELLO.
    #[n(3)]
    pub transit_ns: u64,
}

/// RUNNING.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Running {
    /// As in HELLO.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub migration: Id,
}

/// ABORT.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Abort {
    /// Why.
    #[n(0)]
    pub reason: String,
}

/// The CBOR of a body.
#[must_use]
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing to a Vec cannot fail.
    let _ = minicbor::encode(value, &mut out);
    out
}

/// Reads a body: one CBOR item and nothing behind it.
///
/// # Errors
/// [`WireError::Body`] in the decoder's words.
pub fn decode<'b, T: Decode<'b, ()>>(kind: RecordType, body: &'b [u8]) -> Result<T, WireError> {
    let mut decoder = minicbor::Decoder::new(body);
    let value = decoder.decode().map_err(|e| WireError::body(kind, e.to_string()))?;
    if decoder.position() != body.len() {
        return Err(WireError::body(
            kind,
            format!("{} bytes behind its end", body.len() - decoder.position()),
        ));
    }
    Ok(value)
}

/// Names are 1 to [`limits::MAX_NAME`] printable ASCII characters without space.
///
/// # Errors
/// [`WireError::Body`].
pub fn check_name(kind: RecordType, what: &str, name: &str) -> Result<(), WireError> {
    if name.is_empty() || name.len() > limits::MAX_NAME || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(WireError::body(
            kind,
            format!("{what} {:?} is not a name", printable(name, limits::MAX_NAME)),
        ));
    }
    Ok(())
}

/// A text of the peer, fit for a console: cut to `max` bytes, anything but printable characters replaced.
#[must_use]
pub fn printable(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.chars().map(|c| if c.is_control() { '?' } else { c }) {
        if out.len() + c.len_utf8() > max {
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn shape(ranges: &[(u64, u64)]) -> Shape {
        let ranges = ranges.iter().map(|&(first, pages)| PageRange { first, pages }).collect();
        Shape { vcpus: 1, ranges, tsc_hz: 20_000_000, devices: vec!["uart".into()] }
    }

    #[test]
    fn covers_knows_the_hole() {
        let s = shape(&[(0, 0xa0), (0x100, 0x10), (0x110, 0x10)]);
        assert!(s.covers(0, 0xa0) && s.covers(0x100, 0x20) && s.covers(0x9f, 1));
        assert!(!s.covers(0x9f, 2) && !s.covers(0xa0, 1) && !s.covers(0x11f, 2) && !s.covers(u64::MAX, 2));
        assert_eq!(s.next_frame(0xa0), Some(0x100));
        assert_eq!(s.next_frame(0x11f), Some(0x11f));
        assert_eq!(s.next_frame(0x120), None);
    }

    #[test]
    fn bad_shapes_are_refused() {
        assert_eq!(shape(&[(0, 16), (16, 1)]).validate(), Ok(()));
        for ranges in [
            &[][..],
            &[(0, 0)],
            &[(5, 3), (0, 2)],
            &[(0, 3), (2, 2)],
            &[(u64::MAX, 2)],
            &[(limits::MAX_GFN, 1)],
            &[(0, limits::MAX_PAGES), (limits::MAX_PAGES, 1)],
        ] {
            assert!(shape(ranges).validate().is_err(), "{ranges:?}");
        }
        assert!(Shape { vcpus: 0, ..shape(&[(0, 1)]) }.validate().is_err());
        assert!(Shape { tsc_hz: 0, ..shape(&[(0, 1)]) }.validate().is_err());
        assert!(Shape { devices: vec!["a b".into()], ..shape(&[(0, 1)]) }.validate().is_err());
    }

    #[test]
    fn unknown_fields_are_skipped_and_trailing_bytes_refused() {
        let mut body = Vec::new();
        let mut e = minicbor::Encoder::new(&mut body);
        e.map(2).unwrap().u8(0).unwrap().str("no").unwrap().u8(99).unwrap().array(1).unwrap().u8(1).unwrap();
        let verdict: Verdict = decode(RecordType::Verdict, &body).unwrap();
        assert_eq!(verdict.refused.as_deref(), Some("no"));
        body.push(0);
        assert!(decode::<Verdict>(RecordType::Verdict, &body).is_err());
    }

    #[test]
    fn texts_are_made_harmless() {
        assert_eq!(printable("a\x1b[2Jb\n", 1024), "a?[2Jb?");
        assert_eq!(printable("ééé", 5), "éé");
    }
}
