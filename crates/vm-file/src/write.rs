//! A file in the making.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use migrate::handover::Deal;
use migrate::{PAGE_BYTES, PageKind, scan};
use vm_types::StateRecord;

use crate::error::{FileError, at};
use crate::layout::{Header, Meta, Slot, frame_of};
use crate::state::State;
use crate::{Held, Image, Storage, page_seal, tail};

/// A file in the making. Its state is [`State::Incomplete`] until [`Writer::finish`].
pub struct Writer<S> {
    storage: S,
    header: Header,
    /// No zero page is in it.
    pages: BTreeMap<u64, Held>,
    free: Vec<u32>,
    slots: u32,
    /// The file of the origin that comes: bytes of it, and the last of them that fill no page yet.
    file: (u64, Vec<u8>),
}

impl<S: Storage> Writer<S> {
    /// Begins a file in empty storage.
    ///
    /// # Errors
    /// [`FileError::Storage`]; a shape that is none.
    pub fn new(mut storage: S, meta: &Meta) -> Result<Self, FileError> {
        let header = Header::write(&mut storage, meta)?;
        let slot = Slot { state: State::Incomplete, data_pages: 0, tail_len: 0, digest: 0, deal: None };
        slot.write(&mut storage, header.seal)?;
        Ok(Self {
            storage,
            header,
            pages: BTreeMap::new(),
            free: Vec::new(),
            slots: 0,
            file: (0, Vec::new()),
        })
    }

    /// Puts a page in place, or in place of what came before.
    ///
    /// # Errors
    /// [`FileError::NoRam`], [`FileError::Storage`].
    pub fn page(&mut self, gfn: u64, page: &[u8; PAGE_BYTES]) -> Result<(), FileError> {
        if let PageKind::Fill(word) = scan(page) {
            return self.fill(gfn, word);
        }
        self.ram(gfn)?;
        let slot = match self.pages.get(&gfn) {
            Some(Held::Data { slot, .. }) => *slot,
            _ => self.take_slot()?,
        };
        self.pages.insert(gfn, Held::Data { slot, seal: page_seal(gfn, page) });
        let offset = self.offset(slot);
        at(offset, self.storage.write_at(offset, page))
    }

    /// Fills a page with an 8-byte little-endian word.
    ///
    /// # Errors
    /// [`FileError::NoRam`].
    pub fn fill(&mut self, gfn: u64, word: u64) -> Result<(), FileError> {
        self.ram(gfn)?;
        let before =
            if word == 0 { self.pages.remove(&gfn) } else { self.pages.insert(gfn, Held::Fill(word)) };
        if let Some(Held::Data { slot, .. }) = before {
            self.free.push(slot);
        }
        Ok(())
    }

    /// Takes the next bytes of a file of the origin.
    ///
    /// # Errors
    /// [`FileError::NoFile`], [`FileError::Storage`].
    pub fn file(&mut self, number: u32, bytes: &[u8]) -> Result<(), FileError> {
        let (have, mut waiting) = core::mem::take(&mut self.file);
        let end = have.saturating_add(waiting.len() as u64).saturating_add(bytes.len() as u64);
        if self.header.meta.file(number).is_none_or(|len| end > len) {
            return Err(FileError::NoFile(number));
        }
        waiting.extend_from_slice(bytes);
        let (pages, rest) = waiting.as_chunks::<PAGE_BYTES>();
        for (at, page) in (have..).step_by(PAGE_BYTES).zip(pages) {
            self.page(frame_of(number, at), page)?;
        }
        self.file = (have + (pages.len() * PAGE_BYTES) as u64, rest.to_vec());
        Ok(())
    }

