//! Foreign bytes into both ends: no panic, no guest that runs without COMMIT, no source that gives up without READY.
#![allow(missing_docs)]

mod common;

use common::*;
use migrate::body::{self, Hello, Shape};
use migrate::memory::{Content, Encoder, Runs};
use migrate::wire::{RecordHeader, RecordType, StreamHeader};
use migrate::{PAGE_BYTES, PageKind, Source, SourceEvent, SourceOutcome, SourceVm, TargetEvent, scan};
use proptest::collection::vec;
use proptest::prelude::*;

const V1: &[u8] = include_bytes!("golden/v1.bin");
const V1_REPLY: &[u8] = include_bytes!("golden/v1-reply.bin");

/// Feeds a target piece by piece, then closes; checks what must hold whatever came.
fn into_target(pieces: &[Vec<u8>]) -> FedTarget {
    let mut fed = FedTarget::new();
    for piece in pieces {
        fed.feed(piece);
    }
    fed.close();
    let outcome = fed.outcome.as_ref().expect("a closed connection ends it");
    let committed = fed.events.iter().any(|e| matches!(e, TargetEvent::Running { .. }));
    let ready = fed.events.contains(&TargetEvent::Ready);
    assert_eq!(fed.vm.runs, committed);
    assert!(!committed || (ready && fed.vm.log.contains(&"import")));
    // A source of version 2 that is lost after READY may have given the VM up.
    let held = matches!(outcome, migrate::TargetOutcome::Held(_));
    assert_eq!(fed.vm.made, committed || held, "{outcome:?}: a copy is left behind");
    fed
}

/// Feeds a source whenever it waits, then closes.
fn into_source(pieces: &[Vec<u8>]) -> (SourceOutcome, Leaving) {
    let mut vm = small_guest();
    vm.pause_delay = 0;
    let mut source = Source::new(source_params(&vm), 0);
    let mut link = Hand::default();
    let mut pieces = pieces.iter();
    for now in 1..1_000_000 {
        vm.run_a_little();
        match source.poll(now, &mut link, &mut vm) {
            SourceEvent::Waiting => match pieces.next() {
                Some(piece) => link.input.extend(piece),
                None => link.closed = true,
            },
            SourceEvent::Finished(outcome) => {
                match outcome {
                    SourceOutcome::Done(_) => assert!(vm.freed && vm.given),
                    SourceOutcome::Asking(_) | SourceOutcome::Unknown(_) => {
                        assert!(vm.unknown && vm.given && !vm.freed);
                    }
                    SourceOutcome::Failed(_) => assert!(vm.runs() && !vm.tracking),
                    SourceOutcome::Checked | SourceOutcome::Copied(_) => panic!("not asked for"),
                }
                return (outcome, vm);
            }
            _ => {}
        }
    }
    panic!("it does not end");
}

