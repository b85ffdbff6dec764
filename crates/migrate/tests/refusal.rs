//! Unfit hosts, wrong streams, broken rules: each ends in a named reason.
#![allow(missing_docs)]

mod common;

use common::*;
use migrate::wire::{RecordType, StreamHeader};
use migrate::{PageRange, SourceOutcome, TargetOutcome, body};

const WHY: &str = "CPUID.7.0:EBX[5] AVX2 is not there";

#[test]
fn an_unfit_target_refuses_before_a_byte_of_memory() {
    let mut world = World::new(small_guest());
    world.coming.refuse = Some(WHY.into());
    let (source, target) = world.finish();
    assert_eq!(source.to_string(), format!("failed: peer refuses: {WHY} (running here)"));
    assert_eq!(target, TargetOutcome::Refused(WHY.into()));
    world.assert_stayed();
    assert!(world.leaving.log.is_empty(), "the guest was not touched");
    let cable = world.cable.borrow();
    let sent = records(&cable.wires[0].record);
    let kinds: Vec<_> = sent.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [RecordType::Hello as u16, RecordType::Policy as u16, RecordType::Shape as u16]);
    assert!(cable.wires[0].entered < 400, "{} bytes", cable.wires[0].entered);
}

#[test]
fn a_check_ends_with_the_verdict() {
    for refuse in [None, Some(WHY.to_string())] {
        let leaving = small_guest();
        let mut params = source_params(&leaving);
        params.hello.check_only = true;
        let mut world = World::with(leaving, params);
        world.coming.refuse = refuse.clone();
        let (source, target) = world.finish();
        match refuse {
            None => assert_eq!((source, target), (SourceOutcome::Checked, TargetOutcome::Checked)),
            Some(why) => {
                assert_eq!(failed(&source), &migrate::Reason::Refused(why.clone()));
                assert_eq!(target, TargetOutcome::Refused(why));
            }
        }
        world.assert_stayed();
        assert!(world.leaving.log.is_empty());
        assert_eq!(world.coming.log, ["check"]);
        assert_eq!(world.cable.borrow().wires[0].record.len(), records_len(&world, 3));
    }
}

fn records_len(world: &World, count: usize) -> usize {
    let all = records(&world.cable.borrow().wires[0].record);
    assert_eq!(all.len(), count);
    16 + all.iter().map(|(_, body)| 16 + body.len()).sum::<usize>()
}

#[test]
fn a_target_without_memory_refuses() {
    let mut world = World::new(small_guest());
    world.coming.no_memory = true;
    let (source, _) = world.finish();
    assert_eq!(source.to_string(), "failed: peer refuses: needs 24 pages, 0 are free (running here)");
    world.assert_stayed();
}

#[test]
fn state_that_does_not_fit_leaves_the_guest_here() {
    let mut world = World::new(small_guest());
    world.coming.bad_state = Some("IA32_EFER has bit 63 set".into());
    let (source, target) = world.finish();
    let text = "state record vcpu: IA32_EFER has bit 63 set";
    assert_eq!(source.to_string(), format!("failed: peer: {text} (running here)"));
    assert!(matches!(target, TargetOutcome::Failed(reason) if reason.to_string() == text));
    world.assert_stayed();
    assert_eq!(world.leaving.log, ["track", "pause", "give_back", "untrack", "resume"]);
    assert_eq!(world.coming.log, ["check", "create", "destroy"]);
}

#[test]
fn another_protocol_is_told_by_its_first_bytes() {
    let mut fed = FedTarget::new();
    fed.feed(b"GET ");
    assert_eq!(fed.failure(), "not a Flexvisor migration stream: first bytes 47 45 54 20");
    assert!(fed.link.output.is_empty());
    let mut fed = FedTarget::new();
    fed.feed(b"FLEXMIG\n and more than a header");
    assert!(fed.failure().starts_with("not a Flexvisor migration stream"));
    let mut fed = FedTarget::new();
    fed.feed(b"hi");
    assert_eq!(fed.outcome, None);
    fed.close();
    assert!(fed.failure().starts_with("not a Flexvisor migration stream: first bytes 68 69"));
}

#[test]
fn a_source_at_another_service_says_so() {
    let mut world = World::new(small_guest());
    world.cable.borrow_mut().wires[1].bytes.extend(b"SSH-2.0-OpenSSH");
    world.poll_source();
    world.poll_source();
    let text = world.source_outcome.unwrap().to_string();
    assert_eq!(text, "failed: not a Flexvisor migration stream: first bytes 53 53 48 2d (running here)");
}

#[test]
fn a_later_version_without_a_common_one_is_refused_to_both() {
    let mut fed = FedTarget::new();
    fed.feed(&StreamHeader { version: 7, oldest: 6 }.to_bytes());
    assert_eq!(fed.failure(), "peer speaks versions 6 to 7, this host 1 to 2");
    let said = records(&fed.link.output);
    let abort: body::Abort = body::decode(RecordType::Abort, &said[0].1).unwrap();
    assert_eq!(abort.reason, fed.failure());
    let mut fed = FedTarget::new();
    fed.feed(&StreamHeader { version: 7, oldest: 1 }.to_bytes());
    assert_eq!(fed.outcome, None);
}