    /// All of it is here.
    ///
    /// # Errors
    /// [`FileError::NoFile`]: it is shorter than it is to be; [`FileError::Storage`].
    pub fn end_file(&mut self, number: u32) -> Result<(), FileError> {
        let (have, rest) = core::mem::take(&mut self.file);
        if self.header.meta.file(number) != Some(have + rest.len() as u64) {
            return Err(FileError::NoFile(number));
        }
        let mut page = [0; PAGE_BYTES];
        page.iter_mut().zip(&rest).for_each(|(to, from)| *to = *from);
        if rest.is_empty() { Ok(()) } else { self.page(frame_of(number, have), &page) }
    }

    /// Copies a page out, as it is so far.
    ///
    /// # Errors
    /// [`FileError::NoRam`], [`FileError::Storage`].
    pub fn read(&self, gfn: u64, page: &mut [u8; PAGE_BYTES]) -> Result<(), FileError> {
        self.ram(gfn)?;
        match self.pages.get(&gfn) {
            None => page.fill(0),
            Some(Held::Fill(word)) => {
                page.as_chunks_mut().0.iter_mut().for_each(|chunk| *chunk = word.to_le_bytes());
            }
            Some(Held::Data { slot, .. }) => {
                let offset = self.offset(*slot);
                at(offset, self.storage.read_at(offset, page))?;
            }
        }
        Ok(())
    }

    /// Writes index, state and digest; when it returns, all is safe and the state is `state`.
    ///
    /// # Errors
    /// [`FileError::Storage`]: the state is still [`State::Incomplete`].
    pub fn finish(
        mut self,
        records: Vec<StateRecord>,
        state: State,
        deal: Option<Deal>,
    ) -> Result<Image<S>, FileError> {
        self.close_gaps()?;
        let (bytes, digest) = tail::encode(&self.pages, &records, self.header.seal);
        let tail_at = self.offset(self.slots);
        at(tail_at, self.storage.truncate(tail_at))?;
        at(tail_at, self.storage.write_at(tail_at, &bytes))?;
        at(tail_at, self.storage.sync())?;
        let (data_pages, tail_len) = (u64::from(self.slots), bytes.len() as u64);
        let slot = Slot { state, data_pages, tail_len, digest, deal };
        slot.write(&mut self.storage, self.header.seal)?;
        Ok(Image::made(self.storage, self.header, slot, tail::Tail { pages: self.pages, records, digest }))
    }

    /// Ends it unfinished.
    pub fn into_storage(self) -> S {
        self.storage
    }

    /// Moves the last pages into free slots, so that the file has no byte without a meaning.
    fn close_gaps(&mut self) -> Result<(), FileError> {
        let used = self.slots.saturating_sub(u32::try_from(self.free.len()).unwrap_or(u32::MAX));
        let mut gaps = core::mem::take(&mut self.free).into_iter().filter(|slot| *slot < used);
        let mut moves = Vec::new();
        for (gfn, held) in &mut self.pages {
            if let Held::Data { slot, .. } = held
                && *slot >= used
            {
                let why = || FileError::TooLarge(format!("no slot for frame {gfn:#x}"));
                let to = gaps.next().ok_or_else(why)?;
                moves.push((core::mem::replace(slot, to), to));
            }
        }
        let mut page = [0; PAGE_BYTES];
        for (from, to) in moves {
            let (from, to) = (self.offset(from), self.offset(to));
            at(from, self.storage.read_at(from, &mut page))?;
            at(to, self.storage.write_at(to, &page))?;
        }
        self.slots = used;
        Ok(())
    }

    fn take_slot(&mut self) -> Result<u32, FileError> {
        if let Some(slot) = self.free.pop() {
            return Ok(slot);
        }
        let slot = self.slots;
        self.slots = slot.checked_add(1).ok_or_else(|| FileError::TooLarge(String::from("2^32 pages")))?;
        Ok(slot)
    }

    fn offset(&self, slot: u32) -> u64 {
        self.header.pages_at + u64::from(slot) * PAGE_BYTES as u64
    }

    fn ram(&self, gfn: u64) -> Result<(), FileError> {
        if self.header.meta.covers(gfn, 1) { Ok(()) } else { Err(FileError::NoRam(gfn)) }
    }
}
