//! The streams of released versions load forever.
//!
//! `golden/v1.bin` is what a source sent, `golden/v1-reply.bin` what its target answered. They are never
//! written again; a new version gets files of its own (`cargo test -p migrate --test golden -- --ignored`).
#![allow(missing_docs)]

mod common;

use common::*;
use migrate::body;
use migrate::memory::{Content, Runs};
use migrate::wire::{RecordType, StreamHeader};
use migrate::{Compression, SourceEvent, SourceOutcome, TargetEvent, TargetOutcome};

const V1: &[u8] = include_bytes!("golden/v1.bin");
const V1_REPLY: &[u8] = include_bytes!("golden/v1-reply.bin");
const V2: &[u8] = include_bytes!("golden/v2.bin");
const V2_REPLY: &[u8] = include_bytes!("golden/v2-reply.bin");
/// FNV-1a over the memory that `v2.bin` carries.
const V2_MEMORY: u64 = 0x292eeabd7546099f;
/// FNV-1a over the memory that `v1.bin` carries.
const V1_MEMORY: u64 = 0xc1a1_4482_adb8_d294;

fn golden_guest() -> Leaving {
    let mut vm = Leaving::new(&[(0, 4), (16, 300)]);
    vm.pause_delay = 0;
    let mut rng = Rng(7);
    for i in [1usize, 2, 100] {
        vm.pages[i].iter_mut().for_each(|b| *b = rng.next() as u8);
    }
    for i in 40..60 {
        vm.pages[i].fill(0xcc);
    }
    vm.writes = (0..400).map(|i| [2, 17, 116, 50][i % 4]).collect();
    vm
}

