//! Codecs against themselves and against another LZ4, hostile bytes, and the encoder against the decoder.

use alloc::vec;
use alloc::vec::Vec;
use std::collections::BTreeMap;

use proptest::prelude::*;
use vm_types::{Compression, MemoryError};

use super::*;
use crate::body::{PageRange, Shape};
use crate::page::{PAGE_BYTES, PageKind, scan};
use crate::vm::TargetMemory;
use crate::wire::RECORD_HEADER;

type Page = [u8; PAGE_BYTES];

/// Pages of all sorts: runs of bytes, words, repeated pieces, noise.
fn page() -> impl Strategy<Value = Page> {
    let piece = prop_oneof![
        (any::<u8>(), 1usize..900).prop_map(|(byte, n)| vec![byte; n]),
        proptest::collection::vec(any::<u8>(), 1..300),
        (proptest::collection::vec(any::<u8>(), 1..40), 1usize..40).prop_map(|(piece, n)| piece.repeat(n)),
        proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), any::<u8>()], 1..500),
    ];
    proptest::collection::vec(piece, 1..40).prop_map(|pieces| {
        let bytes = pieces.concat();
        core::array::from_fn(|i| bytes[i % bytes.len()])
    })
}

/// A few changed places.
fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    proptest::collection::vec((0..PAGE_BYTES, any::<u8>()), 0..40)
}

fn changed(page: &Page, changes: &[(usize, u8)]) -> Page {
    let mut page = *page;
    changes.iter().for_each(|&(at, byte)| page[at] = byte);
    page
}

#[derive(Default)]
struct Ram(BTreeMap<u64, Page>);

impl TargetMemory for Ram {
    fn write_page(&mut self, gfn: u64, page: &Page) -> Result<(), MemoryError> {
        self.0.insert(gfn, *page);
        Ok(())
    }

    fn fill_page(&mut self, gfn: u64, word: u64) -> Result<(), MemoryError> {
        self.write_page(gfn, &core::array::from_fn(|i| word.to_le_bytes()[i % 8]))
    }

    fn read_page(&self, gfn: u64, page: &mut Page) -> Result<(), MemoryError> {
        *page = self.0.get(&gfn).copied().unwrap_or([0; PAGE_BYTES]);
        Ok(())
    }
}

fn read(body: &[u8], ram: &mut Ram) -> Result<(), crate::Reason> {
    let (mut runs, mut scratch, mut left) = (Runs::default(), Scratch::default(), 4096);
    while let Some(mut run) = runs.next(body)? {
        apply(&mut run, body, &mut left, ram, &mut scratch)?;
    }
    Ok(())
}

