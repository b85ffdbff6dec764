//! What a VM was made from goes along with it: before its memory, and only what the target lacks.
#![allow(missing_docs)]

mod common;

use common::*;
use migrate::origin::Piece;
use migrate::wire::RecordType;
use migrate::{Note, Origin, OriginFile, Reason, SourceOutcome, TargetOutcome, body};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A kernel of some records, an initrd, a module without content.
fn files() -> Vec<Vec<u8>> {
    let bytes = |len: usize, by: usize| (0..len).map(|at| ((at * by) >> 3) as u8).collect();
    vec![bytes(20_001, 7), bytes(8192, 11), Vec::new()]
}

fn origin_of(files: &[Vec<u8>]) -> Origin {
    let described = files.iter().map(|bytes| OriginFile {
        sha256: Some(sha256(bytes)),
        len: bytes.len() as u64,
        text: "a module".into(),
        url: Some("http://10.0.0.9/k".into()),
        stays: None,
    });
    Origin {
        options: "mem=64 level=haswell".into(),
        args: "console=ttyS0".into(),
        files: described.collect(),
    }
}

fn world() -> World {
    let mut guest = small_guest();
    guest.files = files();
    let mut params = source_params(&guest);
    params.origin = Some(origin_of(&guest.files));
    World::with(guest, params)
}

fn notes(world: &mut World) -> Vec<Note> {
    std::iter::from_fn(|| world.source.take_note()).collect()
}

#[test]
fn files_go_along_before_the_memory() {
    let mut world = world();
    world.finish();
    world.assert_moved();
    let sent = records(&world.cable.borrow().wires[0].record);
    let last = sent.iter().rposition(|(kind, _)| *kind == RecordType::File as u16);
    let memory = sent.iter().position(|(kind, _)| *kind == RecordType::Memory as u16);
    assert!(last.is_some() && last < memory, "{last:?} {memory:?}");
    let want = files();
    assert_eq!(world.coming.origin.as_ref(), Some(&origin_of(&want)));
    assert_eq!(world.coming.whole, [0, 1]);
    assert!(world.coming.files[&0] == want[0] && world.coming.files[&1] == want[1]);
    assert_eq!(notes(&mut world), []);
}

#[test]
fn what_the_target_has_or_finds_too_large_does_not_come() {
    let mut world = world();
    world.coming.has = vec![sha256(&files()[1])];
    world.finish();
    world.assert_moved();
    assert_eq!(world.coming.whole, [0]);

    let mut world = self::world();
    world.coming.max_file = 10_000;
    world.finish();
    world.assert_moved();
    assert_eq!(world.coming.whole, [1]);
}

#[test]
fn one_without_a_digest_is_named_and_stays() {
    let mut guest = small_guest();
    guest.files = files();
    let mut params = source_params(&guest);
    let mut origin = origin_of(&guest.files);
    origin.files[0].sha256 = None;
    origin.files.push(OriginFile { stays: Some(true), ..origin.files[1].clone() });
    origin.files[3].sha256 = Some([3; 32]);
    params.origin = Some(origin.clone());
    let mut world = World::with(guest, params);
    world.finish();
    world.assert_moved();
    assert_eq!((world.coming.origin.as_ref(), &world.coming.whole[..]), (Some(&origin), &[1][..]));
}

#[test]
fn a_check_sends_none_of_it() {
    let mut guest = small_guest();
    guest.files = files();
    let mut params = source_params(&guest);
    params.origin = Some(origin_of(&guest.files));
    params.hello.check_only = true;
    let mut world = World::with(guest, params);
    assert_eq!(world.finish(), (SourceOutcome::Checked, TargetOutcome::Checked));
    let sent = records(&world.cable.borrow().wires[0].record);
    assert!(!sent.iter().any(|(kind, _)| *kind == RecordType::Origin as u16));
}

/// A target of before skips ORIGIN and says nothing of files: it gets none, and the operator is told.
#[test]
fn an_older_target_takes_the_vm_without() {
    let mut plain = World::new(small_guest());
    plain.finish();
    let answers = records(&plain.cable.borrow().wires[1].record);
    let mut world = world();
    for piece in pieces(&answers).into_iter().take(3) {
        world.poll_source();
        world.cable.borrow_mut().wires[1].bytes.extend(piece);
    }
    for _ in 0..100 {
        world.poll_source();
    }
    assert_eq!(notes(&mut world), [Note::NoOrigin]);
    let sent = records(&world.cable.borrow().wires[0].record);
    let kinds = |wanted: RecordType| sent.iter().filter(|(kind, _)| *kind == wanted as u16).count();
    assert_eq!((kinds(RecordType::Origin), kinds(RecordType::File)), (1, 0));
    assert!(kinds(RecordType::Memory) > 0, "its memory does not come");
}

