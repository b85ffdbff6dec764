//! What memory costs on its way out, on the machine that this runs on: `native [AEAD]`, one line of JSON.
//!
//! Scan, scan and encode, and the whole of it, sealed as a keyed link does, against memcpy of the same pages and
//! against sealing alone; zero pages, text and random bytes. All of them take turns, a MiB each, and the least time of
//! many turns counts for each MiB, so that whatever else the machine does falls on all alike. `AEAD` is `plain` for the
//! cipher without vector registers; without it the host's best is lent to it.
#![allow(missing_docs)]

#[path = "../../../crates/secure-link/tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::task::Poll;
use std::time::{Duration, Instant};

use migrate::memory::Encoder;
use migrate::wire::{RECORD_HEADER, RecordHeader, RecordType};
use migrate::{Compression, PAGE_BYTES, PageKind, PageRange, Shape, SourceVm, scan};
use secure_link::{Blocks, ByteStream, Session, Vectors, use_vectors};
use vm_types::{Gpa, MemoryError, StateRecord};

type Page = [u8; PAGE_BYTES];

const MIB: usize = 1 << 20;
const PAGES: usize = MIB / PAGE_BYTES;
/// RAM of each kind in MiB.
const CHUNKS: usize = 96;
/// Each stage is so many MiB behind the one before it: it finds nothing in the caches next to the core.
const APART: usize = CHUNKS / STAGES.len();
const TURNS: usize = 15;
const STAGES: [&str; 6] = ["memcpy", "scan", "encode", "encode_hash", "aead", "all"];

/// Pages as a guest's RAM, in place.
struct Ram<'a>(&'a [Page]);

impl SourceVm for Ram<'_> {
    fn read_page(&mut self, gfn: u64, page: &mut Page) -> Result<(), MemoryError> {
        let error = MemoryError { gpa: Gpa(gfn * PAGE_BYTES as u64), len: PAGE_BYTES };
        *page = *self.0.get(gfn as usize).ok_or(error)?;
        Ok(())
    }

    fn start_tracking(&mut self) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn harvest(&mut self) -> Poll<u64> {
        Poll::Ready(0)
    }

    fn take_dirty(&mut self, _: u64) -> Option<u64> {
        None
    }

    fn pause(&mut self) -> Poll<u64> {
        Poll::Ready(0)
    }

    fn export_state(&mut self) -> Result<Vec<StateRecord>, String> {
        Ok(Vec::new())
    }

    fn throttle(&mut self, _: &migrate::Shares) {}
    fn resume(&mut self) {}
    fn give_back(&mut self) {}
    fn stop_tracking(&mut self) {}
    fn give_up(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn free(&mut self) {}
    fn mark_unknown(&mut self) {}
}

/// The host lends AVX2 and MULX, as `arch/vector.rs` of the kernel does for each call.
struct Lent;

impl Vectors for Lent {
    fn lend(&self, work: &mut dyn FnMut(&dyn Blocks)) {
        work(self);
    }

    fn absorb(&self, sum: &mut [u64; 3], r: &[u64; 2], blocks: &[[u8; 16]]) -> bool {
        // SAFETY: `main` has asked for BMI2.
        unsafe { chacha::mulx(sum, r, blocks) };
        true
    }
}

impl Blocks for Lent {
    fn group(&self) -> usize {
        chacha::AVX2_GROUP
    }

    fn xor(&self, state: &mut [u32; 16], input: &[u8], out: &mut [u8]) -> usize {
        // SAFETY: `main` has asked for AVX2; the compiler knows that a call spoils YMM registers.
        unsafe { chacha::avx2(state, input, out) }
    }
}

fn lend() -> bool {
    let leaf = core::arch::x86_64::__cpuid_count(7, 0).ebx;
    let has = leaf & (1 << 5) != 0 && leaf & (1 << 8) != 0;
    if has {
        use_vectors(&Lent);
    }
    has
}

/// Takes all and keeps nothing.
struct Nowhere;

impl ByteStream for Nowhere {
    fn recv(&mut self, _: &mut [u8]) -> usize {
        0
    }

