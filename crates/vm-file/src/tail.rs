//! What stands behind the pages: the index, the state records, the digest.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use migrate::body::State as Wire;
use migrate::limits;
use vm_types::StateRecord;
use xxhash_rust::xxh64::xxh64;

use crate::Held;
use crate::error::FileError;
use crate::layout::{Meta, u32_at, u64_at};

const FILL: u32 = 1;
const DATA: u32 = 2;
/// Bytes before the items of a run.
const RUN: usize = 16;
/// Bytes before a record's CBOR.
const RECORD: usize = 16;
/// Bytes at the end.
const END: usize = 32;

/// The index and the records of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tail {
    pub(crate) pages: BTreeMap<u64, Held>,
    pub(crate) records: Vec<StateRecord>,
    pub(crate) digest: u64,
}

fn kind(held: Held) -> u32 {
    match held {
        Held::Fill(_) => FILL,
        Held::Data { .. } => DATA,
    }
}

fn index(pages: &BTreeMap<u64, Held>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = pages.iter().peekable();
    while let Some((&first, &held)) = rest.next() {
        let mut items = alloc::vec![held];
        let mut next = first.saturating_add(1);
        while items.len() < u32::MAX as usize
            && let Some((_, same)) = rest.next_if(|(gfn, same)| **gfn == next && kind(**same) == kind(held))
        {
            items.push(*same);
            next = next.saturating_add(1);
        }
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&(items.len() as u32).to_le_bytes());
        out.extend_from_slice(&kind(held).to_le_bytes());
        for item in items {
            match item {
                Held::Fill(word) => out.extend_from_slice(&word.to_le_bytes()),
                Held::Data { slot, seal } => {
                    out.extend_from_slice(&slot.to_le_bytes());
                    out.extend_from_slice(&seal.to_le_bytes());
                }
            }
        }
    }
    out
}

/// The bytes, and the digest in them.
pub(crate) fn encode(pages: &BTreeMap<u64, Held>, records: &[StateRecord], seed: u64) -> (Vec<u8>, u64) {
    let mut out = index(pages);
    let index_len = out.len() as u64;
    let index_seal = xxh64(&out, seed);
    for record in records {
        let cbor = migrate::body::encode(&Wire::from(record.clone()));
        out.extend_from_slice(&(cbor.len() as u64).to_le_bytes());
        out.extend_from_slice(&xxh64(&cbor, seed).to_le_bytes());
        out.extend_from_slice(&cbor);
    }
    let records_len = out.len() as u64 - index_len;
    for number in [index_len, records_len, index_seal] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let digest = xxh64(&out, seed);
    out.extend_from_slice(&digest.to_le_bytes());
    (out, digest)
}

/// Reads and checks a tail that begins at `offset` of the file.
pub(crate) fn decode(
    bytes: &[u8],
    offset: u64,
    seed: u64,
    meta: &Meta,
    data_pages: u64,
) -> Result<Tail, FileError> {
    let end = bytes.len().checked_sub(END).ok_or_else(|| FileError::altered("end of the file", offset))?;
    let end_at = offset + end as u64;
    let (index_len, records_len) = (u64_at(bytes, end), u64_at(bytes, end + 8));
    if index_len.checked_add(records_len) != Some(end as u64) {
        return Err(FileError::altered("end of the file", end_at));
    }
    let (index, records) = bytes.get(..end).unwrap_or_default().split_at(index_len as usize);
    if xxh64(index, seed) != u64_at(bytes, end + 16) {
        return Err(FileError::altered("index of pages", offset));
    }
    let records = records_of(records, offset + index_len, seed)?;
    let digest = u64_at(bytes, end + 24);
    if xxh64(bytes.get(..end + 24).unwrap_or_default(), seed) != digest {
        return Err(FileError::altered("digest", end_at));
    }
    Ok(Tail { pages: pages_of(index, offset, meta, data_pages)?, records, digest })
}

fn records_of(mut rest: &[u8], mut offset: u64, seed: u64) -> Result<Vec<StateRecord>, FileError> {
    let mut records = Vec::<StateRecord>::new();
    while !rest.is_empty() {
        let behind = || match records.last() {
            Some(last) => format!("state record behind {} {}", last.kind, last.instance),
            None => "first state record".to_string(),
        };
        let len = usize::try_from(u64_at(rest, 0)).unwrap_or(usize::MAX);
        let cbor = rest.get(RECORD..).and_then(|rest| rest.get(..len));
        let Some(cbor) = cbor.filter(|cbor| cbor.len() <= limits::MAX_STATE_BODY) else {
            return Err(FileError::altered(behind(), offset));
        };
        let wire = migrate::body::decode::<Wire>(migrate::wire::RecordType::State, cbor);
        if xxh64(cbor, seed) != u64_at(rest, 8) {
            let name = wire.map_or_else(|_| behind(), |w| format!("state record {} {}", w.kind, w.instance));
            return Err(FileError::altered(name, offset));
        }
        let malformed = |why: String| FileError::Malformed { what: "state record", offset, why };
        let wire = wire.map_err(|error| malformed(error.to_string()))?;
        if records.len() == limits::MAX_STATE_RECORDS {
            return Err(malformed(format!("more than {} of them", limits::MAX_STATE_RECORDS)));
        }
        records.push(wire.into());
        let used = RECORD + len;
        rest = rest.get(used..).unwrap_or_default();
        offset += used as u64;
    }
    Ok(records)
}

fn pages_of(
    index: &[u8],
    offset: u64,
    meta: &Meta,
    data_pages: u64,
) -> Result<BTreeMap<u64, Held>, FileError> {
    let mut pages = BTreeMap::new();
    let mut slots = BTreeSet::new();
    let mut at = 0;
    let mut next = 0;
    while at < index.len() {
        let malformed =
            |why: String| FileError::Malformed { what: "index of pages", offset: offset + at as u64, why };
        let (first, count, kind) = (u64_at(index, at), u32_at(index, at + 8), u32_at(index, at + 12));
        let item = match kind {
            FILL => 8,
            DATA => 12,
            other => return Err(malformed(format!("kind {other} of a run"))),
        };
        let items = (count as usize).checked_mul(item).and_then(|len| index.get(at + RUN..)?.get(..len));
        let Some(items) = items.filter(|_| count > 0) else {
            return Err(malformed(format!("run of {count} pages")));
        };
        if first < next || !meta.covers(first, u64::from(count)) {
            return Err(malformed(format!("{count} pages at frame {first:#x}")));
        }
        next = first + u64::from(count);
        for (gfn, item) in (first..).zip(items.chunks(item)) {
            let held = if kind == FILL {
                Held::Fill(u64_at(item, 0))
            } else {
                let slot = u32_at(item, 0);
                if u64::from(slot) >= data_pages || !slots.insert(slot) {
                    return Err(malformed(format!("page slot {slot} of frame {gfn:#x}")));
                }
                Held::Data { slot, seal: u64_at(item, 4) }
            };
            pages.insert(gfn, held);
        }
        at += RUN + items.len();
    }
    if slots.len() as u64 != data_pages {
        let why = format!("{} page slots of {data_pages} are named", slots.len());
        return Err(FileError::Malformed { what: "index of pages", offset, why });
    }
    Ok(pages)
}