#[derive(Clone, Debug)]
enum Mutation {
    Flip(usize, u8),
    Cut(usize),
    Drop(usize, usize),
    Insert(usize, Vec<u8>),
    Copy(usize, usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<usize>(), 1u8..).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        any::<usize>().prop_map(Mutation::Cut),
        (any::<usize>(), 1usize..64).prop_map(|(at, n)| Mutation::Drop(at, n)),
        (any::<usize>(), vec(any::<u8>(), 1..32)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (any::<usize>(), any::<usize>(), 1usize..64).prop_map(|(from, to, n)| Mutation::Copy(from, to, n)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let len = bytes.len();
    if len == 0 {
        return;
    }
    match mutation {
        Mutation::Flip(at, bits) => bytes[at % len] ^= bits,
        Mutation::Cut(at) => bytes.truncate(at % len),
        Mutation::Drop(at, n) => drop(bytes.drain(at % len..(at % len + n).min(len))),
        Mutation::Insert(at, new) => drop(bytes.splice(at % len..at % len, new.iter().copied())),
        Mutation::Copy(from, to, n) => {
            let part = bytes[from % len..(from % len + n).min(len)].to_vec();
            bytes.splice(to % len..to % len, part);
        }
    }
}

/// The pieces that a mutated stream falls into: by the lengths its headers claim, as a sender would write it.
fn torn(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut want = 16;
    let mut header = false;
    while !stream.is_empty() {
        let (piece, rest) = stream.split_at(want.min(stream.len()));
        out.push(piece.to_vec());
        stream = rest;
        header = !header || want == 0;
        want = match piece.first_chunk().map(RecordHeader::from_bytes) {
            Some(Ok((h, _))) if header => 16.max(h.len as usize),
            _ => 16,
        };
    }
    out
}

fn body_of_any_kind() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let kind = prop_oneof![
        9 => proptest::sample::select(RecordType::ALL.iter().map(|k| *k as u16).collect::<Vec<_>>()),
        1 => any::<u16>(),
    ];
    (kind, vec(any::<u8>(), 0..200))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_into_a_target(pieces in vec(vec(any::<u8>(), 0..64), 0..8)) {
        prop_assert!(!into_target(&pieces).vm.runs);
    }

    #[test]
    fn any_bytes_behind_a_good_header(bytes in vec(any::<u8>(), 0..200)) {
        let header = StreamHeader::OURS.to_bytes().to_vec();
        prop_assert!(!into_target(&[header.clone(), bytes.clone()]).vm.runs);
        let (_, vm) = into_source(&[header, bytes]);
        prop_assert!(vm.runs());
    }

    #[test]
    fn any_bodies_under_good_seals(
        prefix in 0usize..12,
        tail in vec(body_of_any_kind(), 1..6),
    ) {
        let mut stream = records(V1);
        stream.truncate(prefix);
        stream.extend(tail.clone());
        into_target(&pieces(&stream));
        let mut reply = records(V1_REPLY);
        reply.truncate(prefix);
        reply.extend(tail);
        into_source(&pieces(&reply));
    }

    #[test]
    fn altered_bodies_under_good_seals(
        at in any::<usize>(),
        mutations in vec(mutation(), 1..4),
    ) {
        let mut stream = records(V1);
        let i = at % stream.len();
        mutations.iter().for_each(|m| mutate(&mut stream[i].1, m));
        into_target(&pieces(&stream));
        let mut reply = records(V1_REPLY);
        let i = at % reply.len();
        mutations.iter().for_each(|m| mutate(&mut reply[i].1, m));
        into_source(&pieces(&reply));
    }

    #[test]
    fn altered_streams(mutations in vec(mutation(), 1..4)) {
        let mut stream = V1.to_vec();
        mutations.iter().for_each(|m| mutate(&mut stream, m));
        let fed = into_target(&torn(&stream));
        // What was altered and runs all the same was altered in the version only, or behind COMMIT.
        prop_assert!(!fed.vm.runs || stream.len() >= V1.len() && stream[16..V1.len()] == V1[16..]);
        let mut reply = V1_REPLY.to_vec();
        mutations.iter().for_each(|m| mutate(&mut reply, m));
        into_source(&torn(&reply));
    }

    #[test]
    fn control_bodies(kind in 0..RecordType::ALL.len(), bytes in vec(any::<u8>(), 0..100)) {
        let kind = RecordType::ALL[kind];
        let _ = body::decode::<Hello>(kind, &bytes);
        let _ = body::decode::<body::State>(kind, &bytes);
        let _ = body::decode::<body::Holding>(kind, &bytes);
        let _ = body::decode::<body::Verdict>(kind, &bytes);
        if let Ok(shape) = body::decode::<Shape>(kind, &bytes)
            && shape.validate().is_ok()
        {
            prop_assert!(!shape.mem_ranges().is_empty() && shape.pages() > 0);
        }
    }

    #[test]
    fn shapes_of_any_numbers(
        vcpus in any::<u32>(),
        ranges in vec((any::<u64>(), any::<u64>()), 0..5),
        tsc_hz in any::<u64>(),
        gfn in any::<u64>(),
        count in any::<u64>(),
    ) {
        let ranges = ranges.iter().map(|&(first, pages)| migrate::PageRange { first, pages }).collect();
        let shape = Shape { vcpus, ranges, tsc_hz, devices: vec![] };
        let read: Shape = body::decode(RecordType::Shape, &body::encode(&shape)).unwrap();
        prop_assert_eq!(&read, &shape);
        let _ = (shape.validate(), shape.covers(gfn, count), shape.next_frame(gfn), shape.pages(), shape.mem_ranges());
    }

    #[test]
    fn memory_bodies(bytes in vec(any::<u8>(), 0..9000)) {
        let mut runs = Runs::default();
        let mut n = 0;
        while let Ok(Some(run)) = runs.next(&bytes) {
            prop_assert!(run.count > 0);
            if let Content::Data(at) = run.content {
                prop_assert!(at + run.count as usize * PAGE_BYTES <= bytes.len());
            }
            n += 1;
            prop_assert!(n <= bytes.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn memory_round_trips(
        pages in vec((0u64..10, prop_oneof![3 => Just(0u64), 2 => Just(0xcc), 2 => 1u64..4, 3 => Just(u64::MAX)]), 1..100),
    ) {
        struct Vm(Vec<(u64, Page)>, usize);
        // Each page follows the one before it at some distance; u64::MAX stands for data.
        let mut gfn = 0;
        let mut vm = Leaving::new(&[(0, 100 * 10)]);
        let mut list = Vm(Vec::new(), 0);
        for (i, (gap, word)) in pages.iter().enumerate() {
            gfn += gap / 7 * gap;
            let page = &mut vm.pages[gfn as usize];
            for chunk in page.chunks_exact_mut(8) {
                chunk.copy_from_slice(&word.to_le_bytes());
            }
            if *word == u64::MAX {
                page[8..16].copy_from_slice(&(i as u64).to_le_bytes());
            }
            list.0.push((gfn, *page));
            gfn += 1;
        }
        let mut encoder = Encoder::new();
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        let end = |encoder: &mut Encoder| encoder.take(|buf, len| buf[16..len].to_vec());
        for (gfn, page) in &list.0 {
            if encoder.is_full() {
                bodies.push(end(&mut encoder));
            }
            let kind = encoder.add(*gfn, &mut vm).unwrap();
            prop_assert_eq!(kind, Some(scan(page)));
            prop_assert_eq!(kind == Some(PageKind::Data), page[8..16] != page[..8]);
        }
        bodies.push(end(&mut encoder));
        for body in &bodies {
            prop_assert!(body.len() <= migrate::limits::MAX_MEMORY_BODY);
            let mut runs = Runs::default();
            while let Some(run) = runs.next(body).unwrap() {
                for i in 0..run.count {
                    let (gfn, page) = list.0[list.1];
                    list.1 += 1;
                    prop_assert_eq!(gfn, run.first + i);
                    match run.content {
                        Content::Fill(word) => prop_assert_eq!(scan(&page), PageKind::Fill(word)),
                        Content::Lz4(_) | Content::Delta(_) => panic!("nothing asked for it"),
                        Content::Data(at) => {
                            let at = at + i as usize * PAGE_BYTES;
                            prop_assert!(body[at..at + PAGE_BYTES] == page);
                        }
                    }
                }
            }
        }
        prop_assert_eq!(list.1, list.0.len());
        prop_assert!(vm.read_page(0, &mut [0; PAGE_BYTES]).is_ok());
    }
}

/// Fault 1.6: a small VM once brought 16 MiB of state, which a host held in its heap until all of it was there.
#[test]
fn more_state_than_such_a_vm_has_is_refused_before_it_is_held() {
    const BYTES: usize = 60 * 1024;
    let state = |instance| body::State { kind: "vcpu".into(), instance, version: 1, body: vec![0x5a; BYTES] };
    let mut all = records(V1);
    all.retain({
        let mut memory = true;
        move |(kind, _)| {
            memory &= *kind != RecordType::State as u16;
            memory
        }
    });
    all.extend((0..64).map(|instance| (RecordType::State as u16, body::encode(&state(instance)))));
    let fed = into_target(&pieces(&all));
    let shape = fed.target.shape().unwrap();
    let most = 128 * 1024 + shape.vcpus as usize * 64 * 1024 + shape.devices.len() * 16 * 1024;
    let why = fed.failure();
    assert!(why.contains(&format!("such a VM has at most {most}")), "{why}");
    assert!(most < 4 * BYTES + 128 * 1024, "{most} bytes for a guest of a few pages");

    // The source does not even begin to send them.
    let mut going = small_guest();
    going.states = (0..64).map(|instance| state(instance).into()).collect();
    let (source, _) = World::new(going).finish();
    assert!(source.to_string().contains("state record vcpu of "), "{source}");
}
