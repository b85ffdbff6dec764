//! How the source makes pages smaller.

use alloc::boxed::Box;

use vm_types::Compression;

use super::choice::Data;
use super::lz4::Lz4;
use super::sent::{Copies, Sent};
use super::{delta, kind};
use crate::body::{Id, Shape};
use crate::page::{PAGE_BYTES, PageKind};

/// A packed page takes at most so much: below a saving of a sixteenth the target's work is not worth it.
pub(crate) const MAX_PACKED: usize = PAGE_BYTES - PAGE_BYTES / 16;
/// Hot pages of which a copy is kept: 2 MiB.
const COPIES: usize = 512;

/// Packs pages. Made before the tracking starts: what it takes is taken then.
#[derive(Clone)]
pub(crate) struct Packer {
    sent: Option<Sent>,
    lz4: Option<Lz4>,
    copies: Option<Copies>,
    /// The page in its smaller form.
    small: Box<[u8; PAGE_BYTES]>,
    /// Bytes in it.
    len: usize,
    /// Copies are kept of the pages that are sent again: the others are not hot.
    hot: bool,
    /// [`Compression::Auto`]: by both.
    way: Compression,
    /// What pages of data became.
    data: Data,
}

impl Packer {
    /// `seed` is not known to the guest. Where the host lacks room for a table, it goes without.
    pub(crate) fn new(shape: &Shape, seed: Id, compression: Compression) -> Self {
        let lz4 = matches!(compression, Compression::Lz4 | Compression::Auto).then(Lz4::new);
        let copies = matches!(compression, Compression::Delta | Compression::Auto)
            .then(|| Copies::new(COPIES))
            .flatten();
        let sent = Sent::new(shape, seed);
        Self {
            sent,
            lz4,
            copies,
            small: Box::new([0; PAGE_BYTES]),
            len: 0,
            hot: false,
            way: compression,
            data: Data::default(),
        }
    }

    /// Pages are packed by this from here on, as far as there are tables for it.
    pub(crate) fn set_way(&mut self, way: Compression) {
        self.way = way;
    }

    pub(crate) fn data(&self) -> Data {
        self.data
    }

    /// A round begins: from the second one on, pages are hot.
    pub(crate) fn begin_round(&mut self, round: u32) {
        self.hot = round > 1;
    }

    /// Whether the target has yet to hear of this page.
    pub(crate) fn is_news(&mut self, gfn: u64, content: PageKind, page: &[u8; PAGE_BYTES]) -> bool {
        self.sent.as_mut().is_none_or(|sent| sent.is_news(gfn, content, page))
    }

    /// A page that the record takes as a fill.
    pub(crate) fn note_fill(&mut self, gfn: u64) {
        if let Some(copies) = &mut self.copies {
            copies.forget(gfn);
        }
    }

    /// The kind of run that this page is to be sent in.
    pub(crate) fn pack(&mut self, gfn: u64, page: &[u8; PAGE_BYTES]) -> u64 {
        let room = self.small.get_mut(..MAX_PACKED).unwrap_or_default();
        let mut best = kind::DATA;
        let lz4 = matches!(self.way, Compression::Lz4 | Compression::Auto);
        let delta = matches!(self.way, Compression::Delta | Compression::Auto);
        if let Some(old) = self.copies.as_ref().filter(|_| delta).and_then(|copies| copies.get(gfn))
            && let Some(len) = delta::pack(old, page, room)
        {
            self.len = len;
            best = kind::DELTA;
        } else if let Some(len) = self.lz4.as_mut().filter(|_| lz4).and_then(|lz4| lz4.pack(page, room)) {
            self.len = len;
            best = kind::LZ4;
        }
        if let Some(copies) = self.copies.as_mut().filter(|_| self.hot) {
            copies.keep(gfn, page);
        }
        self.data.pages += 1;
        self.data.bytes += if best == kind::DATA { PAGE_BYTES } else { self.len + 2 } as u64;
        best
    }

    /// What [`Packer::pack`] made.
    pub(crate) fn packed(&self) -> &[u8] {
        self.small.get(..self.len).unwrap_or_default()
    }
}
