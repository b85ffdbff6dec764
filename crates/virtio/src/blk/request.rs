//! What a driver asks of a disk (5.2.6).

use super::{DISCARD, Disk, FLUSH, WRITE_ZEROES};
use crate::broken::Broken;
use crate::bytes::le;
use crate::chain::Chain;
use virtio_spec::blk::{S, T};
use vm_types::GuestMemory;

/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;
/// Bytes of a request before its data: type, nothing, sector.
pub(super) const HEAD: u32 = 16;
/// Bytes of a range to be discarded or zeroed: sector, sectors, flags.
const RANGE: u32 = 16;
const UNMAP: u64 = 1;

/// What is to be done, all of it inside the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// Read `len` bytes at byte `at`: [`super::Blk::store`].
    Read {
        /// First byte.
        at: u64,
        /// Bytes, of whole sectors.
        len: u32,
    },
    /// Write them: [`super::Blk::fetch`].
    Write {
        /// First byte.
        at: u64,
        /// Bytes, of whole sectors.
        len: u32,
        /// They are to be there to stay when this has ended.
        through: bool,
    },
    /// What was written before this was asked is to be there to stay.
    Flush,
    /// What these bytes are does not matter any more.
    Discard {
        /// First byte.
        at: u64,
        /// Bytes.
        len: u64,
    },
    /// These bytes are to be zero.
    Zeroes {
        /// First byte.
        at: u64,
        /// Bytes.
        len: u64,
        /// They need no room of their own.
        unmap: bool,
        /// They are to be there to stay when this has ended.
        through: bool,
    },
}

/// What becomes of a request.
pub(super) enum Request {
    /// The disk is asked.
    Order(What),
    /// The identity is asked for.
    Id,
    /// It is answered at once.
    Refused(S),
}

/// Reads the request in `chain`.
pub(super) fn read(
    chain: &Chain,
    memory: &dyn GuestMemory,
    disk: &Disk,
    features: u64,
) -> Result<Request, Broken> {
    let mut head = [0; HEAD as usize];
    if chain.read(memory, 0, &mut head)? != head.len() {
        return Err(Broken::Request("a request to a disk of less than 16 bytes"));
    }
    let Some(room) = chain.writable_len().checked_sub(1) else {
        return Err(Broken::Request("a request to a disk that has no room for its status"));
    };
    let data = chain.readable_len() - HEAD;
    let sector = le::<8>(&head, 8);
    let through = features & FLUSH == 0;
    Ok(match T::try_from(le::<4>(&head, 0) as u32) {
        Ok(T::In) => match place(disk, sector, room) {
            Some(at) => Request::Order(What::Read { at, len: room }),
            None => Request::Refused(S::Ioerr),
        },
        Ok(T::Out) => match place(disk, sector, data) {
            Some(at) if !disk.read_only => Request::Order(What::Write { at, len: data, through }),
            _ => Request::Refused(S::Ioerr),
        },
        Ok(T::Flush) if features & FLUSH != 0 => Request::Order(What::Flush),
        Ok(T::GetId) => Request::Id,
        Ok(T::Discard) if features & DISCARD != 0 => range(chain, memory, disk, false, through)?,
        Ok(T::WriteZeroes) if features & WRITE_ZEROES != 0 => range(chain, memory, disk, true, through)?,
        _ => Request::Refused(S::Unsupp),
    })
}

/// The first byte of `len` bytes at a sector, where they are whole sectors of the disk.
fn place(disk: &Disk, sector: u64, len: u32) -> Option<u64> {
    let len = u64::from(len);
    let whole = len != 0 && len.is_multiple_of(SECTOR);
    let end = sector.checked_add(len / SECTOR)?;
    (whole && end <= disk.sectors).then_some(sector.checked_mul(SECTOR)?)
}

/// One range to be discarded or zeroed: only one is offered.
fn range(
    chain: &Chain,
    memory: &dyn GuestMemory,
    disk: &Disk,
    zeroes: bool,
    through: bool,
) -> Result<Request, Broken> {
    let mut range = [0; RANGE as usize];
    let read = chain.read(memory, HEAD, &mut range)?;
    if read != range.len() || chain.readable_len() != HEAD + RANGE || disk.read_only {
        return Ok(Request::Refused(S::Ioerr));
    }
    let (sector, sectors, flags) = (le::<8>(&range, 0), le::<4>(&range, 8), le::<4>(&range, 12));
    // No flag means anything to what is discarded (5.2.6.2).
    if flags & !(if zeroes { UNMAP } else { 0 }) != 0 {
        return Ok(Request::Refused(S::Unsupp));
    }
    let inside = sectors != 0 && sector.checked_add(sectors).is_some_and(|end| end <= disk.sectors);
    let Some(at) = sector.checked_mul(SECTOR).filter(|_| inside) else {
        return Ok(Request::Refused(S::Ioerr));
    };
    let len = sectors * SECTOR;
    Ok(Request::Order(if zeroes {
        What::Zeroes { at, len, unmap: flags & UNMAP != 0, through }
    } else {
        What::Discard { at, len }
    }))
}
