//! The digest of the whole RAM at switch-over, and pages in a smaller form.
#![allow(missing_docs)]

mod common;

use common::*;
use migrate::{Compression, SourceOutcome, TargetOutcome};

fn world(compression: Compression) -> World {
    let leaving = small_guest();
    let mut params = source_params(&leaving);
    params.tuning.verify = true;
    params.tuning.compression = compression;
    params.tuning.pages_per_poll = 5;
    World::with(leaving, params)
}

#[test]
fn a_verified_guest_moves_in_any_form() {
    for compression in [Compression::None, Compression::Lz4, Compression::Delta, Compression::Auto] {
        let mut world = world(compression);
        let (source, target) = world.finish();
        assert!(matches!(source, SourceOutcome::Done(_)), "{source:?}");
        assert_eq!(target, TargetOutcome::Runs);
        world.assert_moved();
        assert!(world.source.totals().ram.is_some());
        assert_eq!(world.source.totals().ram, world.target.totals().ram);
    }
}

#[test]
fn ram_that_differs_is_refused_by_name() {
    let mut world = world(Compression::None);
    let mut spoilt = false;
    for _ in 0..100_000 {
        world.turn();
        if !spoilt && world.source.doing() == "digesting memory" {
            world.coming.pages[3][7] ^= 1;
            spoilt = true;
        }
        if world.source_outcome.is_some() && world.target_outcome.is_some() {
            break;
        }
    }
    assert!(spoilt);
    let Some(TargetOutcome::Failed(reason)) = &world.target_outcome else {
        panic!("{:?}", world.target_outcome)
    };
    assert!(reason.to_string().contains("digests of RAM"), "{reason}");
    let Some(SourceOutcome::Failed(reason)) = &world.source_outcome else {
        panic!("{:?}", world.source_outcome)
    };
    assert!(reason.to_string().contains("digests of RAM"), "{reason}");
    assert!(world.leaving.runs() && !world.coming.runs);
}