fn fnv(pages: &[Page]) -> u64 {
    pages
        .iter()
        .flatten()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
#[ignore = "writes the files of a new version"]
fn write() {
    let mut params = source_params(&golden_guest());
    params.tuning.compression = Compression::Auto;
    params.tuning.verify = true;
    let mut world = World::with(golden_guest(), params);
    world.finish();
    world.assert_moved();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/");
    let version = migrate::wire::VERSION;
    let cable = world.cable.borrow();
    for (name, wire) in [("", &cable.wires[0]), ("-reply", &cable.wires[1])] {
        let path = format!("{dir}v{version}{name}.bin");
        assert!(
            std::fs::read(&path).unwrap_or_default().is_empty(),
            "{path} is there: it is never written again"
        );
        std::fs::write(path, &wire.record).unwrap();
    }
    panic!("written; the memory's hash is {:#018x}", fnv(&world.coming.pages));
}

#[test]
fn v1_loads() {
    let mut fed = FedTarget::new();
    for piece in pieces(&records(V1)) {
        fed.feed(&piece);
    }
    assert_eq!(fed.outcome, Some(TargetOutcome::Runs));
    assert_eq!(fnv(&fed.vm.pages), V1_MEMORY);
    assert_eq!(fed.vm.ranges.len(), 2);
    assert_eq!(fed.vm.policy, b"policy of demo");
    let states: Vec<_> = fed.vm.states.iter().map(|s| (s.kind.as_str(), s.instance, s.version)).collect();
    assert_eq!(states, [("vcpu", 0, 1), ("uart", 0, 2)]);
    assert_eq!(fed.vm.states[0].body, [0xa1, 0x00, 0x18, 0x2a]);
    assert!(matches!(fed.events.last(), Some(TargetEvent::Running { downtime_ns }) if *downtime_ns > 0));
    assert!(fed.events.iter().any(|e| matches!(e, TargetEvent::Round { round: 1, pages: 304, .. })));
}

#[test]
fn v2_loads() {
    let mut fed = FedTarget::new();
    for piece in pieces(&records(V2)) {
        fed.feed(&piece);
    }
    assert_eq!(fed.outcome, Some(TargetOutcome::Runs));
    assert_eq!(fnv(&fed.vm.pages), V2_MEMORY);
    // It is of version 2: the ends can ask each other, and pages are packed.
    assert!(fed.target.deal().is_some());
    assert!(V2.len() < V1.len());
    let replies: Vec<_> = records(V2_REPLY).iter().map(|(kind, _)| *kind).collect();
    let kinds = [RecordType::HelloAck, RecordType::Verdict, RecordType::Ready, RecordType::Running];
    assert_eq!(replies, kinds.map(|kind| kind as u16));
}

#[test]
fn v1_reads_record_by_record() {
    assert_eq!(StreamHeader::from_bytes(V1.first_chunk().unwrap()).unwrap().agree(), Ok(1));
    let mut seen = Vec::new();
    for (kind, body) in records(V1) {
        let kind = RecordType::from_u16(kind).unwrap();
        seen.push(kind);
        match kind {
            RecordType::Hello => {
                let hello: body::Hello = body::decode(kind, &body).unwrap();
                assert_eq!((hello.vm_name.as_str(), hello.check_only), ("demo", false));
                assert_eq!((hello.migration, hello.vm_uuid, hello.boot), ([1; 16], [2; 16], [3; 16]));
            }
            RecordType::Shape => {
                let shape: body::Shape = body::decode(kind, &body).unwrap();
                assert_eq!((shape.vcpus, shape.tsc_hz, shape.pages()), (1, 20_000_000, 304));
                assert_eq!(shape.devices, ["uart/2", "lapic/1"]);
            }
            RecordType::Memory => {
                let mut runs = Runs::default();
                let mut fill = 0;
                while let Some(run) = runs.next(&body).unwrap() {
                    fill += if run.content == Content::Fill(0xcccc_cccc_cccc_cccc) { run.count } else { 0 };
                }
                if seen.iter().filter(|k| **k == RecordType::Memory).count() == 1 {
                    assert!(fill >= 19);
                }
            }
            RecordType::Commit => {
                let commit: body::Commit = body::decode(kind, &body).unwrap();
                assert!(commit.migration == [1; 16] && commit.paused_ns > 0);
            }
            _ => {}
        }
    }
    assert_eq!(seen[..4], [RecordType::Hello, RecordType::Policy, RecordType::Shape, RecordType::Memory]);
    let tail = &seen[seen.len() - 4..];
    assert_eq!(tail, [RecordType::State, RecordType::State, RecordType::StateEnd, RecordType::Commit]);
}

#[test]
fn v1_replies_are_understood() {
    let replies = records(V1_REPLY);
    let kinds: Vec<_> = replies.iter().map(|(k, _)| RecordType::from_u16(*k).unwrap()).collect();
    use RecordType::{HelloAck, Ready, Running, Verdict};
    assert_eq!(kinds, [HelloAck, Verdict, Ready, Running]);
    // READY must hold exactly what the source has counted: take that from its STATE_END.
    let sent = records(V1);
    let end = sent.iter().find(|(k, _)| *k == RecordType::StateEnd as u16).unwrap();
    let sent: body::Holding = body::decode(RecordType::StateEnd, &end.1).unwrap();
    let held: body::Holding = body::decode(Ready, &replies[2].1).unwrap();
    assert_eq!(sent, held);

    // A source of today, up to READY, which answers another stream than the one it sends.
    let mut vm = golden_guest();
    let mut source = migrate::Source::new(source_params(&vm), 0);
    let mut link = Hand::default();
    let mut replies = pieces(&replies).into_iter();
    for now in 1..1_000_000 {
        match source.poll(now * 100, &mut link, &mut vm) {
            SourceEvent::Waiting => link.input.extend(replies.next().unwrap()),
            SourceEvent::Finished(outcome) => {
                let understood = match outcome {
                    SourceOutcome::Done(_) => true,
                    SourceOutcome::Failed(reason) => matches!(reason, migrate::Reason::Differs { .. }),
                    _ => false,
                };
                assert!(understood);
                return;
            }
            _ => {}
        }
    }
    panic!("it does not end");
}
