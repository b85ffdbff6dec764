//! Pages into a memory record, one at a time.

use alloc::vec;
use alloc::vec::Vec;

use vm_types::MemoryError;

use super::{kind, varint};
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
    /// Its tag is at this offset.
    Data {
        tag: usize,
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
        Self { buf: vec![0; BUFFER], len: RECORD_HEADER, open: Open::None, end: 0, pages: 0 }
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

    /// Reads page `gfn`, which is above all pages before it, into the record.
    ///
    /// # Errors
    /// As [`SourceVm::read_page`]; the record is unchanged then.
    pub fn add(&mut self, gfn: u64, vm: &mut impl SourceVm) -> Result<PageKind, MemoryError> {
        debug_assert!(!self.is_full() && gfn >= self.end);
        let skip = gfn.saturating_sub(self.end);
        let heads = self.heads(skip);
        let at = self.len + heads;
        let Some(page) = self.buf.get_mut(at..).and_then(<[u8]>::first_chunk_mut) else {
            return Err(MemoryError { gpa: vm_types::Gpa(gfn.wrapping_mul(4096)), len: PAGE_BYTES });
        };
        let content = vm.classify_page(gfn, page)?;
        match content {
            PageKind::Fill(word) => self.add_fill(word, skip),
            PageKind::Data => self.add_data(skip, at),
        }
        self.end = gfn + 1;
        self.pages += 1;
        Ok(content)
    }

    /// Bytes between the end of the buffer and the page, should it be data.
    fn heads(&self, skip: u64) -> usize {
        match self.open {
            Open::Data { count, .. } if skip == 0 && count < MAX_DATA_RUN => 0,
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

    fn add_data(&mut self, skip: u64, at: usize) {
        let (tag, count) = match self.open {
            Open::Data { tag, count } if skip == 0 && count < MAX_DATA_RUN => (tag, count + 1),
            _ => {
                self.close();
                let tag = self.len;
                self.put(kind::DATA);
                self.put(skip);
                debug_assert_eq!(self.len, at);
                (tag, 1)
            }
        };
        if let Some(byte) = self.buf.get_mut(tag) {
            *byte = (count << kind::BITS | kind::DATA) as u8;
        }
        self.len = at + PAGE_BYTES;
        self.open = Open::Data { tag, count };
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
