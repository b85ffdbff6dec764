//! What a server says of an export.

use crate::trouble::Trouble;

const HAS_FLAGS: u16 = 1;
const READ_ONLY: u16 = 1 << 1;
const FLUSH: u16 = 1 << 2;
const FUA: u16 = 1 << 3;
const TRIM: u16 = 1 << 5;
const WRITE_ZEROES: u16 = 1 << 6;
/// The flags that the client goes by.
const USED: u16 = READ_ONLY | FLUSH | FUA | TRIM | WRITE_ZEROES;

/// The least block for a guest, in bytes; also what a client keeps to where the server says nothing.
pub const SECTOR: u32 = 512;
/// Most bytes of one read or write where the server says nothing; more is never sent (NBD proto.md, "Size constraints").
pub const MAX_PAYLOAD: u32 = 32 << 20;

/// Block sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blocks {
    /// Offsets and lengths are multiples of it.
    pub min: u32,
    /// Multiples of it are done without reading first.
    pub preferred: u32,
    /// Most bytes of one request.
    pub max: u32,
}

impl Default for Blocks {
    fn default() -> Self {
        Self { min: 1, preferred: 4096, max: MAX_PAYLOAD }
    }
}

impl Blocks {
    /// Refuses what the protocol does not have.
    fn check(self) -> Result<(), Trouble> {
        let Self { min, preferred, max } = self;
        let fits = min.is_power_of_two()
            && min <= 1 << 16
            && preferred.is_power_of_two()
            && preferred >= min.max(SECTOR)
            && max >= preferred;
        if fits { Ok(()) } else { Err(Trouble::Blocks { min, preferred, max }) }
    }
}

/// An export as its server has described it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Export {
    /// Bytes; a multiple of [`Self::block`], not 0.
    pub size: u64,
    /// Transmission flags as they came.
    pub flags: u16,
    /// Block sizes: the server's, or those that hold where it says none.
    pub blocks: Blocks,
}

impl Export {
    /// Checks what came.
    pub(crate) fn new(size: u64, flags: u16, blocks: Option<Blocks>) -> Result<Self, Trouble> {
        let export = Self { size, flags, blocks: blocks.unwrap_or_default() };
        export.blocks.check()?;
        if flags & HAS_FLAGS == 0 {
            return Err(Trouble::Flags(flags));
        }
        if size == 0 || i64::try_from(size).is_err() {
            return Err(Trouble::Size(size));
        }
        let block = export.block();
        if !size.is_multiple_of(u64::from(block)) {
            return Err(Trouble::SizeOfBlocks { size, block });
        }
        Ok(export)
    }

    /// Offsets and lengths of requests are multiples of it, in bytes: 512 or more.
    #[must_use]
    pub fn block(&self) -> u32 {
        self.blocks.min.max(SECTOR)
    }

    /// Most bytes of one request on the wire: whole preferred blocks.
    pub(crate) fn most(&self) -> u32 {
        let max = self.blocks.max.min(MAX_PAYLOAD);
        // Some prefer blocks that are larger than what is sent at once.
        let unit = if self.blocks.preferred <= max { self.blocks.preferred } else { self.block() };
        (max - max % unit).max(self.block())
    }

    /// Writes are refused.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.flags & READ_ONLY != 0
    }

    /// A flush is understood. Without it nothing says what is durable.
    #[must_use]
    pub fn flush(&self) -> bool {
        self.flags & FLUSH != 0
    }

    /// A single write can be made durable. Without it the client flushes behind such a write.
    #[must_use]
    pub fn fua(&self) -> bool {
        self.flags & FUA != 0
    }

    /// Trim is understood.
    #[must_use]
    pub fn trim(&self) -> bool {
        self.flags & TRIM != 0
    }

    /// Zeros can be written without sending them.
    #[must_use]
    pub fn write_zeroes(&self) -> bool {
        self.flags & WRITE_ZEROES != 0
    }

    /// Whether requests made for `self` can be sent to what the server has `now`.
    pub(crate) fn check_same(&self, now: &Self) -> Result<(), Trouble> {
        let [before, after] = [self, now].map(|export| {
            [
                ("size", export.size),
                ("flags", u64::from(export.flags & USED)),
                ("block", u64::from(export.block())),
            ]
        });
        match before.into_iter().zip(after).find(|(before, after)| before != after) {
            Some(((what, was), (_, is))) => Err(Trouble::Changed { what, was, is }),
            None => Ok(()),
        }
    }
}
