//! A guest that prints and is typed at, on hosts with serial lines of any speed: every byte is accounted for.
#![allow(missing_docs)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use proptest::prelude::*;
use shell::{GuestConsole, GuestOutput, GuestPort, Pace};

/// A console on one host.
#[derive(Clone, Debug)]
struct Console(Rc<RefCell<GuestOutput>>);

impl Console {
    fn new(live: bool) -> Self {
        Self(Rc::new(RefCell::new(GuestOutput::new(live))))
    }
}

impl GuestConsole for Console {
    fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    fn output<R>(&self, look: impl FnOnce(&mut GuestOutput) -> R) -> R {
        look(&mut self.0.borrow_mut())
    }
}

/// The part of a UART that matters here: the guest waits for THRE unless it is rude.
#[derive(Clone, Default, Debug)]
struct Uart {
    output: VecDeque<u8>,
    dropped: u64,
}

const UART: usize = 4096;

impl Uart {
    fn take(&mut self, bytes: &mut [u8]) -> (usize, u64) {
        let count = bytes.len().min(self.output.len());
        bytes.iter_mut().zip(self.output.drain(..count)).for_each(|(to, from)| *to = from);
        (count, std::mem::take(&mut self.dropped))
    }
}

/// The guest and the host it is on.
#[derive(Debug)]
struct Guest {
    console: Console,
    uart: Uart,
    printed: u64,
}

impl Guest {
    fn new() -> Self {
        Self { console: Console::new(true), uart: Uart::default(), printed: 0 }
    }

    /// Byte `number` of its output: no two stretches of it are alike.
    fn byte(number: u64) -> u8 {
        let line = number / 8;
        if number % 8 == 7 { b'\n' } else { b'A' + (line >> (number % 8 * 4) & 0xf) as u8 }
    }

    /// Prints up to `most` bytes, as many as the UART takes.
    fn print(&mut self, most: usize) {
        for _ in 0..most.min(UART - self.uart.output.len()) {
            self.uart.output.push_back(Self::byte(self.printed));
            self.printed += 1;
        }
    }

    fn drain(&mut self, now: u64) {
        let uart = &mut self.uart;
        self.console.output(|output| output.drain(false, now, |bytes| uart.take(bytes)));
    }
}

/// A serial line and what came out of it.
#[derive(Default, Debug)]
struct Line {
    port: GuestPort<Console>,
    seen: Vec<u8>,
}

impl Line {
    fn send(&mut self, bytes: usize, now: u64) {
        let mut buf = vec![0; bytes];
        let count = self.port.take(&mut buf, now);
        self.seen.extend(&buf[..count]);
    }

    fn finish(&mut self, now: u64) {
        while self.port.waits() {
            let before = self.seen.len();
            self.send(64, now);
            assert!(self.seen.len() > before || !self.port.waits(), "the line stands still");
        }
    }

    /// What it said about bytes that it left out, and the text without that.
    fn notes(&self) -> (u64, Vec<u8>) {
        let (mut out, mut text, mut rest) = (0, Vec::new(), self.seen.as_slice());
        while let Some(at) = rest.windows(3).position(|w| w == b"\r\n[") {
            text.extend(&rest[..at]);
            let end = rest.windows(3).position(|w| w == b"]\r\n").unwrap();
            let note = std::str::from_utf8(&rest[at + 3..end]).unwrap();
            if note.contains("left out") {
                out += note.split(' ').next().unwrap().parse::<u64>().unwrap();
            }
            rest = &rest[end + 3..];
        }
        text.extend(rest);
        (out, text)
    }
}

fn expected(range: std::ops::Range<u64>) -> Vec<u8> {
    range.map(Guest::byte).collect()
}

/// The guest moves from one console to another, as the source exports and the target imports.
fn export(guest: &Guest, told: &mut u64) -> Vec<Vec<u8>> {
    guest.console.output(|output| {
        let pieces = std::iter::from_fn(|| Some(output.history(told, 65_536)).filter(|p| !p.is_empty()));
        let pieces = pieces.collect();
        output.hold();
        pieces
    })
}

#[test]
fn a_guest_that_prints_faster_than_the_line_is_paced() {
    let (mut guest, mut line) = (Guest::new(), Line::default());
    for now in 0..20_000 {
        guest.print(1000);
        line.port.belongs_to(Some(&guest.console), now);
        guest.drain(now);
        let behind = guest.printed - line.seen.len() as u64;
        assert!(behind <= (GuestOutput::AHEAD + UART) as u64, "{behind} bytes ahead");
        line.send(16, now);
    }
    assert!(line.seen.len() > 300_000);
    assert_eq!(line.seen, expected(0..line.seen.len() as u64));
}

