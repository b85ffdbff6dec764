//! A ring says what was written last, and nothing else is taken for one.

use std::sync::atomic::{AtomicU64, Ordering};

use log_ring::{LogRing, MIN_WORDS, recover};
use proptest::prelude::*;

fn memory(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|n| AtomicU64::new(n as u64 * 77)).collect()
}

#[test]
fn what_was_written_is_recovered() {
    let words = memory(64);
    assert_eq!(recover(&words), None, "chance is no log");
    let mut ring = LogRing::new(&words).unwrap();
    assert_eq!(recover(&words).as_deref(), Some(""));
    ring.push(b"[    0.000001] boot: one\n");
    ring.push("[    0.000002] boot: zw\u{f6}lf\n".as_bytes());
    let text = "[    0.000001] boot: one\n[    0.000002] boot: zw\u{f6}lf\n";
    assert_eq!(ring.text(), text);
    assert_eq!(recover(&words).as_deref(), Some(text));
}

#[test]
fn the_oldest_lines_go_whole() {
    let words = memory(MIN_WORDS);
    let mut ring = LogRing::new(&words).unwrap();
    assert_eq!(ring.capacity(), 64);
    for n in 0..100 {
        ring.push(format!("line {n}\n").as_bytes());
    }
    let text = ring.text();
    assert!(text.starts_with("line 9") && text.ends_with("line 99\n") && text.len() <= 64, "{text}");
    assert_eq!(recover(&words), Some(text));
}

#[test]
fn it_moves_with_what_it_holds() {
    let (early, kept) = (memory(MIN_WORDS), memory(256));
    let mut ring = LogRing::new(&early).unwrap();
    ring.push(b"before\n");
    ring.move_to(&kept);
    ring.push(b"after\n");
    assert_eq!(recover(&kept).as_deref(), Some("before\nafter\n"));
    ring.move_to(&early[..3]);
    assert_eq!(ring.text(), "before\nafter\n", "too little memory changes nothing");
}

#[test]
fn too_little_memory_is_no_ring() {
    assert!(LogRing::new(&memory(MIN_WORDS - 1)).is_none());
    for words in 0..MIN_WORDS {
        assert_eq!(recover(&memory(words)), None);
    }
}

proptest! {
    /// Whatever one reset left behind is judged without a panic, and a ring with one changed word is refused.
    #[test]
    fn foreign_memory_is_refused(words in prop::collection::vec(any::<u64>(), 0..200)) {
        let words: Vec<AtomicU64> = words.into_iter().map(AtomicU64::new).collect();
        prop_assert_eq!(recover(&words), None);
    }

    #[test]
    fn a_damaged_ring_is_refused(
        lines in prop::collection::vec("[ -~]{0,60}\n", 0..20), at in any::<prop::sample::Index>(), change in 1..u64::MAX,
    ) {
        let words = memory(48);
        let mut ring = LogRing::new(&words).unwrap();
        for line in &lines {
            ring.push(line.as_bytes());
        }
        prop_assert_eq!(recover(&words), Some(ring.text()));
        words[at.index(words.len())].fetch_xor(change, Ordering::Relaxed);
        prop_assert_eq!(recover(&words), None);
    }

    #[test]
    fn what_is_kept_is_the_end_of_what_was_written(writes in prop::collection::vec("[a-z\n]{0,40}", 0..30)) {
        let words = memory(MIN_WORDS + 4);
        let mut ring = LogRing::new(&words).unwrap();
        writes.iter().for_each(|text| ring.push(text.as_bytes()));
        let all = writes.concat();
        prop_assert!(all.ends_with(&ring.text()));
        prop_assert_eq!(ring.written(), all.len() as u64);
        if all.len() <= ring.capacity() {
            prop_assert_eq!(ring.text(), all);
        }
    }
}