/// An older source says nothing of it, and is answered as before.
#[test]
fn an_older_source_is_answered_as_before() {
    let mut world = World::new(small_guest());
    world.finish();
    world.assert_moved();
    assert_eq!(world.coming.origin, None);
    let answers = records(&world.cable.borrow().wires[1].record);
    let verdict: body::Verdict = body::decode(RecordType::Verdict, &answers[1].1).unwrap();
    assert_eq!((verdict.files, &answers[1].1[..]), (None, &[0xa0][..]));
}

#[test]
fn a_line_that_no_record_holds_is_told() {
    let guest = small_guest();
    let mut params = source_params(&guest);
    params.origin = Some(Origin { args: "x".repeat(70_000), ..origin_of(&files()) });
    let mut world = World::with(guest, params);
    world.finish();
    world.assert_moved();
    assert_eq!((notes(&mut world), &world.coming.origin), (vec![Note::LongOrigin], &None));
}

/// The connection is cut at each of so many places in the middle of the files: the guest runs on, nothing is left.
#[test]
fn a_cut_leaves_the_source_running_and_the_target_clean() {
    let mut whole = world();
    while whole.coming.whole.len() < 2 {
        whole.turn();
    }
    let end = whole.cable.borrow().wires[0].left;
    for silent in [false, true] {
        for cut in (40..end).step_by(if silent { 997 } else { 61 }) {
            let mut world = world();
            world.cable.borrow_mut().cut[0] = cut;
            world.cable.borrow_mut().silent = silent;
            world.tick = if silent { 50_000 } else { 100 };
            let (source, target) = world.finish();
            assert!(matches!(source, SourceOutcome::Failed(_)), "cut at {cut}: {source:?}");
            assert!(matches!(target, TargetOutcome::Failed(_)), "cut at {cut}: {target:?}");
            world.assert_stayed();
            assert!(world.coming.files.is_empty(), "cut at {cut} leaves a file");
        }
    }
}

#[test]
fn another_digest_is_refused_by_name() {
    let mut world = world();
    world.leaving.files[1][5000] ^= 1;
    let (source, target) = world.finish();
    let (said, named) = (sha256(&world.leaving.files[1]), sha256(&files()[1]));
    let hex = |digest: [u8; 32]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let text = format!("FILE body: file 1 has the sha256 {}, not {}", hex(said), hex(named));
    assert_eq!(failed(&source), &Reason::Peer(text.clone()));
    let TargetOutcome::Failed(why) = target else { panic!("{target:?}") };
    assert_eq!(why.to_string(), text);
    world.assert_stayed();
    assert!(world.coming.files.is_empty());
}

#[test]
fn a_file_that_cannot_be_read_leaves_the_guest_here() {
    let mut guest = small_guest();
    guest.files = files();
    let mut params = source_params(&guest);
    let mut origin = origin_of(&guest.files);
    origin.files[1].len = 4096;
    origin.files[1].sha256 = Some(sha256(&files()[1][..4096]));
    params.origin = Some(origin);
    let mut world = World::with(guest, params);
    world.finish();
    world.assert_moved();
    assert_eq!(world.coming.files[&1], files()[1][..4096], "no byte beyond its length");
}

/// What a peer says, up to the VM's first page: HELLO, POLICY, ORIGIN, SHAPE; then `pieces`.
fn told(origin: &Origin, pieces: &[Vec<u8>]) -> FedTarget {
    let params = source_params(&small_guest());
    let mut fed = FedTarget::new();
    fed.feed(&migrate::wire::StreamHeader::OURS.to_bytes());
    let mut said = vec![
        (RecordType::Hello, body::encode(&params.hello)),
        (RecordType::Policy, params.policy),
        (RecordType::Origin, body::encode(origin)),
        (RecordType::Shape, body::encode(&params.shape)),
    ];
    said.extend(pieces.iter().map(|piece| (RecordType::File, piece.clone())));
    for (seq, (kind, body)) in (0..).zip(said) {
        fed.feed(&record(seq, kind as u16, &body));
    }
    fed
}

fn piece(number: u32, offset: u64, bytes: &[u8]) -> Vec<u8> {
    [&Piece::head(number, offset)[..], bytes].concat()
}