/// One round through the encoder and the decoder; pages that were left out.
fn round(encoder: &mut Encoder, pages: &BTreeMap<u64, Page>, ram: &mut Ram) -> u64 {
    let mut duplicate = 0;
    let mut flush = |encoder: &mut Encoder| {
        let body = encoder.take(|buf, len| buf[RECORD_HEADER..len].to_vec());
        assert!(body.len() <= crate::limits::MAX_MEMORY_BODY);
        read(&body, ram).unwrap();
    };
    for (&gfn, page) in pages {
        if encoder.is_full() {
            flush(encoder);
        }
        let added = encoder.add_page(gfn, |room| {
            *room = *page;
            Ok(scan(page))
        });
        duplicate += u64::from(added.unwrap().is_none());
    }
    flush(encoder);
    duplicate
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn lz4_round_trips(page in page()) {
        let mut out = [0; 2 * PAGE_BYTES];
        let n = lz4::Lz4::new().pack(&page, &mut out).unwrap();
        let mut back = [0x55; PAGE_BYTES];
        prop_assert_eq!(lz4::unpack(&out[..n], &mut back), Some(()));
        prop_assert!(back == page);
        // Too little room is said, not overrun.
        prop_assert_eq!(lz4::Lz4::new().pack(&page, &mut out[..n - 1]), None);
    }

    #[test]
    fn lz4_is_what_others_call_lz4(page in page()) {
        let mut out = [0; 2 * PAGE_BYTES];
        let n = lz4::Lz4::new().pack(&page, &mut out).unwrap();
        prop_assert!(lz4_flex::block::decompress(&out[..n], PAGE_BYTES).unwrap() == page);
        let theirs = lz4_flex::block::compress(&page);
        let mut back = [0; PAGE_BYTES];
        prop_assert_eq!(lz4::unpack(&theirs, &mut back), Some(()));
        prop_assert!(back == page);
    }

    #[test]
    fn delta_round_trips(old in page(), changes in changes()) {
        let new = changed(&old, &changes);
        let mut out = [0; 2 * PAGE_BYTES];
        let n = delta::pack(&old, &new, &mut out).unwrap();
        prop_assert!(n <= 4 * changes.len() + 4 * changes.len());
        let mut back = old;
        prop_assert_eq!(delta::unpack(&out[..n], &mut back), Some(()));
        prop_assert!(back == new);
    }

    #[test]
    fn any_two_pages_have_a_delta_or_none(old in page(), new in page()) {
        let mut out = [0; 3000];
        if let Some(n) = delta::pack(&old, &new, &mut out) {
            let mut back = old;
            prop_assert_eq!(delta::unpack(&out[..n], &mut back), Some(()));
            prop_assert!(back == new);
        }
    }

    #[test]
    fn foreign_bytes_do_no_harm(
        page in page(),
        noise in proptest::collection::vec(any::<u8>(), 0..600),
        at in 0usize..8192,
        byte in any::<u8>(),
    ) {
        let mut back = [0; PAGE_BYTES];
        let _ = lz4::unpack(&noise, &mut back);
        let _ = delta::unpack(&noise, &mut back);
        let _ = read(&noise, &mut Ram::default());
        let mut out = [0; 2 * PAGE_BYTES];
        let n = lz4::Lz4::new().pack(&page, &mut out).unwrap();
        out[at % n] = byte;
        let _ = lz4::unpack(&out[..n], &mut back);
        let cut = at % n;
        prop_assert_eq!(lz4::unpack(&out[..cut.min(n - 1)], &mut back).is_some() && cut == 0, false);
    }

    #[test]
    fn what_is_encoded_is_what_arrives(
        first in proptest::collection::btree_map(0u64..40, page(), 1..12),
        again in proptest::collection::vec(changes(), 3),
        compression in prop_oneof![
            Just(Compression::None), Just(Compression::Lz4), Just(Compression::Delta), Just(Compression::Auto)
        ],
    ) {
        let shape = Shape {
            vcpus: 1,
            ranges: vec![PageRange { first: 0, pages: 16 }, PageRange { first: 20, pages: 20 }],
            tsc_hz: 1,
            devices: Vec::new(),
        };
        let mut encoder = Encoder::new();
        encoder.prepare(&shape, [7; 16], compression);
        let (mut ram, mut pages) = (Ram::default(), first);
        pages.retain(|&gfn, _| shape.covers(gfn, 1));
        encoder.begin_round(1);
        prop_assert_eq!(round(&mut encoder, &pages, &mut ram), 0);
        for (i, changes) in again.iter().enumerate() {
            encoder.begin_round(i as u32 + 2);
            // Every other page changes, one of them to a fill page.
            let same = pages.iter_mut().enumerate().filter_map(|(n, (_, page))| {
                let new = match (n + i) % 4 {
                    0 => [i as u8; PAGE_BYTES],
                    1 => changed(page, changes),
                    _ => *page,
                };
                let same = new == *page;
                *page = new;
                same.then_some(())
            });
            let same = same.count() as u64;
            prop_assert_eq!(round(&mut encoder, &pages, &mut ram), same);
            prop_assert!(ram.0 == pages);
        }
    }
}

#[test]
fn every_byte_is_in_the_hash() {
    let shape =
        Shape { vcpus: 1, ranges: vec![PageRange { first: 0, pages: 1 }], tsc_hz: 1, devices: Vec::new() };
    let mut sent = sent::Sent::new(&shape, [3; 16]).unwrap();
    let mut page = [0; PAGE_BYTES];
    page[9] = 1;
    assert!(sent.is_news(0, PageKind::Data, &page));
    assert!(!sent.is_news(0, PageKind::Data, &page));
    for at in 0..PAGE_BYTES {
        page[at] ^= 0x80;
        assert!(sent.is_news(0, PageKind::Data, &page), "byte {at}");
        page[at] ^= 0x80;
        assert!(sent.is_news(0, PageKind::Data, &page), "byte {at}");
    }
    assert!(sent.is_news(0, PageKind::Fill(0), &page));
    assert!(!sent.is_news(0, PageKind::Fill(0), &page));
    assert!(sent.is_news(0, PageKind::Fill(1 << 63), &page));
}

#[test]
fn worked_example() {
    // A page of "flexvisor " over and over: one literal piece, one match that overlaps itself, five literals.
    let page: Page = core::array::from_fn(|i| b"flexvisor "[i % 10]);
    let mut out = [0; PAGE_BYTES];
    let n = lz4::Lz4::new().pack(&page, &mut out).unwrap();
    assert_eq!(out[..13], *b"\xafflexvisor \x0a\x00");
    assert_eq!(n, 13 + 16 + 1 + 5);
    assert_eq!(out[13..28], [255; 15]);
    assert_eq!(&out[28..n], b"\xed\x50lexvi");
    // The same page with byte 0x123 changed.
    let new = changed(&page, &[(0x123, b'X')]);
    let n = delta::pack(&page, &new, &mut out).unwrap();
    assert_eq!(out[..n], [0xa3, 0x02, 0x01, b'X']);
}
