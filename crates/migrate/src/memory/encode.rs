//! Pages into a memory record, one at a time.

use alloc::vec;
use alloc::vec::Vec;

use vm_types::{Compression, MemoryError};

use super::choice::Data;
use super::pack::{MAX_PACKED, Packer};
use super::{kind, varint};
use crate::body::{Id, Shape};
use crate::limits::MAX_MEMORY_BODY;
use crate::page::{PAGE_BYTES, PageKind};
use crate::vm::SourceVm;
use crate::wire::RECORD_HEADER;

/// Pages in a data run: its tag stays one byte, which can be counted up in place.
const MAX_DATA_RUN: u64 = 15;
/// What closing a fill run and opening a data run take at most.
const HEADS: usize = 4 * varint::MAX + 8;
/// A record is closed after so many pages, however small: the target sees progress.
const MAX_RECORD_PAGES: u64 = 16 * 1024;
const BUFFER: usize = RECORD_HEADER + MAX_MEMORY_BODY;

#[derive(Clone, Copy)]
enum Open {
    None,
    /// Not in the buffer yet.
    Fill {
        word: u64,
        skip: u64,
        count: u64,
    },
    /// Data or packed pages; its tag is at this offset.
    Data {
        tag: usize,
        kind: u64,
        count: u64,
    },
}

/// Collects pages, in ascending order, for one memory record.
#[derive(Clone)]
pub struct Encoder {
    buf: Vec<u8>,
    len: usize,
    open: Open,
    /// Page frame behind the last page.
    end: u64,
    pages: u64,
    packer: Option<Packer>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder with an empty record.
    #[must_use]
    pub fn new() -> Self {
        Self { buf: vec![0; BUFFER], len: RECORD_HEADER, open: Open::None, end: 0, pages: 0, packer: None }
    }

    /// Gets ready to leave out what the target holds already and to make pages smaller. Takes 8 bytes a page, and 2 MiB
    /// for deltas; where the host has no room for them, it goes without. `seed` is not known to the guest.
    pub fn prepare(&mut self, shape: &Shape, seed: Id, compression: Compression) {
        self.packer = Some(Packer::new(shape, seed, compression));
    }

    /// Makes pages smaller by this from here on, as far as [`Encoder::prepare`] got ready for it.
    pub fn pack_by(&mut self, way: Compression) {
        if let Some(packer) = &mut self.packer {
            packer.set_way(way);
        }
    }

    /// The pages of data since [`Encoder::prepare`].
    pub(crate) fn data(&self) -> Data {
        self.packer.as_ref().map(Packer::data).unwrap_or_default()
    }

    /// Frees what [`Encoder::prepare`] took.
    pub fn unprepare(&mut self) {
        self.packer = None;
    }

    /// A round begins, from 1.
    pub fn begin_round(&mut self, round: u32) {
        if let Some(packer) = &mut self.packer {
            packer.begin_round(round);
        }
    }