#[test]
fn pieces_out_of_place_are_refused() {
    let files = files();
    let origin = origin_of(&files);
    for (bad, text) in [
        (piece(1, 0, b"x"), "FILE body: file 1 from 0, file 0 from 0 is due"),
        (piece(0, 1, b"x"), "FILE body: file 0 from 1, file 0 from 0 is due"),
        (piece(0, 0, &[0; 20_002]), "FILE body: 20002 bytes from 0 of file 0, which has 20001"),
        (piece(0, 0, b""), "FILE body: 12 bytes, with none of a file"),
        (piece(9, u64::MAX, b"x"), "FILE body: file 9 from 18446744073709551615, file 0 from 0 is due"),
    ] {
        let fed = told(&origin, &[bad]);
        let Some(TargetOutcome::Failed(why)) = fed.outcome else { panic!("{text}: {:?}", fed.outcome) };
        assert_eq!(why.to_string(), text);
        assert!(!fed.vm.made);
    }
    let all = [piece(0, 0, &files[0]), piece(1, 0, &files[1])];
    let fed = told(&origin, &all);
    assert_eq!((&fed.outcome, &fed.vm.whole[..]), (&None, &[0, 1][..]));
    let fed = told(&origin, &[&all[..], &[piece(1, 0, b"x")]].concat());
    let Some(TargetOutcome::Failed(why)) = fed.outcome else { panic!("{:?}", fed.outcome) };
    assert_eq!(why.to_string(), "FILE body: file 1 from 0, none is due");
}

#[test]
fn state_before_the_files_are_here_is_refused() {
    let mut plain = World::new(small_guest());
    plain.finish();
    let sent = records(&plain.cable.borrow().wires[0].record);
    let mut fed = told(&origin_of(&files()), &[piece(0, 0, b"the beginning")]);
    let rest = sent.iter().filter(|(kind, _)| {
        [RecordType::Memory, RecordType::RoundEnd, RecordType::State, RecordType::StateEnd]
            .iter()
            .any(|wanted| *kind == *wanted as u16)
    });
    for (seq, (kind, body)) in (5..).zip(rest) {
        fed.feed(&record(seq, *kind, body));
    }
    let Some(TargetOutcome::Failed(why)) = fed.outcome else { panic!("{:?}", fed.outcome) };
    assert_eq!(why.to_string(), "STATE_END body: file 0 is not all here");
}

#[test]
fn a_target_that_asks_for_what_is_not_offered_gets_nothing() {
    for bad in [vec![2], vec![3], vec![1, 0], vec![0, 0]] {
        let mut world = world();
        let mut plain = World::new(small_guest());
        plain.finish();
        let mut answers = records(&plain.cable.borrow().wires[1].record);
        let verdict = body::Verdict { refused: None, warning: None, purpose: None, files: Some(bad.clone()) };
        answers[1].1 = body::encode(&verdict);
        for piece in pieces(&answers).into_iter().take(3) {
            world.poll_source();
            world.cable.borrow_mut().wires[1].bytes.extend(piece);
        }
        for _ in 0..100 {
            world.poll_source();
        }
        let outcome = world.source_outcome.as_ref().unwrap_or_else(|| panic!("{bad:?}: no end"));
        assert!(failed(outcome).to_string().starts_with("VERDICT body: it asks for file"), "{outcome:?}");
        assert!(world.leaving.runs());
    }
}

proptest! {
    #[test]
    fn origins_round_trip(options in ".{0,40}", args in ".{0,80}", lens in prop::collection::vec(0..1_u64 << 40, 1..64)) {
        let file = |len: u64| OriginFile {
            sha256: (!len.is_multiple_of(3)).then_some([len as u8; 32]),
            len,
            text: format!("{len}"),
            url: len.is_multiple_of(2).then(|| format!("tftp://10.0.0.1/{len}")),
            stays: len.is_multiple_of(5).then_some(true),
        };
        let origin = Origin { options, args, files: lens.into_iter().map(file).collect() };
        prop_assert!(origin.validate().is_ok());
        let bytes = body::encode(&origin);
        let back: Origin = body::decode(RecordType::Origin, &bytes).unwrap();
        prop_assert_eq!(&back, &origin);
        let mut long = bytes.clone();
        long.push(0);
        prop_assert!(body::decode::<Origin>(RecordType::Origin, &long).is_err());
        prop_assert!(body::decode::<Origin>(RecordType::Origin, &bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(origin) = body::decode::<Origin>(RecordType::Origin, &bytes) {
            let _ = origin.validate();
        }
        let _ = Piece::read(&bytes);
    }
}
