//! A card behind a switch: frames that are handed over where they lie, beside those that go by the queues.
#![allow(missing_docs)]

use proptest::prelude::*;
use std::collections::VecDeque;
use switch::{
    Link, MAX_FRAME, MIN_FRAME, MacAddr, Nic, PortCounters, PortId, Switch, SwitchPort, TxError, Uplink,
};

const DEPTH: usize = 8;
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const GUEST: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const FAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
const NOBODY: MacAddr = MacAddr([2, 0, 0, 0, 0, 4]);

/// A card with room for so many frames more.
#[derive(Default)]
struct Card {
    came: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    room: usize,
}

impl Nic for Card {
    fn mac(&self) -> MacAddr {
        HOST
    }

    fn link(&self) -> Link {
        Link::Up(1000)
    }

    fn poll(&mut self) {}

    fn rx_with<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        Some(look(&self.came.pop_front()?))
    }

    fn tx_with<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> (R, bool)) -> R {
        let mut frame = vec![0xee; len.min(MAX_FRAME)];
        let (result, send) = fill(&mut frame);
        if send && self.room > 0 && (MIN_FRAME..=MAX_FRAME).contains(&len) {
            self.room -= 1;
            self.sent.push(frame);
        }
        result
    }

    fn tx_room(&self) -> usize {
        self.room
    }
}

fn frame(dst: MacAddr, src: MacAddr, number: u32) -> Vec<u8> {
    [&dst.0[..], &src.0, &[8, 0], &number.to_le_bytes()].concat()
}

fn number(frame: &[u8]) -> u32 {
    u32::from_le_bytes(frame[14..18].try_into().unwrap())
}

/// A card, a host's port with its address pinned, and a guest's.
fn bench(room: usize) -> (Uplink<Card>, PortId, PortId) {
    let mut uplink = Uplink::new(Card { room, ..Card::default() }, DEPTH).unwrap();
    let host = uplink.switch().add_port(DEPTH).unwrap();
    uplink.switch().pin(HOST, host).unwrap();
    let guest = uplink.switch().add_port(DEPTH).unwrap();
    (uplink, host, guest)
}

/// What the owner of a port takes.
fn taken(uplink: &mut Uplink<Card>, port: PortId) -> Vec<u32> {
    let mut port = uplink.port(port, HOST, 0);
    std::iter::from_fn(|| port.rx_with(number)).collect()
}

/// What waits in the queue of a port, which a guest empties without a look at the card.
fn drained(switch: &mut Switch, port: PortId) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some(frame) = switch.front(port) {
        frames.push(frame.to_vec());
        switch.pop(port);
    }
    frames
}

fn numbers(frames: &[Vec<u8>]) -> Vec<u32> {
    frames.iter().map(|frame| number(frame)).collect()
}

fn sent(uplink: &mut Uplink<Card>) -> Vec<u32> {
    numbers(&std::mem::take(&mut uplink.nic().sent))
}

fn counters(uplink: &mut Uplink<Card>, ports: [PortId; 3]) -> [PortCounters; 3] {
    ports.map(|port| uplink.switch().counters(port))
}

#[test]
fn one_destination_needs_no_queue() {
    let (mut uplink, host, guest) = bench(100);
    let ports = [uplink.id(), host, guest];
    uplink.nic().came.extend([frame(HOST, FAR, 1), frame(HOST, FAR, 2)]);
    uplink.begin(DEPTH);
    assert_eq!(uplink.port(host, HOST, 0).rx_with(number), Some(1));
    assert_eq!((uplink.switch().room(host), uplink.nic().came.len()), (DEPTH, 1), "the second is left there");
    uplink.port(host, HOST, 0).tx(&frame(FAR, HOST, 3)).unwrap();
    assert_eq!(sent(&mut uplink), [3], "before the turn ends");
    let both =
        PortCounters { in_frames: 1, in_bytes: 18, out_frames: 1, out_bytes: 18, ..Default::default() };
    assert_eq!(counters(&mut uplink, ports), [both, both, PortCounters::default()]);
    // What its owner did not ask for waits in its queue.
    assert_eq!((uplink.end(DEPTH, 0), uplink.has_waiting(host)), (3, true));
    assert_eq!(taken(&mut uplink, host), [2]);
    assert!(!uplink.has_waiting(host));
}

