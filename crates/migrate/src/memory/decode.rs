//! Pages out of a memory record.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use super::{Content, Run, delta, kind, lz4, varint};
use crate::limits::MAX_GFN;
use crate::page::PAGE_BYTES;
use crate::reason::Reason;
use crate::vm::TargetMemory;
use crate::wire::{RecordType, WireError};

/// Where a reader of a memory record stands. It holds no borrow, so that a record can be put in place over
/// several polls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Runs {
    at: usize,
    end: u64,
}

impl Runs {
    /// The next run of `body`, `None` at its end.
    ///
    /// # Errors
    /// [`WireError::Body`] on a run of an unknown kind, of no pages, beyond the body or beyond the address space.
    pub fn next(&mut self, body: &[u8]) -> Result<Option<Run>, WireError> {
        if self.at >= body.len() {
            return Ok(None);
        }
        let tag = self.varint(body)?;
        let skip = self.varint(body)?;
        let count = tag >> kind::BITS;
        let first = self.end.checked_add(skip).filter(|&first| first < MAX_GFN);
        let (Some(first), 1..=MAX_GFN) = (first, count) else {
            return Err(bad(format!("run of {count} pages, {skip} behind frame {:#x}", self.end)));
        };
        let content = match tag & ((1 << kind::BITS) - 1) {
            kind::ZERO => Content::Fill(0),
            kind::FILL => {
                let Some(word) = body.get(self.at..).and_then(<[u8]>::first_chunk) else {
                    return Err(self.short());
                };
                self.at += word.len();
                Content::Fill(u64::from_le_bytes(*word))
            }
            kind::DATA => {
                let at = self.at;
                let left = (body.len().saturating_sub(at) / PAGE_BYTES) as u64;
                if count > left {
                    return Err(self.short());
                }
                self.at += count as usize * PAGE_BYTES;
                Content::Data(at)
            }
            packed @ (kind::LZ4 | kind::DELTA) => {
                let at = self.at;
                for _ in 0..count {
                    let (size, _) = sized(body, self.at).ok_or_else(|| self.short())?;
                    self.at += size;
                }
                if packed == kind::LZ4 { Content::Lz4(at) } else { Content::Delta(at) }
            }
            other => return Err(bad(format!("run of unknown kind {other}"))),
        };
        self.end = first + count;
        Ok(Some(Run { first, count, content }))
    }

    fn varint(&mut self, body: &[u8]) -> Result<u64, WireError> {
        let (value, n) = body.get(self.at..).and_then(varint::get).ok_or_else(|| self.short())?;
        self.at += n;
        Ok(value)
    }

    fn short(&self) -> WireError {
        bad(format!("run at byte {} is cut short", self.at))
    }
}

fn bad(why: String) -> WireError {
    WireError::Body { kind: RecordType::Memory, why }
}

/// The packed page at `at`: bytes with its length, and itself.
fn sized(body: &[u8], at: usize) -> Option<(usize, &[u8])> {
    let (size, rest) = body.get(at..)?.split_first_chunk()?;
    let size = usize::from(u16::from_le_bytes(*size));
    Some((size + 2, rest.get(..size)?))
}

/// Room for one page that is unpacked.
#[derive(Clone)]
pub struct Scratch(Box<[u8; PAGE_BYTES]>);

impl Default for Scratch {
    fn default() -> Self {
        Self(Box::new([0; PAGE_BYTES]))
    }
}

/// Puts up to `budget` pages of `run` in place, takes them off the run and off the budget.
///
/// # Errors
/// As [`TargetMemory::write_page`]; a packed page that does not unpack.
pub fn apply(
    run: &mut Run,
    body: &[u8],
    budget: &mut u64,
    memory: &mut impl TargetMemory,
    scratch: &mut Scratch,
) -> Result<(), Reason> {
    while run.count > 0 && *budget > 0 {
        match &mut run.content {
            Content::Fill(word) => memory.fill_page(run.first, *word)?,
            Content::Data(at) => {
                // `Runs::next` has measured the body.
                if let Some(page) = body.get(*at..).and_then(<[u8]>::first_chunk) {
                    memory.write_page(run.first, page)?;
                }
                *at += PAGE_BYTES;
            }
            Content::Lz4(at) => {
                let (size, block) = sized(body, *at).unwrap_or_default();
                lz4::unpack(block, &mut scratch.0)
                    .ok_or_else(|| bad(format!("page at frame {:#x} is no LZ4 block", run.first)))?;
                memory.write_page(run.first, &scratch.0)?;
                *at += size;
            }
            Content::Delta(at) => {
                let (size, delta) = sized(body, *at).unwrap_or_default();
                memory.read_page(run.first, &mut scratch.0)?;
                delta::unpack(delta, &mut scratch.0)
                    .ok_or_else(|| bad(format!("page at frame {:#x} is no delta", run.first)))?;
                memory.write_page(run.first, &scratch.0)?;
                *at += size;
            }
        }
        run.first += 1;
        run.count -= 1;
        *budget -= 1;
    }
    Ok(())
}