#[test]
fn what_a_destroyed_guest_left_is_still_shown() {
    let (mut guest, mut line) = (Guest::new(), Line::default());
    line.port.belongs_to(Some(&guest.console), 0);
    for _ in 0..9 {
        guest.print(UART);
        guest.drain(0);
    }
    guest.print(UART);
    let uart = &mut guest.uart;
    guest.console.output(|output| output.drain(true, 0, |bytes| uart.take(bytes)));
    // The next VM of that name prints at once.
    let mut next = Guest::new();
    next.print(100);
    next.drain(0);
    line.port.belongs_to(Some(&next.console), 0);
    line.finish(0);
    let all = [expected(0..guest.printed), expected(0..100)].concat();
    assert!(guest.printed > 8000);
    assert_eq!(line.seen, all);
}

#[test]
fn what_was_typed_for_one_guest_never_reaches_the_next() {
    let (first, second, mut line) = (Guest::new(), Guest::new(), Line::default());
    line.port.belongs_to(Some(&first.console), 0);
    assert!(line.port.key(b'a') && line.port.key(b'b') && line.port.key(b'c'));
    let mut taken = Vec::new();
    line.port.offer(|byte| {
        taken.push(byte);
        taken.len() < 2 // its queue is full: b is refused
    });
    line.port.belongs_to(Some(&second.console), 0);
    line.port.offer(|byte| panic!("{byte} went to the next VM"));
    line.finish(0);
    assert_eq!(line.seen, b"\r\n[2 bytes typed here did not reach the VM: it is gone]\r\n");
    line.port.belongs_to(None, 0);
    assert!(line.port.key(b'x') && line.port.key(b'y'));
    line.port.belongs_to(Some(&first.console), 0);
    line.port.offer(|byte| panic!("{byte} was typed for nobody"));
    line.finish(0);
    let text = String::from_utf8(line.seen).unwrap();
    assert!(text.ends_with("[no VM is here: what is typed is dropped]\r\n\r\n[2 bytes were typed while no VM was here: dropped]\r\n"), "{text}");
}

#[test]
fn typed_bytes_are_bounded() {
    let (guest, mut line) = (Guest::new(), Line::default());
    line.port.belongs_to(Some(&guest.console), 0);
    let kept = (0..10_000).filter(|_| line.port.key(b'x')).count();
    assert_eq!(kept, GuestPort::<Console>::TYPED);
    assert!(!line.port.takes_keys());
    let mut given = 0;
    assert!(line.port.offer(|_| {
        given += 1;
        true
    }));
    assert_eq!(given, kept);
}

/// A line that is unplugged must not stop a guest for good, and says what it missed when it is back.
#[test]
fn a_line_that_stands_still_holds_nobody_up_for_long() {
    let (mut guest, mut line) = (Guest::new(), Line::default());
    line.port.belongs_to(Some(&guest.console), 0);
    for turn in 0..1000 {
        guest.print(1000);
        guest.drain(turn * 10_000);
    }
    let printed = guest.printed;
    assert!(printed > 500_000, "the guest was let go on after 5 s: {printed}");
    line.send(16, 10_000_000);
    line.finish(10_000_000);
    let (left_out, text) = line.notes();
    assert_eq!(left_out + text.len() as u64, guest.printed - guest.uart.output.len() as u64);
    assert!(left_out > 0);
    let end = guest.printed - guest.uart.output.len() as u64;
    assert!(text.ends_with(&expected(end - 60_000..end)));
}

#[test]
fn a_guest_that_does_not_wait_is_told_on_the_line() {
    let (mut guest, mut line) = (Guest::new(), Line::default());
    line.port.belongs_to(Some(&guest.console), 0);
    guest.print(10);
    guest.uart.dropped = 7;
    guest.drain(0);
    line.finish(0);
    let text =
        [&expected(0..10)[..], b"\r\n[7 bytes left out: the guest did not wait for its UART]\r\n"].concat();
    assert_eq!(line.seen, text);
}

/// Nothing is taken from or given to a UART whose state is on its way; what fails goes on where it was.
#[test]
fn a_held_guest_is_left_alone_and_goes_on_after_a_failure() {
    let (mut guest, mut line) = (Guest::new(), Line::default());
    line.port.belongs_to(Some(&guest.console), 0);
    guest.print(3000);
    guest.drain(0);
    guest.print(1000);
    export(&guest, &mut 0);
    guest.drain(0);
    assert_eq!(guest.uart.output.len(), 1000);
    line.finish(0);
    assert_eq!(line.seen, expected(0..3000));
    guest.console.output(GuestOutput::release);
    guest.drain(0);
    line.finish(0);
    assert_eq!(line.seen, expected(0..4000));
}