#[test]
fn several_destinations_each_get_a_copy() {
    let (mut uplink, host, guest) = bench(100);
    uplink.nic().came.extend([frame(MacAddr::BROADCAST, FAR, 1), frame(HOST, FAR, 2), frame(NOBODY, FAR, 3)]);
    uplink.begin(DEPTH);
    assert_eq!(taken(&mut uplink, host), [1, 2, 3]);
    let mut port = uplink.port(host, HOST, 0);
    port.tx(&frame(NOBODY, HOST, 4)).unwrap();
    port.tx(&frame(FAR, HOST, 5)).unwrap();
    port.tx(&frame(MacAddr::BROADCAST, HOST, 6)).unwrap();
    uplink.end(DEPTH, 0);
    assert_eq!(sent(&mut uplink), [4, 5, 6], "what is flooded overtakes nothing, nor is it overtaken");
    assert_eq!(numbers(&drained(uplink.switch(), guest)), [1, 3, 4, 6]);
}

#[test]
fn a_full_card_makes_frames_wait_in_order() {
    let (mut uplink, host, guest) = bench(2);
    uplink.switch().input(guest, &frame(HOST, GUEST, 0), 0);
    uplink.nic().came.push_back(frame(HOST, FAR, 1));
    uplink.begin(2 * DEPTH);
    assert_eq!(taken(&mut uplink, host), [0, 1]);
    let mut port = uplink.port(host, HOST, 0);
    for n in 0..2 + DEPTH as u32 {
        assert!(port.tx_room() > 0);
        port.tx(&frame(FAR, HOST, n)).unwrap();
    }
    // No room anywhere: what is written now is lost, and nowhere counted.
    assert_eq!((port.tx_room(), port.tx(&frame(FAR, HOST, 99))), (0, Err(TxError::Full)));
    let shown = port.tx_with(18, |to| {
        to.copy_from_slice(&frame(FAR, HOST, 99));
        (to.len(), true)
    });
    assert_eq!((shown, sent(&mut uplink)), (18, vec![0, 1]));
    // There is room in the card again, but others wait already.
    uplink.nic().room = 100;
    let wire = uplink.id();
    uplink.switch().pop(wire);
    uplink.port(host, HOST, 0).tx(&frame(FAR, HOST, 50)).unwrap();
    uplink.switch().pop(wire);
    uplink.port(host, HOST, 0).tx(&frame(GUEST, HOST, 51)).unwrap();
    assert!(sent(&mut uplink).is_empty());
    uplink.end(0, 0);
    assert_eq!(sent(&mut uplink), [4, 5, 6, 7, 8, 9, 50]);
    assert_eq!(numbers(&drained(uplink.switch(), guest)), [51]);
    let [wire, host, _] = counters(&mut uplink, [wire, host, guest]);
    assert_eq!((host.in_frames, host.in_bad, wire.out_frames, wire.out_dropped), (12, 0, 11, 0));
}

#[test]
fn a_turn_ends_however_fast_frames_come() {
    let (mut uplink, host, _) = bench(1000);
    uplink.nic().came.push_back(frame(HOST, FAR, 0));
    uplink.begin(1);
    assert_eq!(taken(&mut uplink, host), [0]);
    uplink.nic().came.extend((0..100).map(|n| frame(HOST, FAR, n)));
    uplink.begin(5);
    assert_eq!(taken(&mut uplink, host), [0, 1, 2, 3, 4]);
    let mut port = uplink.port(host, HOST, 0);
    let went = (0..100).take_while(|n| port.tx(&frame(FAR, HOST, *n)).is_ok()).count();
    assert_eq!((went, uplink.end(DEPTH, 0), uplink.nic().came.len()), (5, 10, 95));
    // What the owner did not take, and has room for, goes to its queue.
    uplink.begin(5);
    assert_eq!((uplink.end(3, 0), uplink.switch().room(host), uplink.nic().came.len()), (3, DEPTH - 3, 92));
}