    /// Whether the record holds no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// Whether the record has to be taken before another page is added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len + HEADS + PAGE_BYTES > BUFFER || self.pages >= MAX_RECORD_PAGES
    }

    /// Reads page `gfn`, which is above all pages before it, into the record; `None` where the target holds it already.
    ///
    /// # Errors
    /// As [`SourceVm::read_page`]; the record is unchanged then.
    pub fn add(&mut self, gfn: u64, vm: &mut impl SourceVm) -> Result<Option<PageKind>, MemoryError> {
        self.add_page(gfn, |page| vm.classify_page(gfn, page))
    }

    pub(super) fn add_page(
        &mut self,
        gfn: u64,
        read: impl FnOnce(&mut [u8; PAGE_BYTES]) -> Result<PageKind, MemoryError>,
    ) -> Result<Option<PageKind>, MemoryError> {
        debug_assert!(!self.is_full() && gfn >= self.end);
        let skip = gfn.saturating_sub(self.end);
        let at = self.len + self.heads(skip, kind::DATA);
        let Some(page) = self.buf.get_mut(at..).and_then(<[u8]>::first_chunk_mut) else {
            return Err(MemoryError { gpa: vm_types::Gpa(gfn.wrapping_mul(4096)), len: PAGE_BYTES });
        };
        let content = read(page)?;
        let mut run = kind::DATA;
        if let Some(packer) = &mut self.packer {
            if !packer.is_news(gfn, content, page) {
                return Ok(None);
            }
            match content {
                PageKind::Fill(_) => packer.note_fill(gfn),
                PageKind::Data => run = packer.pack(gfn, page),
            }
        }
        match content {
            PageKind::Fill(word) => self.add_fill(word, skip),
            PageKind::Data if run == kind::DATA => self.add_data(skip, at),
            PageKind::Data => self.add_packed(run, skip),
        }
        self.end = gfn + 1;
        self.pages += 1;
        Ok(Some(content))
    }

    /// Whether the open run takes one more page of this kind.
    fn extends(&self, skip: u64, wanted: u64) -> Option<(usize, u64)> {
        match self.open {
            Open::Data { tag, kind, count } if skip == 0 && kind == wanted && count < MAX_DATA_RUN => {
                Some((tag, count + 1))
            }
            _ => None,
        }
    }

    /// Bytes between the end of the buffer and the page, should it be data.
    fn heads(&self, skip: u64, kind: u64) -> usize {
        match self.open {
            _ if self.extends(skip, kind).is_some() => 0,
            Open::Fill { word, skip: before, count } => fill_len(word, before, count) + 1 + varint::len(skip),
            _ => 1 + varint::len(skip),
        }
    }

    fn add_fill(&mut self, word: u64, skip: u64) {
        match &mut self.open {
            Open::Fill { word: open, count, .. } if *open == word && skip == 0 => *count += 1,
            _ => {
                self.close();
                self.open = Open::Fill { word, skip, count: 1 };
            }
        }
    }

    /// The page stands at `at` already.
    fn add_data(&mut self, skip: u64, at: usize) {
        self.grow(kind::DATA, skip);
        debug_assert_eq!(self.len, at);
        self.len = at + PAGE_BYTES;
    }

    fn add_packed(&mut self, run: u64, skip: u64) {
        self.grow(run, skip);
        let Self { buf, len, packer: Some(packer), .. } = self else { return };
        let small = packer.packed();
        debug_assert!(small.len() <= MAX_PACKED);
        let end = *len + 2 + small.len();
        if let Some((size, to)) = buf.get_mut(*len..end).and_then(<[u8]>::split_first_chunk_mut) {
            *size = (small.len() as u16).to_le_bytes();
            to.copy_from_slice(small);
        }
        *len = end;
    }

    /// Counts the open run up, or opens one.
    fn grow(&mut self, run: u64, skip: u64) {
        let (tag, count) = self.extends(skip, run).unwrap_or_else(|| {
            self.close();
            let tag = self.len;
            self.put(run);
            self.put(skip);
            (tag, 1)
        });
        if let Some(byte) = self.buf.get_mut(tag) {
            *byte = (count << kind::BITS | run) as u8;
        }
        self.open = Open::Data { tag, kind: run, count };
    }

    fn close(&mut self) {
        if let Open::Fill { word, skip, count } = self.open {
            let kind = if word == 0 { kind::ZERO } else { kind::FILL };
            self.put(count << kind::BITS | kind);
            self.put(skip);
            if word != 0 {
                if let Some(to) = self.buf.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut) {
                    *to = word.to_le_bytes();
                }
                self.len += 8;
            }
        }
        self.open = Open::None;
    }

    fn put(&mut self, value: u64) {
        let room = self.buf.get_mut(self.len..).unwrap_or_default();
        self.len += varint::put(room, value);
    }

    /// Closes the record and lends its buffer: [`RECORD_HEADER`] bytes of room, then the body, up to the length
    /// given. The borrower may put another buffer in its place.
    pub fn take<R>(&mut self, borrower: impl FnOnce(&mut Vec<u8>, usize) -> R) -> R {
        self.close();
        let result = borrower(&mut self.buf, self.len);
        if self.buf.len() < BUFFER {
            self.buf.resize(BUFFER, 0);
        }
        self.len = RECORD_HEADER;
        self.end = 0;
        self.pages = 0;
        result
    }
}

fn fill_len(word: u64, skip: u64, count: u64) -> usize {
    let payload = if word == 0 { 0 } else { 8 };
    varint::len(count << kind::BITS) + varint::len(skip) + payload
}