#[test]
fn all_of_the_history_goes_along() {
    let mut guest = Guest::new();
    for _ in 0..30 {
        guest.print(UART);
        guest.drain(0);
    }
    let coming = Console::new(false);
    for piece in export(&guest, &mut 0) {
        assert!(piece.len() <= 65_536);
        coming.output(|output| output.take_history(&piece));
    }
    coming.output(|output| {
        let (older, newer) = output.ring().contents();
        let kept = [older, newer].concat();
        assert_eq!(kept, expected(guest.printed - 65_536..guest.printed));
        output.take_history(&[1, 2, 3]);
        output.take_history(&[0xff; 9]);
        output.push(b"x", 0, 0);
    });
}

#[test]
fn who_looks_on_paces_nobody() {
    let mut guest = Guest::new();
    let mut line = Line { port: GuestPort::replay(guest.console.clone(), Pace::GoesOn, 0), seen: Vec::new() };
    for _ in 0..100 {
        guest.print(UART);
        guest.drain(0);
    }
    assert!(guest.uart.output.is_empty());
    line.finish(0);
    let (left_out, text) = line.notes();
    assert_eq!(left_out + text.len() as u64, guest.printed);
}

#[test]
fn many_guests_that_come_and_go_are_bounded() {
    let mut line = Line::default();
    let mut printed = 0;
    for _ in 0..20 {
        let mut guest = Guest::new();
        line.port.belongs_to(Some(&guest.console), 0);
        guest.print(100);
        guest.drain(0);
        printed += 100;
    }
    line.finish(0);
    let (left_out, text) = line.notes();
    assert_eq!(left_out + text.len() as u64, printed);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Print(usize),
    Drain,
    Send(usize, usize),
    /// The history goes after a round, as it does before the guest is stopped.
    Round,
    Move,
    FailedMove,
    Rename,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_usize..5000).prop_map(Step::Print),
        4 => Just(Step::Drain),
        4 => (0_usize..2, 1_usize..4000).prop_map(|(line, bytes)| Step::Send(line, bytes)),
        1 => Just(Step::Round),
        1 => Just(Step::Move),
        1 => Just(Step::FailedMove),
        1 => Just(Step::Rename),
    ]
}

proptest! {
    /// Each stay of the guest on a host is one stretch of its output on that host's line, and the stretches of both
    /// lines, in the order of the stays, are what it printed.
    #[test]
    fn moves_lose_and_double_nothing(steps in proptest::collection::vec(step(), 1..200)) {
        let (mut guest, mut lines, mut here) = (Guest::new(), [Line::default(), Line::default()], 0);
        let mut told = 0;
        // Where each stay's stretch ends, in bytes of the output.
        let mut stays = vec![];
        let mut changes = 0;
        for (now, step) in steps.into_iter().enumerate() {
            let now = now as u64;
            lines[here].port.belongs_to(Some(&guest.console), now);
            // A line keeps what a few guests left, not what many did.
            changes += usize::from(matches!(step, Step::Move | Step::Rename));
            if changes == 6 {
                lines.iter_mut().for_each(|line| line.finish(now));
                changes = 0;
            }
            match step {
                Step::Print(bytes) => guest.print(bytes),
                Step::Drain => guest.drain(now),
                Step::Send(line, bytes) => lines[line].send(bytes, now),
                Step::Round => { guest.console.output(|output| output.history(&mut told, 65_536)); }
                Step::FailedMove => {
                    export(&guest, &mut told);
                    guest.drain(now);
                    lines[here].port.belongs_to(Some(&guest.console), now);
                    guest.console.output(GuestOutput::release);
                    told = 0;
                }
                Step::Move => {
                    let coming = Console::new(false);
                    for piece in export(&guest, &mut 0) {
                        coming.output(|output| output.take_history(&piece));
                    }
                    // The target's line does not show what may still be the source's.
                    lines[1 - here].port.belongs_to(Some(&coming), now);
                    let leaving = std::mem::replace(&mut guest.console, coming);
                    stays.push((here, leaving.output(|output| output.ring().total())));
                    lines[here].port.belongs_to(None, now);
                    guest.console.output(GuestOutput::release);
                    (here, told) = (1 - here, 0);
                }
                // Away from the name that the line goes by, and back.
                Step::Rename => {
                    lines[here].port.belongs_to(None, now);
                    lines[here].port.belongs_to(Some(&guest.console), now);
                }
            }
        }
        lines[here].port.belongs_to(Some(&guest.console), 0);
        loop {
            guest.drain(0);
            lines.iter_mut().for_each(|line| line.finish(0));
            if guest.uart.output.is_empty() {
                break;
            }
        }
        stays.push((here, guest.printed));
        let (mut at, mut from) = ([0, 0], 0);
        for (line, end) in stays {
            let stretch = expected(from..end);
            prop_assert_eq!(&lines[line].seen[at[line]..at[line] + stretch.len()], &stretch[..]);
            at[line] += stretch.len();
            from = end;
        }
        prop_assert_eq!(at, [lines[0].seen.len(), lines[1].seen.len()]);
    }
}
