//! Two ends joined by a pipe in memory, and two VMs of a few pages.
#![allow(dead_code, unused_imports, missing_docs, unreachable_pub, clippy::missing_panics_doc)]

mod cable;
mod coming;
mod fed;
mod leaving;
mod settling;
mod world;

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::task::Poll;

use migrate::body::Fate;
use migrate::handover::{
    Answer, Deal, Question, SourceAction, SourceInput, SourceOwner, TargetAction, TargetInput, TargetOwner,
};
use migrate::{
    Hello, Link, Offer, PAGE_BYTES, PageRange, Reason, Shape, Source, SourceEvent, SourceOutcome,
    SourceParams, SourceVm, Target, TargetEvent, TargetMemory, TargetOutcome, TargetParams, TargetVm, Tuning,
};
use vm_types::{Gpa, MemoryError, StateError, StateRecord};

pub use cable::{Cable, End, Wire};
pub use coming::Coming;
pub use fed::{FedTarget, Hand, pieces, record, records};
pub use leaving::{Leaving, Log, STOP_TICKS};
pub use settling::Settling;
pub use world::World;

pub const HZ: u64 = 1_000_000;
pub type Page = [u8; PAGE_BYTES];

pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub fn index(ranges: &[PageRange], gfn: u64) -> Option<usize> {
    let mut before = 0;
    for r in ranges {
        if (r.first..r.first + r.pages).contains(&gfn) {
            return Some((before + gfn - r.first) as usize);
        }
        before += r.pages;
    }
    None
}

pub fn no_ram(gfn: u64) -> MemoryError {
    MemoryError { gpa: Gpa(gfn.saturating_mul(4096)), len: PAGE_BYTES }
}

pub fn tuning() -> Tuning {
    Tuning { pages_per_poll: 8, dirty_threshold: 2, ..Tuning::default() }
}

pub fn shape(ranges: &[PageRange]) -> Shape {
    Shape {
        vcpus: 1,
        ranges: ranges.to_vec(),
        tsc_hz: 20_000_000,
        devices: vec!["uart/2".into(), "lapic/1".into()],
    }
}

pub fn source_params(vm: &Leaving) -> SourceParams {
    SourceParams {
        hello: Hello {
            migration: [1; 16],
            vm_uuid: [2; 16],
            boot: [3; 16],
            vm_name: "demo".into(),
            check_only: false,
            secret: Some([5; 32]),
            purpose: None,
            port: Some(4444),
        },
        policy: b"policy of demo".to_vec(),
        companion: Vec::new(),
        shape: shape(&vm.ranges),
        origin: None,
        tuning: tuning(),
        hz: HZ,
    }
}

pub fn target_params() -> TargetParams {
    TargetParams { boot: [4; 16], tuning: tuning(), hz: HZ }
}

pub fn failed(outcome: &SourceOutcome) -> &Reason {
    match outcome {
        SourceOutcome::Failed(reason) => reason,
        other => panic!("{other:?}"),
    }
}

/// A guest of 24 pages with a hole, of all kinds, that writes while it moves.
pub fn small_guest() -> Leaving {
    let mut vm = Leaving::new(&[(0, 10), (16, 14)]);
    for i in [1usize, 2, 3, 12, 23] {
        for (at, byte) in vm.pages[i].iter_mut().enumerate() {
            *byte = (at * 7 + i) as u8;
        }
    }
    for i in [5, 6, 20] {
        vm.pages[i] = [0xcc; PAGE_BYTES];
    }
    vm.writes = [3, 17, 4, 29, 5, 16, 16, 0].into();
    vm
}
