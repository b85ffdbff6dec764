//! Header and state slot. Numbers are little-endian.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use migrate::handover::{Deal, Role};
use migrate::{Id, Origin, PAGE_BYTES, Shape, limits};
use minicbor::{Decode, Encode};
use xxhash_rust::xxh64::xxh64;

use crate::error::{FileError, at};
use crate::state::State;
use crate::{OLDEST, Storage, VERSION};

/// The first eight bytes of a file of a VM.
pub const MAGIC: [u8; 8] = *b"FLEXVMF\x1a";

/// Bytes of the header before its CBOR, and of the state slot: a sector each, which a disk writes wholly or not at all.
pub(crate) const SECTOR: usize = 512;
/// Where the state slot is.
pub(crate) const SLOT_AT: u64 = SECTOR as u64;
/// Where the header's CBOR is.
pub(crate) const META_AT: u64 = 2 * SECTOR as u64;
/// Bytes of the header's CBOR.
const MAX_META: usize =
    limits::MAX_POLICY_BODY + limits::MAX_COMPANION_BODY + limits::MAX_ORIGIN_BODY + 16 * 1024;

/// Page frames from here on hold the files of the origin, 2^28 for each: no RAM reaches so far.
pub(crate) const FILES_FROM: u64 = limits::MAX_GFN;
const FRAMES_EACH: u64 = limits::MAX_FILE_BYTES / PAGE_BYTES as u64;

/// Which VM it is.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Meta {
    /// Of the VM.
    #[n(0)]
    pub name: String,
    /// Of the VM.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub uuid: Id,
    /// The machine that the guest sees.
    #[n(2)]
    pub shape: Shape,
    /// The CPU policy: bytes of the `cpu-policy` crate.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub policy: Vec<u8>,
    /// What the VM takes along for the operator: bytes of the `cpu-policy` crate.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub companion: Vec<u8>,
    /// The migration that made the file.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub migration: Id,
    /// What the VM was made from. Files of it that have a digest are in the file.
    #[n(6)]
    pub origin: Option<Origin>,
}

impl Meta {
    fn version(&self) -> u16 {
        if self.origin.is_some() { VERSION } else { OLDEST }
    }

    fn check(&self) -> Result<(), String> {
        self.shape.validate().map_err(|error| error.to_string())?;
        self.origin.as_ref().map_or(Ok(()), |origin| origin.validate().map_err(|error| error.to_string()))
    }

    /// Whether page frames are RAM, or belong to one file of the origin.
    pub(crate) fn covers(&self, first: u64, count: u64) -> bool {
        if first < FILES_FROM {
            return self.shape.covers(first, count);
        }
        let at = first - FILES_FROM;
        let number = u32::try_from(at / FRAMES_EACH).unwrap_or(u32::MAX);
        let end = (at % FRAMES_EACH).checked_add(count);
        self.file(number).is_some_and(|len| end.is_some_and(|end| end <= len.div_ceil(PAGE_BYTES as u64)))
    }

    /// The length of a file whose bytes are kept under this number.
    pub(crate) fn file(&self, number: u32) -> Option<u64> {
        let origin = self.origin.as_ref()?;
        let file = origin.files.get(number as usize)?;
        (file.can_come() && origin.same_as(number) == number).then_some(file.len)
    }
}

/// The page frame that holds this byte of a file.
pub(crate) fn frame_of(number: u32, offset: u64) -> u64 {
    FILES_FROM + u64::from(number) * FRAMES_EACH + offset / PAGE_BYTES as u64
}

/// The state slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub(crate) state: State,
    /// Pages of data in the file.
    pub(crate) data_pages: u64,
    /// Bytes behind them.
    pub(crate) tail_len: u64,
    /// Over the header and the tail, which holds the seals of all pages and records.
    pub(crate) digest: u64,
    /// Of the last hand-over.
    pub(crate) deal: Option<Deal>,
}

/// Bytes of a slot that its seal covers.
const SLOT_SEALED: usize = SECTOR - 8;

impl Slot {
    fn to_bytes(&self, seed: u64) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        let role = self.deal.as_ref().map_or(0, |deal| match deal.role {
            Role::Source => 1u32,
            Role::Target => 2,
        });
        let mut fields = Vec::new();
        fields.extend_from_slice(&(self.state as u32).to_le_bytes());
        fields.extend_from_slice(&role.to_le_bytes());
        for number in [self.data_pages, self.tail_len, self.digest] {
            fields.extend_from_slice(&number.to_le_bytes());
        }
        if let Some(deal) = &self.deal {
            for part in [&deal.migration[..], &deal.here, &deal.there, &deal.secret] {
                fields.extend_from_slice(part);
            }
        }
        bytes.iter_mut().zip(&fields).for_each(|(to, from)| *to = *from);
        let seal = xxh64(bytes.get(..SLOT_SEALED).unwrap_or_default(), seed);
        if let Some(end) = bytes.last_chunk_mut() {
            *end = seal.to_le_bytes();
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; SECTOR], seed: u64, uuid: Id) -> Result<Self, FileError> {
        let sealed = bytes.get(..SLOT_SEALED).unwrap_or_default();
        if u64_at(bytes, SLOT_SEALED) != xxh64(sealed, seed) {
            return Err(FileError::altered("state slot", SLOT_AT));
        }
        let malformed = |why: String| FileError::Malformed { what: "state slot", offset: SLOT_AT, why };
        let number = u32_at(bytes, 0);
        let state = State::from_number(number).ok_or_else(|| malformed(alloc::format!("state {number}")))?;
        let role = match u32_at(bytes, 4) {
            0 => None,
            1 => Some(Role::Source),
            2 => Some(Role::Target),
            other => return Err(malformed(alloc::format!("role {other}"))),
        };
        let deal = role.map(|role| Deal {
            role,
            migration: array_at(bytes, 32),
            vm_uuid: uuid,
            here: array_at(bytes, 48),
            there: array_at(bytes, 64),
            secret: array_at(bytes, 80),
        });
        Ok(Self {
            state,
            data_pages: u64_at(bytes, 8),
            tail_len: u64_at(bytes, 16),
            digest: u64_at(bytes, 24),
            deal,
        })
    }

    pub(crate) fn write(&self, storage: &mut impl Storage, seed: u64) -> Result<(), FileError> {
        at(SLOT_AT, storage.write_at(SLOT_AT, &self.to_bytes(seed)))?;
        at(SLOT_AT, storage.sync())
    }

    pub(crate) fn read(storage: &mut impl Storage, header: &Header) -> Result<Self, FileError> {
        let mut bytes = [0; SECTOR];
        at(SLOT_AT, storage.read_at(SLOT_AT, &mut bytes))?;
        Self::from_bytes(&bytes, header.seal, header.meta.uuid)
    }
}