/// The records of a good migration of `small_guest`, without signs of life.
fn good() -> Vec<(u16, Vec<u8>)> {
    let mut world = World::new(small_guest());
    world.finish();
    let stream = std::mem::take(&mut world.cable.borrow_mut().wires[0].record);
    records(&stream)
}

fn feed(records: &[(u16, Vec<u8>)]) -> FedTarget {
    let mut fed = FedTarget::new();
    for piece in pieces(records) {
        fed.feed(&piece);
    }
    fed
}

fn at(records: &[(u16, Vec<u8>)], kind: RecordType) -> usize {
    records.iter().position(|(k, _)| *k == kind as u16).unwrap()
}

#[test]
fn the_good_stream_is_good() {
    let fed = feed(&good());
    assert_eq!(fed.outcome, Some(TargetOutcome::Runs));
}

#[test]
fn unknown_records_are_skipped_or_refused() {
    let mut stream = good();
    stream.insert(4, (0x9234, b"of a later version".to_vec()));
    assert_eq!(feed(&stream).outcome, Some(TargetOutcome::Runs));
    stream[4].0 = 0x1234;
    assert_eq!(feed(&stream).failure(), "unknown mandatory record type 0x1234");
}

#[test]
fn leaving_out_or_doubling_any_record_is_noticed() {
    let stream = good();
    let commit = at(&stream, RecordType::Commit);
    for i in 0..commit {
        let mut short = stream.clone();
        short.remove(i);
        let mut fed = feed(&short);
        fed.close();
        assert!(!fed.vm.runs && !fed.failure().is_empty(), "record {i} left out");
        let mut long = stream.clone();
        long.insert(i, stream[i].clone());
        let mut fed = feed(&long);
        fed.close();
        assert!(!fed.vm.runs && !fed.failure().is_empty(), "record {i} doubled");
    }
}

#[test]
fn exchanging_any_two_neighbours_is_noticed() {
    let stream = good();
    for i in 0..stream.len() - 1 {
        let mut other = stream.clone();
        other.swap(i, i + 1);
        if other == stream {
            continue;
        }
        let mut fed = feed(&other);
        fed.close();
        assert!(!fed.vm.runs, "records {i} and {} exchanged", i + 1);
    }
}

fn commit_of(paused_ns: u64, exported_ns: u64) -> body::Commit {
    body::Commit { migration: [1; 16], paused_ns, exported_ns, transit_ns: 1 }
}

#[test]
fn commit_is_only_taken_for_this_migration_and_after_ready() {
    let stream = good();
    let commit = at(&stream, RecordType::Commit);
    let mut other = stream.clone();
    other[commit].1 = body::encode(&body::Commit { migration: [9; 16], ..commit_of(u64::MAX, 0) });
    assert_eq!(feed(&other).failure(), "COMMIT names another migration");
    other[commit].1 = body::encode(&commit_of(u64::MAX, 1));
    assert_eq!(
        feed(&other).failure(),
        "COMMIT body: downtime of 18446744073709551615 ns, 1 since the export"
    );
    other[commit].1 = body::encode(&commit_of(5, 6));
    assert_eq!(feed(&other).failure(), "COMMIT body: downtime of 6 ns, 6 since the export");
    for i in 0..commit {
        let mut early = stream[..i].to_vec();
        early.push(stream[commit].clone());
        let fed = feed(&early);
        assert!(fed.failure().starts_with("COMMIT "), "{}", fed.failure());
        assert!(!fed.vm.runs && !fed.vm.made);
    }
    // COMMIT that arrives together with STATE_END cannot be an answer to READY.
    let mut fed = FedTarget::new();
    let all = pieces(&stream);
    for piece in &all[..commit] {
        fed.feed(piece);
    }
    struct Full<'a>(&'a mut Hand);
    impl migrate::Link for Full<'_> {
        fn recv(&mut self, buf: &mut [u8]) -> usize {
            self.0.recv(buf)
        }
        fn send(&mut self, _: &[u8]) -> usize {
            0
        }
        fn is_open(&self) -> bool {
            true
        }
    }
    fed.link.input.extend(&all[commit]);
    fed.link.input.extend(&all[commit + 1]);
    for _ in 0..10 {
        fed.now += 1;
        fed.target.poll(fed.now, &mut Full(&mut fed.link), &mut fed.vm);
    }
    assert!(!fed.vm.runs);
}

fn memory(runs: &[&[u8]]) -> Vec<(u16, Vec<u8>)> {
    let mut stream = good();
    let first = at(&stream, RecordType::Memory);
    stream.truncate(first);
    stream.push((RecordType::Memory as u16, runs.concat()));
    stream
}

