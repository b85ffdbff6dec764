//! A slow port: nobody waits for it, answers are whole, and lines of the log that do not fit are counted.
#![allow(missing_docs)]

use log_ring::{Outlet, Seldom};
use proptest::prelude::*;
use std::sync::atomic::AtomicU8;

const SIZE: usize = 1024;

fn queue() -> Vec<AtomicU8> {
    std::iter::repeat_with(|| AtomicU8::new(0)).take(SIZE).collect()
}

fn log(outlet: &mut Outlet, queue: &[AtomicU8], text: &str) -> bool {
    outlet.begin_line();
    // As a formatter does it.
    text.as_bytes().chunks(7).for_each(|piece| outlet.line(queue, piece));
    outlet.line(queue, b"\n");
    outlet.end_line()
}

/// The port takes so many bytes.
fn take(outlet: &mut Outlet, queue: &[AtomicU8], bytes: usize) -> String {
    let mut text = vec![];
    while text.len() < bytes
        && let Some(byte) = outlet.next(queue)
    {
        text.push(byte);
        outlet.advance();
    }
    String::from_utf8(text).unwrap()
}

/// Issue 12, fault 3.1: a full queue was written out at once, with the log locked, by whoever logged the next line.
#[test]
fn a_flood_of_lines_is_left_out_and_counted() {
    let (mut outlet, queue) = (Outlet::new(), queue());
    for n in 0..2000 {
        let _ = log(&mut outlet, &queue, &format!("connection {n:04} refused"));
        assert!(outlet.waiting() <= SIZE);
    }
    // Not before there is some room, so that it is not every other line.
    assert_eq!(outlet.take_left_out(&queue), None);
    let text = take(&mut outlet, &queue, usize::MAX);
    let shown =
        text.lines().filter(|line| line.starts_with("connection ") && line.ends_with(" refused")).count();
    assert_eq!((shown, text.lines().count()), (SIZE / "connection 0000 refused\n".len(), shown));
    assert!(!log(&mut outlet, &queue, "one more"));
    assert_eq!(outlet.take_left_out(&queue), Some(2001 - shown as u64));
    assert!(log(&mut outlet, &queue, "all is well"));
    assert_eq!(take(&mut outlet, &queue, usize::MAX), "all is well\n");
}

#[test]
fn an_answer_is_whole_and_no_line_falls_into_it() {
    let (mut outlet, queue) = (Outlet::new(), queue());
    let answer: String = (0..5000).map(|n| format!("row {n}\n")).collect();
    assert!(log(&mut outlet, &queue, "before"));
    assert!(outlet.say(&queue, answer.as_bytes()) && outlet.is_behind());
    assert!(!log(&mut outlet, &queue, "meanwhile"));
    assert!(outlet.say(&queue, b"ok\n"));
    assert_eq!(outlet.take_left_out(&queue), None);
    assert_eq!(take(&mut outlet, &queue, usize::MAX), format!("before\n{answer}ok\n"));
    assert_eq!(outlet.take_left_out(&queue), Some(1));
    assert!(!outlet.is_behind() && outlet.waiting() == 0);
}

proptest! {
    /// Whatever comes and however slow the port is: what is shown is a part of what was written, in order, answers are
    /// whole, and each line is shown or counted.
    #[test]
    fn nothing_is_lost_without_a_word(
        steps in prop::collection::vec((0_u8..3, 1_usize..300), 1..200),
    ) {
        let (mut outlet, queue) = (Outlet::new(), queue());
        let (mut text, mut answers, mut shown, mut lines) = (String::new(), String::new(), 0, 0);
        for (kind, size) in steps {
            match kind {
                0 => {
                    lines += 1;
                    shown += usize::from(log(&mut outlet, &queue, &"l".repeat(size)));
                }
                1 => {
                    let answer = "A".repeat(size) + "\n";
                    answers += &answer;
                    prop_assert!(outlet.say(&queue, answer.as_bytes()));
                }
                _ => {
                    text += &take(&mut outlet, &queue, size);
                    lines -= outlet.take_left_out(&queue).unwrap_or(0) as usize;
                }
            }
        }
        text += &take(&mut outlet, &queue, usize::MAX);
        lines -= outlet.take_left_out(&queue).unwrap_or(0) as usize;
        let of = |start: char| text.lines().filter(move |line| line.starts_with(start));
        prop_assert_eq!(of('A').map(|line| format!("{line}\n")).collect::<String>(), answers);
        prop_assert_eq!((of('l').count(), lines), (shown, shown));
    }
}

#[test]
fn a_peer_prints_one_line_a_second() {
    let mut seldom = Seldom::new(1_000_000);
    let mut printed = vec![];
    // 2,000 refused connections a second for ten seconds, from 17 addresses in turn.
    for n in 0..20_000_u64 {
        let now = n * 500;
        printed.extend(seldom.poll(now));
        printed.extend(seldom.line(format!("10.0.0.{} refused", n % 17), now));
    }
    printed.extend(seldom.poll(20_000_000));
    assert!((10..=12).contains(&printed.len()), "{printed:?}");
    assert_eq!(printed[0], "10.0.0.0 refused");
    let more = |line: &String| {
        line.split_once("(and ")
            .map_or(1, |(_, more)| 1 + more.split(' ').next().unwrap().parse::<u64>().unwrap())
    };
    assert_eq!(printed.iter().map(more).sum::<u64>(), 20_000);
    // A single one is not held back.
    assert_eq!(seldom.line("x".into(), 60_000_000).as_deref(), Some("x"));
    assert_eq!(seldom.poll(70_000_000), None);
}