#[test]
fn what_is_given_up_or_no_frame_goes_nowhere() {
    for room in [0, 10] {
        let (mut uplink, host, _) = bench(room);
        uplink.begin(DEPTH);
        let mut port = uplink.port(host, HOST, 0);
        let fill = |port: &mut SwitchPort<'_, Card>, len, send| {
            port.tx_with(len, |to| {
                to.fill(0);
                (to.len(), send)
            })
        };
        assert_eq!(fill(&mut port, 60, false), 60);
        assert_eq!([13, 1519].map(|len| fill(&mut port, len, true)), [13, MAX_FRAME]);
        assert_eq!(port.tx(&[0; 13]), Err(TxError::BadLength(13)));
        assert_eq!(uplink.switch().counters(host), PortCounters::default());
        // As long as a frame, but of no station.
        fill(&mut uplink.port(host, HOST, 0), 60, true);
        let bad = PortCounters { in_bad: 1, ..PortCounters::default() };
        assert_eq!(uplink.switch().counters(host), bad);
        assert!(uplink.end(DEPTH, 0) == 0 && sent(&mut uplink).is_empty());
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Frames come off the wire; the host takes what there is, and sends.
    Turn { came: Vec<Vec<u8>>, sends: Vec<Vec<u8>> },
    /// The guest sends, and takes what there is.
    Guest(Vec<Vec<u8>>),
    /// The card has room for so many.
    Room(usize),
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let stations = || prop::sample::select(vec![HOST, GUEST, FAR, NOBODY]);
    let link_local = MacAddr([1, 0x80, 0xc2, 0, 0, 0]);
    let dst = prop_oneof![8 => stations(), 1 => Just(MacAddr::BROADCAST), 1 => Just(link_local)];
    let src = prop_oneof![9 => stations(), 1 => Just(MacAddr::BROADCAST)];
    let good = (dst, src, any::<u32>()).prop_map(|(dst, src, number)| frame(dst, src, number));
    let short = prop::collection::vec(any::<u8>(), 0..MIN_FRAME);
    prop_oneof![20 => good, 1 => short, 1 => Just(vec![2; MAX_FRAME + 1])]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let frames = |most| prop::collection::vec(any_frame(), 0..most);
    let step = prop_oneof![
        3 => (frames(6), frames(6)).prop_map(|(came, sends)| Step::Turn { came, sends }),
        1 => frames(4).prop_map(Step::Guest),
        1 => (0usize..12).prop_map(Step::Room),
    ];
    prop::collection::vec(step, 1..40)
}

/// Frames that the host and the guest took and that the card sent; counters of the card's port, the host's and the guest's.
type Outcome = ([Vec<Vec<u8>>; 3], [PortCounters; 3]);

/// As card and switch were joined before: each frame goes by a queue.
fn by_queues(steps: &[Step]) -> Outcome {
    let (mut card, mut switch) = (Card::default(), Switch::new());
    let [wire, host, guest] = [(); 3].map(|()| switch.add_port(DEPTH).unwrap());
    switch.pin(HOST, host).unwrap();
    let mut got: [Vec<_>; 3] = Default::default();
    let flush = |card: &mut Card, switch: &mut Switch| {
        while let Some(frame) = switch.front(wire) {
            if card.tx(frame) == Err(TxError::Full) {
                break;
            }
            switch.pop(wire);
        }
    };
    for (now, step) in (0..).zip(steps) {
        match step {
            Step::Turn { came, sends } => {
                got[0].extend(drained(&mut switch, host));
                came.iter().for_each(|frame| switch.input(wire, frame, now));
                flush(&mut card, &mut switch);
                got[0].extend(drained(&mut switch, host));
                for frame in sends.iter().filter(|frame| (MIN_FRAME..=MAX_FRAME).contains(&frame.len())) {
                    if switch.room(wire) > 0 {
                        switch.input(host, frame, now);
                    }
                }
                flush(&mut card, &mut switch);
            }
            Step::Guest(sends) => {
                sends.iter().for_each(|frame| switch.input(guest, frame, now));
                got[1].extend(drained(&mut switch, guest));
            }
            Step::Room(room) => card.room = *room,
        }
    }
    got[2] = card.sent;
    (got, [wire, host, guest].map(|port| switch.counters(port)))
}

fn by_hand(steps: &[Step]) -> Outcome {
    let (mut uplink, host, guest) = bench(0);
    let mut got: [Vec<_>; 3] = Default::default();
    for (now, step) in (0..).zip(steps) {
        match step {
            Step::Turn { came, sends } => {
                uplink.nic().came.extend(came.iter().cloned());
                uplink.begin(DEPTH);
                let mut port = uplink.port(host, HOST, now);
                got[0].extend(std::iter::from_fn(|| port.rx_with(<[u8]>::to_vec)));
                for frame in sends {
                    let _ = port.tx(frame);
                }
                uplink.end(DEPTH, now);
            }
            Step::Guest(sends) => {
                sends.iter().for_each(|frame| uplink.switch().input(guest, frame, now));
                got[1].extend(drained(uplink.switch(), guest));
            }
            Step::Room(room) => uplink.nic().room = *room,
        }
    }
    got[2] = std::mem::take(&mut uplink.nic().sent);
    let ports = [uplink.id(), host, guest];
    (got, counters(&mut uplink, ports))
}