#[test]
fn bad_memory_is_refused_by_name() {
    // RAM is frames 0..10 and 16..30.
    let cases: [(&[&[u8]], &str); 14] = [
        (&[&[11 << 3, 0]], "MEMORY body: 11 pages at frame 0x0 are not guest RAM"),
        (&[&[10 << 3, 0], &[1 << 3, 0]], "MEMORY body: 1 pages at frame 0xa are not guest RAM"),
        (&[&[1 << 3, 1]], "MEMORY body: frame 0x1 out of order, 0x0 is next"),
        (&[&[0, 0]], "MEMORY body: run of 0 pages, 0 behind frame 0x0"),
        (&[&[1 << 3 | 3, 0, 9, 0, 1]], "MEMORY body: run at byte 2 is cut short"),
        (&[&[1 << 3 | 3, 0, 2, 0, 0xff, 0xff]], "MEMORY body: page at frame 0x0 is no LZ4 block"),
        (&[&[1 << 3 | 4, 0, 2, 0, 0, 0]], "MEMORY body: page at frame 0x0 is no delta"),
        (&[&[1 << 3 | 5, 0]], "MEMORY body: run of unknown kind 5"),
        (&[&[1 << 3 | 7, 0]], "MEMORY body: run of unknown kind 7"),
        (&[&[1 << 3 | 1, 0, 1, 2, 3]], "MEMORY body: run at byte 2 is cut short"),
        (&[&[1 << 3 | 2, 0], &[0; 4095]], "MEMORY body: run at byte 2 is cut short"),
        (&[&[1 << 3]], "MEMORY body: run at byte 1 is cut short"),
        (&[&[0x88, 0x80]], "MEMORY body: run at byte 0 is cut short"),
        (
            &[&[1 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]],
            "MEMORY body: run of 1 pages, 18446744073709551615 behind frame 0x0",
        ),
    ];
    for (runs, why) in cases {
        let fed = feed(&memory(runs));
        assert_eq!(fed.failure(), why);
        assert!(!fed.vm.made, "the copy is destroyed");
    }
}

#[test]
fn a_round_that_skips_pages_is_refused() {
    let mut stream = memory(&[&[10 << 3, 0]]);
    stream
        .push((RecordType::RoundEnd as u16, body::encode(&body::RoundEnd { round: 1, pages: 10, dirty: 0 })));
    assert_eq!(feed(&stream).failure(), "pages of the round differ: sent 24, held 10");
}

#[test]
fn an_altered_byte_anywhere_is_noticed() {
    let all = pieces(&good());
    for (i, piece) in all.iter().enumerate() {
        for byte in (0..piece.len()).filter(|b| *b < 64 || b % 509 == 0) {
            let mut fed = FedTarget::new();
            for good in &all[..i] {
                fed.feed(good);
            }
            let mut bad = piece.clone();
            bad[byte] ^= 0x04;
            fed.feed(&bad);
            fed.close();
            // The stream header's version may rise: the older one is still agreed on.
            let harmless = i == 0 && (8..10).contains(&byte);
            assert!(!fed.vm.runs && (harmless || !fed.failure().is_empty()), "piece {i}, byte {byte}");
        }
    }
}

#[test]
fn a_source_refuses_what_it_cannot_send() {
    let mut vm = small_guest();
    vm.states[0].body = vec![0; 300 * 1024];
    let mut world = World::new(vm);
    let (source, _) = world.finish();
    assert!(source.to_string().starts_with("failed: state record vcpu of 3072"), "{source}");
    world.assert_stayed();

    let vm = small_guest();
    let mut params = source_params(&vm);
    params.shape.ranges = vec![PageRange { first: 0, pages: 0 }];
    let mut world = World::with(vm, params);
    world.poll_source();
    let text = world.source_outcome.unwrap().to_string();
    assert_eq!(text, "failed: SHAPE body: memory range of 0 pages at frame 0x0 (running here)");
    assert_eq!(world.cable.borrow().wires[0].entered, 0);
}

#[test]
fn what_the_target_holds_must_be_what_was_sent() {
    let quiet = || Leaving { pause_delay: 0, writes: [].into(), ..small_guest() };
    let mut world = World::new(quiet());
    world.finish();
    let reply = records(&world.cable.borrow().wires[1].record);
    for field in 0..3 {
        let mut source = migrate::Source::new(source_params(&small_guest()), 0);
        let mut vm = quiet();
        let mut link = Hand::default();
        let mut pieces = pieces(&reply).into_iter();
        let mut now = 0;
        let outcome = loop {
            now += 100;
            vm.run_a_little();
            match source.poll(now, &mut link, &mut vm) {
                migrate::SourceEvent::Finished(outcome) => break outcome,
                migrate::SourceEvent::Waiting => {}
                _ => continue,
            }
            let Some(mut piece) = pieces.next() else { panic!("it took everything") };
            if piece[0] == RecordType::Ready as u8 {
                let mut held: body::Holding = body::decode(RecordType::Ready, &piece[16..]).unwrap();
                match field {
                    0 => held.digest ^= 1,
                    1 => held.pages += 1,
                    _ => held.migration[15] ^= 1,
                }
                piece = record(2, RecordType::Ready as u16, &body::encode(&held));
            }
            link.input.extend(piece);
        };
        let text = outcome.to_string();
        let want = ["digests differ", "pages differ", "READY names another migration"][field];
        assert!(text.starts_with("failed: ") && text.contains(want), "{text}");
        assert!(vm.runs() && !vm.given);
    }
}
