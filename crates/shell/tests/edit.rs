//! The line editor and the console ring, against simple models.

use proptest::prelude::*;
use shell::{ConsoleRing, Event, LineEditor, MAX_LINE};

/// What was typed, line by line, and what a dumb terminal shows in the end.
fn typed(bytes: &[u8]) -> (Vec<String>, String) {
    let mut editor = LineEditor::new("> ");
    let mut out = String::new();
    let mut lines = Vec::new();
    for byte in bytes {
        match editor.input(*byte, &mut out) {
            Some(Event::Line(line)) => lines.push(line.to_owned()),
            Some(Event::TooLong(by)) => lines.push(format!("too long by {by}")),
            Some(Event::Interrupt) => lines.push("interrupt".into()),
            None => {}
        }
    }
    (lines, screen(&out))
}

/// A terminal that knows CR, LF and BS, with characters of one column.
fn screen(out: &str) -> String {
    let mut rows = vec![Vec::new()];
    let mut column = 0usize;
    for c in out.chars() {
        let row = rows.last_mut().unwrap();
        match c {
            '\r' => column = 0,
            '\n' => rows.push(Vec::new()),
            '\x08' => column = column.saturating_sub(1),
            '\x07' => {}
            c => {
                if column < row.len() {
                    row[column] = c;
                } else {
                    row.push(c);
                }
                column += 1;
            }
        }
    }
    let rows = rows.into_iter().map(|r| r.into_iter().collect::<String>().trim_end().to_owned());
    rows.collect::<Vec<_>>().join("\n")
}

#[test]
fn editing() {
    for (bytes, lines, shown) in [
        (&b"vm list\r"[..], &["vm list"][..], "vm list\n"),
        (b"a\r\nb\nc\r", &["a", "b", "c"], "a\nb\nc\n"),
        (b"vn\x08m\x7f\x7f\x7f\x7fcpu\r", &["cpu"], "cpu\n"),
        (b"vm show\tx\r", &["vm show x"], "vm show x\n"),
        (b"vm destroy demo\x17\x17list  \x17show x\r", &["vm show x"], "vm show x\n"),
        (b"reboot\x15net\r", &["net"], "net\n"),
        (b"reboot\x03net\r", &["interrupt", "net"], "reboot^C\nnet\n"),
        (b"ne\x0ct\r", &["net"], "ne\n> net\n"),
        (b"n\x1b[Ae\x1b[3~t\x1bOA\r", &["net"], "net\n"),
        ("fö\x08oo ü\r".as_bytes(), &["foo ü"], "foo ü\n"),
        (b"net\xff\r", &["net\u{fffd}"], "net\u{fffd}\n"),
        (b"\r\r", &["", ""], "\n\n"),
    ] {
        let (got, screen) = typed(bytes);
        assert_eq!(got, lines, "{bytes:?}");
        assert_eq!(screen, shown, "{bytes:?}");
    }
}

#[test]
fn wide_characters_are_rubbed_out_whole() {
    let mut editor = LineEditor::new("");
    let mut out = String::new();
    for byte in "漢\x08".bytes() {
        assert_eq!(editor.input(byte, &mut out), None);
    }
    assert_eq!(out, "漢\x08 \x08\x08 \x08");
}

#[test]
fn long_lines_are_refused_whole() {
    let fits = vec![b'a'; MAX_LINE];
    let line = |extra: &[u8]| typed(&[&fits, extra].concat()).0;
    assert_eq!(line(b"\r"), [String::from_utf8(fits.clone()).unwrap()]);
    assert_eq!(line(b"b\rnet\r"), ["too long by 1", "net"]);
    assert_eq!(line(b"bb\x08\x08\r"), [String::from_utf8(fits.clone()).unwrap()]);
    assert_eq!(line(b"bb\x15net\r"), ["net"]);
    let paste = [vec![b'x'; 16 << 10], b"\rnet\r".to_vec()].concat();
    assert_eq!(typed(&paste).0, ["too long by 15360", "net"]);
}

#[test]
fn the_prompt_comes_back_with_the_line() {
    let mut editor = LineEditor::new("> ");
    let mut out = String::new();
    for byte in *b"vm l" {
        editor.input(byte, &mut out);
    }
    out.clear();
    editor.prompt(&mut out);
    assert_eq!(out, "> vm l");
    assert_eq!(editor.input(b'\r', &mut out), Some(Event::Line("vm l")));
    out.clear();
    editor.prompt(&mut out);
    assert_eq!(out, "> ", "a line that was run is not typed any more");
    editor.set_echo(false);
    editor.input(b'x', &mut out);
    assert_eq!(out, "> ");
}

#[test]
fn replay_starts_with_a_line() {
    let mut ring = ConsoleRing::with_capacity(16);
    ring.push(b"one\ntwo\n");
    assert_eq!(ring.replay(), (&b"one\ntwo\n"[..], &b""[..]));
    ring.push(b"three\nfour\n");
    let (older, newer) = ring.replay();
    assert_eq!([older, newer].concat(), b"two\nthree\nfour\n"[..]);
    assert_eq!(ring.total(), 19);
}

proptest! {
    #[test]
    fn noise_never_panics_and_lines_stay_short(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let (lines, _) = typed(&bytes);
        for line in lines {
            prop_assert!(line.len() <= MAX_LINE && !line.contains(|c: char| c.is_control()), "{line:?}");
        }
    }

    #[test]
    fn what_is_shown_is_what_is_run(text in "[a-z ]{0,30}[a-z]", rubs in 0..40usize, more in "[a-z]{1,8}") {
        let bytes = [text.as_bytes(), &vec![0x7f; rubs], more.as_bytes(), b"\r"].concat();
        let (lines, shown) = typed(&bytes);
        let kept = text.len().saturating_sub(rubs);
        prop_assert_eq!(&lines, &[format!("{}{more}", &text[..kept])]);
        prop_assert_eq!(shown, format!("{}\n", lines[0]));
    }

    #[test]
    fn the_ring_keeps_the_newest(capacity in 0..40usize, chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
        let mut ring = ConsoleRing::with_capacity(capacity);
        for chunk in &chunks {
            ring.push(chunk);
        }
        let all = chunks.concat();
        let (older, newer) = ring.contents();
        prop_assert_eq!([older, newer].concat(), &all[all.len().saturating_sub(capacity)..]);
        prop_assert_eq!(ring.total(), all.len() as u64);
        let (older, newer) = ring.replay();
        prop_assert!(all.ends_with(&[older, newer].concat()));
    }

    #[test]
    fn the_ring_survives_a_move(bytes in prop::collection::vec(any::<u8>(), 0..200), total in any::<u64>()) {
        let ring = ConsoleRing::restore(&bytes, total);
        prop_assert_eq!(ring.contents(), (&bytes[..], &b""[..]));
        prop_assert!(ring.total() >= bytes.len() as u64);
    }
}