proptest! {
    /// Who gets a frame, in which order, and what is counted: all as if each frame went by a queue.
    #[test]
    fn nothing_but_copies_is_saved(steps in steps()) {
        prop_assert_eq!(by_hand(&steps), by_queues(&steps));
    }

    /// The host takes and sends as it likes while the card is full, empty, or overrun. Frames of a sender come to a port in
    /// the order in which they were sent, those to the wire in the order in which all were. What is counted is what comes.
    #[test]
    fn no_frame_overtakes_another(acts in prop::collection::vec((0u8..9, 0usize..4), 1..200)) {
        let (mut uplink, host, guest) = bench(3);
        let ports @ [wire, ..] = [uplink.id(), host, guest];
        // Everybody is known: each frame has one destination, but for broadcasts.
        uplink.switch().input(guest, &frame(HOST, GUEST, 0), 0);
        uplink.nic().came.push_back(frame(HOST, FAR, 0));
        uplink.begin(DEPTH);
        prop_assert_eq!(taken(&mut uplink, host), [0, 0]);
        let before = counters(&mut uplink, ports);
        let (mut to_wire, mut got): (Vec<u32>, [Vec<(MacAddr, u32)>; 2]) = Default::default();
        let origin = |frame: &[u8]| (MacAddr::of_frame(frame).unwrap().1, number(frame));
        for (n, (act, many)) in (1..).zip(acts) {
            let or_all = |to| if many == 0 { MacAddr::BROADCAST } else { to };
            match act {
                0 => uplink.nic().came.push_back(frame(or_all(HOST), FAR, n)),
                1 => uplink.nic().came.push_back(frame(or_all(GUEST), FAR, n)),
                2 | 3 => {
                    let to = or_all(if act == 2 { FAR } else { GUEST });
                    if uplink.port(host, HOST, 1).tx(&frame(to, HOST, n)).is_ok() && to != GUEST {
                        to_wire.push(n);
                    }
                }
                4 => {
                    let to = or_all(if many == 1 { HOST } else { FAR });
                    if uplink.switch().room(wire) > 0 && to != HOST {
                        to_wire.push(n);
                    }
                    uplink.switch().input(guest, &frame(to, GUEST, n), 1);
                }
                5 => {
                    let mut port = uplink.port(host, HOST, 1);
                    got[0].extend((0..many).map_while(|_| port.rx_with(origin)));
                }
                6 => got[1].extend(drained(uplink.switch(), guest).iter().map(|frame| origin(frame))),
                7 => uplink.nic().room = many,
                _ => {
                    let budget = uplink.switch().room(host).min(many * 3);
                    uplink.end(budget, 1);
                    uplink.begin(DEPTH);
                }
            }
        }
        uplink.nic().room = 1000;
        while !uplink.nic().came.is_empty() || uplink.has_waiting(host) {
            uplink.begin(DEPTH);
            let mut port = uplink.port(host, HOST, 1);
            got[0].extend(std::iter::from_fn(|| port.rx_with(origin)));
            uplink.end(0, 1);
        }
        got[1].extend(drained(uplink.switch(), guest).iter().map(|frame| origin(frame)));
        prop_assert_eq!(&sent(&mut uplink), &to_wire);
        for (got, sender) in got.iter().flat_map(|got| [HOST, GUEST, FAR].map(|sender| (got, sender))) {
            let of_sender: Vec<_> = got.iter().filter(|(from, _)| *from == sender).map(|(_, n)| *n).collect();
            prop_assert!(of_sender.is_sorted_by(|a, b| a < b), "{sender}: {of_sender:?}");
        }
        let after = counters(&mut uplink, ports);
        let out = [0, 1, 2].map(|at| (after[at].out_frames - before[at].out_frames) as usize);
        prop_assert_eq!(out, [to_wire.len(), got[0].len(), got[1].len()]);
    }
}