    fn send(&mut self, data: &[u8]) -> usize {
        black_box(data).len()
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// The RAM of one kind, in an order that no prefetcher owes to us.
fn ram(kind: &str) -> Vec<Page> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words = ["the ", "guest ", "runs ", "on ", "while ", "its ", "memory ", "moves, ", "page ", "by "];
    let mut page = |_| {
        let mut page = [0; PAGE_BYTES];
        match kind {
            "text" => {
                let mut at = 0;
                while at < PAGE_BYTES {
                    let word = words[next() as usize % words.len()].as_bytes();
                    let n = word.len().min(PAGE_BYTES - at);
                    page[at..at + n].copy_from_slice(&word[..n]);
                    at += n;
                }
            }
            "random" => page.as_chunks_mut().0.iter_mut().for_each(|word| *word = next().to_le_bytes()),
            _ => {}
        }
        page
    };
    (0..CHUNKS * PAGES).map(&mut page).collect()
}

/// Encodes a MiB, and gives each record to `take` with the room for its header.
fn encode(ram: &[Page], first: usize, encoder: &mut Encoder, mut take: impl FnMut(&mut [u8])) {
    let mut vm = Ram(ram);
    let mut give = |encoder: &mut Encoder| {
        encoder.take(|buf, len| take(&mut buf[..len]));
    };
    for gfn in first..first + PAGES {
        if encoder.is_full() {
            give(encoder);
        }
        let kind = encoder.add(gfn as u64, &mut vm).expect("RAM");
        assert!(kind.is_some(), "a page was left out");
    }
    give(encoder);
}

/// Header and seal of the record, then the link.
fn seal(record: &mut [u8], seq: u32, session: &mut Session) {
    let (front, body) = record.split_at_mut(RECORD_HEADER);
    let mut header = RecordHeader { kind: RecordType::Memory as u16, len: body.len() as u32, seq, check: 0 };
    header.check = header.check_of(header.seal(body));
    front.copy_from_slice(&header.to_bytes());
    let sent = session.send(&mut Nowhere, record);
    assert_eq!(sent, record.len());
}

fn main() {
    let vectors = std::env::args().nth(1).as_deref() != Some("plain") && lend();
    let shape = Shape {
        vcpus: 1,
        ranges: vec![PageRange { first: 0, pages: (CHUNKS * PAGES) as u64 }],
        tsc_hz: 1_000_000_000,
        devices: Vec::new(),
    };
    let ((mut session, _), _) = common::connected();
    let mut room = vec![[0; PAGE_BYTES]; 16];
    print!("{{\"vectors\":{vectors}");
    for kind in ["zero", "text", "random"] {
        let ram = ram(kind);
        let mut best = vec![[Duration::MAX; STAGES.len()]; CHUNKS];
        let mut bytes = 0;
        for turn in 0..TURNS {
            // A new one each turn: the pages are news to it.
            let (mut plain, mut hashing, mut whole) = (Encoder::new(), Encoder::new(), Encoder::new());
            for (encoder, seed) in [(&mut hashing, 1u8), (&mut whole, 2)] {
                encoder.prepare(&shape, [seed ^ turn as u8; 16], Compression::None);
                encoder.begin_round(1);
            }
            for step in 0..CHUNKS {
                for (number, stage) in STAGES.into_iter().enumerate() {
                    let chunk = (step + number * APART) % CHUNKS;
                    let first = chunk * PAGES;
                    let pages = &ram[first..first + PAGES];
                    let best = &mut best[chunk][number];
                    let began = Instant::now();
                    match stage {
                        "memcpy" => {
                            for (from, to) in pages.iter().zip((0..16).cycle()) {
                                *black_box(&mut room[to]) = *black_box(from);
                            }
                        }
                        "scan" => {
                            let data = pages.iter().filter(|page| scan(black_box(page)) == PageKind::Data);
                            black_box(data.count());
                        }
                        "encode" => encode(&ram, first, &mut plain, |record| {
                            black_box(record);
                        }),
                        "encode_hash" => encode(&ram, first, &mut hashing, |record| {
                            black_box(record);
                        }),
                        "aead" => {
                            let sent = session.send(&mut Nowhere, pages.as_flattened());
                            assert_eq!(sent, MIB);
                        }
                        _ => {
                            bytes = 0;
                            encode(&ram, first, &mut whole, |record| {
                                bytes += record.len();
                                seal(record, turn as u32, &mut session);
                            });
                        }
                    }
                    *best = began.elapsed().min(*best);
                }
            }
        }
        print!(",\"{kind}\":{{\"record_bytes\":{bytes}");
        for (stage, name) in STAGES.into_iter().enumerate() {
            // In nanoseconds, whole: this runs without floating-point registers too.
            let ns: u128 = best.iter().map(|best| best[stage].as_nanos()).sum();
            print!(",\"{name}\":{}", ns / CHUNKS as u128);
        }
        print!("}}");
    }
    println!("}}");
}
