extern crate std;
use crate::{MAX_FRAME, MAX_PORTS, MIN_FRAME, MacAddr, PortId, Switch, SwitchError};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);

fn frame(dst: MacAddr, src: MacAddr, len: usize) -> Vec<u8> {
    let mut f = vec![0u8; len];
    f[..6].copy_from_slice(&dst.0);
    f[6..12].copy_from_slice(&src.0);
    f
}

fn three_ports() -> (Switch, [PortId; 3]) {
    let mut sw = Switch::new();
    let ports = [(); 3].map(|()| sw.add_port(4).unwrap());
    (sw, ports)
}

fn queued(sw: &Switch, ports: [PortId; 3]) -> [usize; 3] {
    ports.map(|p| 4 - sw.room(p))
}

#[test]
fn floods_then_learns() {
    let (mut sw, p) = three_ports();
    sw.input(p[0], &frame(B, A, 60), 0);
    assert_eq!(queued(&sw, p), [0, 1, 1]);
    sw.input(p[1], &frame(A, B, 60), 1);
    assert_eq!(queued(&sw, p), [1, 1, 1], "A is known on port 0");
    sw.input(p[0], &frame(B, A, 60), 2);
    assert_eq!(queued(&sw, p), [1, 2, 1], "B is known on port 1");
    sw.input(p[2], &frame(MacAddr::BROADCAST, B, 60), 3);
    assert_eq!(queued(&sw, p), [2, 3, 1], "broadcast to all others; B moved to port 2");
    sw.input(p[0], &frame(B, A, 60), 4);
    assert_eq!(queued(&sw, p), [2, 3, 2]);
    sw.input(p[2], &frame(B, A, 60), 5);
    assert_eq!(queued(&sw, p), [2, 3, 2], "never back where it came from");
    assert_eq!(sw.front(p[0]).unwrap(), frame(A, B, 60));
}

#[test]
fn a_pinned_address_cannot_be_stolen() {
    let (mut sw, p) = three_ports();
    sw.pin(A, p[1]).unwrap();
    sw.input(p[0], &frame(B, A, 60), 0);
    sw.input(p[2], &frame(A, B, 60), 0);
    assert_eq!(queued(&sw, p), [0, 2, 1]);
    assert_eq!(sw.pin(MacAddr::BROADCAST, p[1]), Err(SwitchError::NotAStation(MacAddr::BROADCAST)));
}

#[test]
fn full_queues_drop_and_count_without_harm_to_others() {
    let (mut sw, p) = three_ports();
    for _ in 0..10 {
        sw.input(p[0], &frame(MacAddr::BROADCAST, A, 100), 0);
        sw.pop(p[1]);
    }
    let counters = sw.counters(p[2]);
    assert_eq!((counters.out_frames, counters.out_dropped, counters.out_bytes), (4, 6, 400));
    assert_eq!(sw.counters(p[1]).out_dropped, 0);
    assert_eq!(sw.counters(p[0]).in_frames, 10);
    sw.forget(p[2]);
    assert_eq!(sw.room(p[2]), 4);
}

#[test]
fn bad_frames_go_nowhere() {
    let (mut sw, p) = three_ports();
    for bad in [
        frame(B, MacAddr::BROADCAST, 60),
        frame(B, MacAddr::default(), 60),
        frame(MacAddr([1, 0x80, 0xc2, 0, 0, 0]), A, 60),
        frame(B, A, MAX_FRAME + 1),
        frame(B, A, MIN_FRAME)[..13].to_vec(),
        vec![],
    ] {
        sw.input(p[0], &bad, 0);
    }
    assert_eq!(queued(&sw, p), [0, 0, 0]);
    assert_eq!(sw.counters(p[0]).in_bad, 6);
    assert_eq!(sw.addresses(0), 0);
}

#[test]
fn ports_are_bounded() {
    let mut sw = Switch::new();
    assert!((0..MAX_PORTS).all(|_| sw.add_port(1).is_ok()));
    assert_eq!(sw.add_port(1), Err(SwitchError::TooManyPorts));
}

proptest! {
    /// Whatever is put in, each frame that comes out is one that went in at another port, unchanged.
    #[test]
    fn arbitrary_frames(inputs in prop::collection::vec((0usize..3, prop::collection::vec(any::<u8>(), 0..80)), 1..60)) {
        let (mut sw, p) = three_ports();
        for (now, (from, bytes)) in inputs.iter().enumerate() {
            sw.input(p[*from], bytes, now as u64);
            for (i, port) in p.into_iter().enumerate() {
                while let Some(out) = sw.front(port) {
                    prop_assert_eq!(out, &bytes[..]);
                    prop_assert_ne!(i, *from);
                    sw.pop(port);
                }
            }
        }
        prop_assert!(sw.addresses(0) <= inputs.len());
    }
}