/// The header as it is in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) meta: Meta,
    /// Over it all; seeds the other seals, so that parts of two files do not mix.
    pub(crate) seal: u64,
    /// Where the CBOR ends.
    pub(crate) meta_end: u64,
    /// Where the pages begin.
    pub(crate) pages_at: u64,
}

impl Header {
    /// Writes a header.
    pub(crate) fn write(storage: &mut impl Storage, meta: &Meta) -> Result<Self, FileError> {
        let malformed = |why: String| FileError::Malformed { what: "header", offset: META_AT, why };
        meta.check().map_err(malformed)?;
        let cbor = migrate::body::encode(meta);
        if cbor.len() > MAX_META {
            return Err(FileError::TooLarge(alloc::format!("header of {} bytes", cbor.len())));
        }
        let mut sector = [0; SECTOR];
        let front = [&MAGIC[..], &meta.version().to_le_bytes(), &[0, 0], &(cbor.len() as u32).to_le_bytes()];
        sector.iter_mut().zip(front.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        let seal = header_seal(&sector, &cbor);
        if let Some(to) = sector.get_mut(16..24) {
            to.copy_from_slice(&seal.to_le_bytes());
        }
        at(0, storage.write_at(0, &sector))?;
        at(META_AT, storage.write_at(META_AT, &cbor))?;
        let meta_end = META_AT + cbor.len() as u64;
        Ok(Self { meta: meta.clone(), seal, meta_end, pages_at: pages_at(cbor.len()) })
    }

    /// Reads and checks a header. `size` of the file.
    pub(crate) fn read(storage: &mut impl Storage, size: u64) -> Result<Self, FileError> {
        let cut = |what, want| FileError::Cut { what, have: size, want };
        let mut sector = [0; SECTOR];
        let there = sector.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        at(0, storage.read_at(0, sector.get_mut(..there).unwrap_or_default()))?;
        let magic: [u8; 8] = array_at(&sector, 0);
        if magic != MAGIC {
            return Err(
                if there < MAGIC.len() && MAGIC.starts_with(sector.get(..there).unwrap_or_default()) {
                    cut("header", META_AT)
                } else {
                    FileError::NotOurs(magic)
                },
            );
        }
        if size < META_AT {
            return Err(cut("header", META_AT));
        }
        let [low, high] = array_at(&sector, 8);
        let version = u16::from_le_bytes([low, high]);
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(FileError::Version(version));
        }
        let len = u32_at(&sector, 12) as usize;
        if len > MAX_META {
            return Err(FileError::altered("header", 0));
        }
        let pages_at = pages_at(len);
        if size < META_AT + len as u64 {
            return Err(cut("header", META_AT + len as u64));
        }
        let mut cbor = alloc::vec![0; len];
        at(META_AT, storage.read_at(META_AT, &mut cbor))?;
        let seal = u64_at(&sector, 16);
        let mut plain = sector;
        plain.iter_mut().skip(16).take(8).for_each(|byte| *byte = 0);
        if header_seal(&plain, &cbor) != seal {
            return Err(FileError::altered("header", 0));
        }
        let malformed = |why| FileError::Malformed { what: "header", offset: META_AT, why };
        let meta: Meta = vm_types::decode_strict(&cbor).map_err(malformed)?;
        meta.check().map_err(malformed)?;
        if meta.version() != version {
            return Err(malformed(alloc::format!("it is one of version {}", meta.version())));
        }
        Ok(Self { meta, seal, meta_end: META_AT + len as u64, pages_at })
    }
}

fn header_seal(sector: &[u8; SECTOR], cbor: &[u8]) -> u64 {
    xxh64(cbor, xxh64(sector, 0))
}

fn pages_at(cbor: usize) -> u64 {
    (META_AT + cbor as u64).next_multiple_of(PAGE_BYTES as u64)
}

/// Zero where `bytes` end before.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    bytes.get(from..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

pub(crate) fn u64_at(bytes: &[u8], from: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, from))
}

pub(crate) fn u32_at(bytes: &[u8], from: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, from))
}
