//! A file that is whole.

use alloc::format;

use migrate::PAGE_BYTES;
use migrate::handover::Deal;
use vm_types::StateRecord;

use crate::error::{FileError, at};
use crate::layout::{FILES_FROM, Header, Meta, Slot, frame_of};
use crate::state::State;
use crate::tail::{self, Tail};
use crate::{Held, Storage, page_seal};

/// A file that is whole: all but its pages is checked, each page is when it is read.
pub struct Image<S> {
    storage: S,
    header: Header,
    slot: Slot,
    tail: Tail,
}

/// Pages by what they hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Zero.
    pub zero: u64,
    /// One word over and over.
    pub fill: u64,
    /// Data.
    pub data: u64,
}

impl<S: Storage> Image<S> {
    /// Opens a file of any state but [`State::Incomplete`].
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn open(mut storage: S) -> Result<Self, FileError> {
        let size = at(0, storage.size())?;
        let header = Header::read(&mut storage, size)?;
        let slot = Slot::read(&mut storage, &header)?;
        if slot.state == State::Incomplete {
            return Err(FileError::Incomplete);
        }
        let tail_at = slot
            .data_pages
            .checked_mul(PAGE_BYTES as u64)
            .and_then(|bytes| bytes.checked_add(header.pages_at))
            .ok_or_else(|| FileError::altered("state slot", crate::layout::SLOT_AT))?;
        let want = tail_at.saturating_add(slot.tail_len);
        if size < want {
            let what = if size < tail_at { "pages" } else { "index and state" };
            return Err(FileError::Cut { what, have: size, want });
        }
        if size > want {
            return Err(FileError::Long { have: size, want });
        }
        let len = usize::try_from(slot.tail_len).map_err(|_| FileError::TooLarge("index".into()))?;
        let mut bytes = alloc::vec![0; len];
        at(tail_at, storage.read_at(tail_at, &mut bytes))?;
        let tail = tail::decode(&bytes, tail_at, header.seal, &header.meta, slot.data_pages)?;
        if tail.digest != slot.digest {
            return Err(FileError::altered("digest", want.saturating_sub(8)));
        }
        Ok(Self { storage, header, slot, tail })
    }

    pub(crate) fn made(storage: S, header: Header, slot: Slot, tail: Tail) -> Self {
        Self { storage, header, slot, tail }
    }

    /// Reads everything once.
    ///
    /// # Errors
    /// The first part that is altered.
    pub fn verify(&self) -> Result<(), FileError> {
        let meta_end = self.header.meta_end;
        let mut gap = [0; PAGE_BYTES];
        let len = usize::try_from(self.header.pages_at.saturating_sub(meta_end)).unwrap_or(usize::MAX);
        let gap = gap.get_mut(..len).unwrap_or_default();
        at(meta_end, self.storage.read_at(meta_end, gap))?;
        if let Some(i) = gap.iter().position(|byte| *byte != 0) {
            return Err(FileError::altered("padding", meta_end + i as u64));
        }
        let mut page = [0; PAGE_BYTES];
        let mut from = 0;
        while let Some((&gfn, _)) = self.tail.pages.range(from..).next() {
            self.page(gfn, &mut page)?;
            from = gfn.saturating_add(1);
        }
        Ok(())
    }

    /// Copies a page out.
    ///
    /// # Errors
    /// [`FileError::Altered`] with its frame; [`FileError::NoRam`]; [`FileError::Storage`].
    pub fn page(&self, gfn: u64, page: &mut [u8; PAGE_BYTES]) -> Result<(), FileError> {
        if !self.header.meta.covers(gfn, 1) {
            return Err(FileError::NoRam(gfn));
        }
        match self.tail.pages.get(&gfn).copied() {
            None => page.fill(0),
            Some(Held::Fill(word)) => {
                page.as_chunks_mut().0.iter_mut().for_each(|chunk| *chunk = word.to_le_bytes());
            }
            Some(Held::Data { slot, seal }) => {
                let offset = self.header.pages_at + u64::from(slot) * PAGE_BYTES as u64;
                at(offset, self.storage.read_at(offset, page))?;
                if page_seal(gfn, page) != seal {
                    return Err(FileError::altered(format!("page of frame {gfn:#x}"), offset));
                }
            }
        }
        Ok(())
    }

    /// Copies a piece of a file of the origin out.
    ///
    /// # Errors
    /// [`FileError::NoFile`], and as [`Image::page`].
    pub fn file(&self, number: u32, mut offset: u64, mut into: &mut [u8]) -> Result<(), FileError> {
        let meta = &self.header.meta;
        let number = meta.origin.as_ref().map_or(number, |origin| origin.same_as(number));
        let end = offset.checked_add(into.len() as u64);
        if meta.file(number).is_none_or(|len| end.is_none_or(|end| end > len)) {
            return Err(FileError::NoFile(number));
        }
        let mut page = [0; PAGE_BYTES];
        while !into.is_empty() {
            self.page(frame_of(number, offset), &mut page)?;
            let from = page.get((offset % PAGE_BYTES as u64) as usize..).unwrap_or_default();
            let count = from.len().min(into.len());
            let (now, later) = into.split_at_mut(count);
            now.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            into = later;
            offset += count as u64;
        }
        Ok(())
    }

    /// The VM.
    pub fn meta(&self) -> &Meta {
        &self.header.meta
    }

    /// The state records.
    pub fn records(&self) -> &[StateRecord] {
        &self.tail.records
    }

    /// Who owns the VM.
    pub fn state(&self) -> State {
        self.slot.state
    }

    /// Of the last hand-over.
    pub fn deal(&self) -> Option<&Deal> {
        self.slot.deal.as_ref()
    }

    /// Over everything but the state slot.
    pub fn digest(&self) -> u64 {
        self.tail.digest
    }

    /// Bytes in the file.
    pub fn bytes(&self) -> u64 {
        self.header.pages_at + self.slot.data_pages * PAGE_BYTES as u64 + self.slot.tail_len
    }

    /// Pages by what they hold.
    pub fn counts(&self) -> Counts {
        let (mut data, mut fill) = (0, 0);
        for (_, held) in self.tail.pages.range(..FILES_FROM) {
            match held {
                Held::Data { .. } => data += 1,
                Held::Fill(_) => fill += 1,
            }
        }
        Counts { zero: self.header.meta.shape.pages().saturating_sub(data + fill), fill, data }
    }

    /// Moves the file to another state; safe when it returns.
    ///
    /// # Errors
    /// [`FileError::Storage`]: which of the two states outlives a loss of power is open then.
    pub fn set_state(&mut self, state: State, deal: Option<Deal>) -> Result<(), FileError> {
        let slot = Slot { state, deal, ..self.slot.clone() };
        slot.write(&mut self.storage, self.header.seal)?;
        self.slot = slot;
        Ok(())
    }

    /// Gives the storage back.
    pub fn into_storage(self) -> S {
        self.storage
    }
}
