//! The line editor against a terminal, the queue before it and the console ring against simple models.

#[path = "../../../tests/src/terminal.rs"]
#[allow(dead_code, unreachable_pub, reason = "another crate tests with it too")]
mod terminal;

use proptest::prelude::*;
use shell::{ConsoleRing, Event, LineEditor, MAX_LINE, Named, Names, Term, TypeAhead, Typed};
use terminal::{Kind, Terminal, width};

const PROMPT: &str = "> ";

/// What a host knows.
struct Host;

impl Names for Host {
    fn each(&self, kind: Named, found: &mut dyn FnMut(&str)) {
        let names: &[&str] = match kind {
            Named::Vms => &["demo", "demo-2", "web", "no name", ""],
            Named::Addresses => &["10.0.0.2", "10.0.0.3"],
            Named::Members => &["rack-a", "rack-b"],
            Named::CpuLevels => &["haswell", "nehalem"],
        };
        names.iter().for_each(|name| found(name));
    }
}

/// An editor with a terminal on it.
struct Desk {
    editor: LineEditor,
    terminal: Terminal,
    lines: Vec<String>,
}

impl Desk {
    fn new(kind: Kind, columns: usize) -> Self {
        let mut desk = Self {
            editor: LineEditor::new(PROMPT),
            terminal: Terminal::new(kind, columns),
            lines: Vec::new(),
        };
        desk.editor.set_columns(columns);
        desk.prompt();
        desk
    }

    fn prompt(&mut self) {
        let mut out = String::new();
        self.editor.prompt(&mut out);
        self.terminal.show(&out);
    }

    fn key(&mut self, byte: u8) {
        let mut out = String::new();
        let ended = match self.editor.input(byte, &Host, &mut out) {
            Some(Event::Line(line)) => Some(line.to_owned()),
            Some(Event::TooLong(by)) => Some(format!("too long by {by}")),
            Some(Event::Interrupt) => Some("interrupt".into()),
            None => None,
        };
        self.terminal.show(&out);
        if let Some(line) = ended {
            // A line that did not fit its row is shown again as a whole, and may go on in the next row.
            if width(PROMPT) + width(&line) >= self.editor.columns() {
                self.terminal.wrapped = 0;
            }
            self.lines.push(line);
            self.prompt();
        }
    }

    fn press(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.key(*byte));
    }

    /// The screen shows what the line holds.
    fn agrees(&self) -> Result<(), String> {
        let (text, cursor) = self.editor.line();
        let row = self.terminal.line();
        let column = self.terminal.column();
        if self.terminal.wrapped > 0 || !self.terminal.garbage.is_empty() {
            return Err(format!("wrapped {}, garbage {:?}", self.terminal.wrapped, self.terminal.garbage));
        }
        if row.starts_with("(search '") || row.starts_with("(not found '") {
            return Ok(());
        }
        if shell::secret_at(text).is_some() {
            return Ok(());
        }
        let whole = format!("{PROMPT}{text}");
        let (before, behind) = text.split_at(cursor);
        if width(&whole) < self.editor.columns() {
            let place = width(PROMPT) + width(before);
            let same = row == whole.trim_end() && column == place;
            return if same { Ok(()) } else { Err(format!("{text:?} at {cursor}: row {row:?} at {column}")) };
        }
        // In part: what is shown is a part of the line, and the characters beside the cursor are right.
        let part = row.strip_prefix(PROMPT).ok_or("no prompt")?;
        let part = part.strip_prefix('<').unwrap_or(part);
        let part = part.strip_suffix('>').unwrap_or(part);
        let beside = |c: Option<char>, right| {
            let shown = self.terminal.beside_cursor(right);
            c.is_none_or(|c| shown.contains(c) || (c == ' ' && shown.trim().is_empty()))
        };
        if text.contains(part)
            && beside(before.chars().next_back(), false)
            && beside(behind.chars().next(), true)
        {
            return Ok(());
        }
        Err(format!("{text:?} at {cursor}: shown in part as {row:?} at {column}"))
    }
}

/// What was typed, line by line, and what a dumb terminal shows in the end.
fn typed(bytes: &[u8]) -> (Vec<String>, String) {
    let mut desk = Desk::new(Kind::Dumb, 80);
    desk.press(bytes);
    (desk.lines, desk.terminal.text())
}

#[test]
fn editing() {
    for (bytes, lines, shown) in [
        (&b"vm list\r"[..], &["vm list"][..], "> vm list\n>"),
        (b"a\r\nb\nc\r", &["a", "b", "c"], "> a\n> b\n> c\n>"),
        (b"vn\x08m\x7f\x7f\x7f\x7fcpu\r", &["cpu"], "> cpu\n>"),
        (b"vm destroy demo\x17\x17list  \x17show x\r", &["vm show x"], "> vm show x\n>"),
        (b"reboot\x15net\r", &["net"], "> net\n>"),
        (b"reboot\x03net\r", &["interrupt", "net"], "> reboot^C\n> net\n>"),
        (b"ne\x0ct\r", &["net"], "> ne\n> net\n>"),
        ("fö\x08oo ü\r".as_bytes(), &["foo ü"], "> foo ü\n>"),
        (b"net\xff\r", &["net\u{fffd}"], "> net\u{fffd}\n>"),
        (b"\r\r", &["", ""], ">\n>\n>"),
        // In the middle: Ctrl-A, Ctrl-B, Ctrl-D, Ctrl-E, Ctrl-F, Ctrl-K, Ctrl-U.
        (b"m list\x01v\r", &["vm list"], "> vm list\n>"),
        (b"vm liist\x02\x02\x02\x04\x05 \r", &["vm list "], "> vm list\n>"),
        (b"vm list all\x01\x06\x06\x0b\r", &["vm"], "> vm\n>"),
        (b"xx vm list\x02\x02\x02\x02\x02\x02\x02\x15\r", &["vm list"], "> vm list\n>"),
        (b"vm  old list\x02\x02\x02\x02\x02\x17\r", &["vm   list"], "> vm   list\n>"),
    ] {
        let (got, screen) = typed(bytes);
        assert_eq!(got, lines, "{bytes:?}");
        assert_eq!(screen, shown, "{bytes:?}");
    }
}

#[test]
fn keys_of_a_terminal() {
    for (bytes, line) in [
        (&b"ct\x1b[Da\x1b[Cx\r"[..], "catx"),
        (b"ct\x1bODa\r", "cat"),
        (b"bc\x1b[Ha\x1b[Fd\r", "abcd"),
        (b"bc\x1b[1~a\x1b[4~d\x1b[7~0\x1b[8~9\r", "0abcd9"),
        (b"abXc\x1b[D\x1b[D\x1b[3~\r", "abc"),
        (b"one two three\x1b[1;5D\x1b[1;5Dx\x1b[1;5Cy\r", "one xtwoy three"),
        (b"one two\x1bb\x1bd2\r", "one 2"),
        (b"one two\x1b\x7f2\r", "one 2"),
    ] {
        let mut desk = Desk::new(Kind::Ansi, 80);
        desk.press(bytes);
        assert_eq!(desk.lines, [line], "{bytes:?}");
        assert_eq!(desk.terminal.rows()[0], format!("> {line}"), "{bytes:?}");
    }
}

#[test]
fn history() {
    let mut desk = Desk::new(Kind::Dumb, 80);
    desk.press(b"one\rtwo\rtwo\r\r  \rthree\r");
    desk.lines.clear();
    // Up three times is the first; a fourth one stays there.
    desk.press(b"dra\x10\x10\x10");
    assert_eq!(desk.terminal.line(), "> one");
    desk.press(b"\x10");
    assert_eq!((desk.terminal.line().as_str(), desk.terminal.bells), ("> one", 1));
    desk.press(b"\x0e");
    assert_eq!(desk.terminal.line(), "> two");
    desk.press(b"\x0e\x0eft");
    assert_eq!(desk.terminal.line(), "> draft", "what was typed is still there");
    desk.press(b"\x15\x10\x10 more\r");
    assert_eq!(desk.lines, ["two more"]);
}

#[test]
fn history_is_bounded() {
    let mut desk = Desk::new(Kind::Dumb, 80);
    for number in 0..150 {
        desk.press(format!("line {number}\r").as_bytes());
    }
    desk.press(&[0x10; 200]);
    assert_eq!(desk.terminal.line(), "> line 50");
    for _ in 0..40 {
        desk.press(&[b'x'; 1000]);
        desk.press(b"\rshort\r");
    }
    desk.press(&[0x10; 200]);
    let (oldest, _) = desk.editor.line();
    assert!(oldest.starts_with('x') || oldest == "short", "{oldest}");
}

#[test]
fn keys_are_neither_shown_nor_kept() {
    let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let mut desk = Desk::new(Kind::Dumb, 80);
    desk.press(format!("net\rpool key {key}\r").as_bytes());
    assert_eq!(desk.lines, ["net".to_string(), format!("pool key {key}")]);
    assert!(!desk.terminal.text().contains("0011"), "{}", desk.terminal.text());
    assert!(desk.terminal.text().contains("pool key ****"), "{}", desk.terminal.text());
    desk.press(format!(" pool  key  short\rpool kye {key}\rpool keys\r").as_bytes());
    assert!(!desk.terminal.text().contains("short"));
    desk.press(b"\x10");
    assert_eq!(desk.terminal.line(), "> pool keys");
    desk.press(b"\x10");
    assert_eq!(desk.terminal.line(), "> net");
    desk.press(b"\x15\x12eeff");
    assert!(desk.terminal.line().starts_with("(not found 'eeff')"), "{}", desk.terminal.line());
}

#[test]
fn search() {
    let mut desk = Desk::new(Kind::Dumb, 80);
    desk.press(b"vm show web\rvm list\rnet\rvm show demo\r");
    desk.lines.clear();
    desk.press(b"dra\x12show");
    assert_eq!(desk.terminal.line(), "(search 'show') vm show demo");
    desk.press(b"\x12");
    assert_eq!(desk.terminal.line(), "(search 'show') vm show web");
    desk.press(b"\x12");
    assert_eq!(desk.terminal.line(), "(search 'show') vm show web", "there is no older one");
    desk.press(b" d");
    assert_eq!(desk.terminal.line(), "(not found 'show d')");
    desk.press(b"\x7f");
    assert_eq!(desk.terminal.line(), "(search 'show ') vm show demo");
    desk.press(b"\x07");
    assert_eq!(desk.terminal.line(), "> dra", "Ctrl-G: as it was before");
    desk.press(b"\x12lis\x01 ");
    assert_eq!(desk.terminal.line(), ">  vm list", "another key edits what was found");
    desk.press(b"\x15\x05\x15\x12net\r");
    assert_eq!(desk.lines, ["net"]);
    desk.press(b"\x12zzz\r");
    assert_eq!(desk.lines, ["net", ""], "nothing found, nothing run");
    desk.press(b"\x12vm\x03");
    assert_eq!(desk.lines, ["net", "", "interrupt"]);
    assert_eq!(desk.terminal.line(), ">");
}

#[test]
fn completion() {
    for (bytes, line) in [
        ("ver\t", "version "),
        ("vm li\t", "vm list "),
        ("vm sh\td\t", "vm show demo"),
        ("vm show w\t", "vm show web "),
        ("console demo --r\t", "console demo --read-only "),
        ("vm destroy demo -\t", "vm destroy demo --force "),
        ("migrate w\t10.0.0.3 on-t\tth\t", "migrate web 10.0.0.3 on-timeout=throttle "),
        ("migrate web 10.0.0.3 --d\t dow\t30", "migrate web 10.0.0.3 --detach  downtime=30"),
        ("log console d\t", "log console debug "),
        ("cpu show has\t", "cpu show haswell "),
        ("cpu check web rack-\tb", "cpu check web rack-b"),
        ("help vm li\t", "help vm list "),
        ("vm dirty start web p\t", "vm dirty start web pml "),
        ("pool key 00\t", "pool key 00"),
        ("nonsense \tx", "nonsense x"),
        ("# vm li\t", "# vm li"),
        ("m li\x01v\x05\x02\x02\t", "vm li"),
        ("vm show no\t", "vm show no"),
    ] {
        let mut desk = Desk::new(Kind::Dumb, 80);
        desk.press(bytes.as_bytes());
        assert_eq!(desk.editor.line().0, line, "{bytes:?}");
        assert_eq!(desk.agrees(), Ok(()));
    }
}

#[test]
fn the_second_tab_lists() {
    let mut desk = Desk::new(Kind::Dumb, 80);
    desk.press(b"vm show d\t");
    assert_eq!((desk.terminal.text().as_str(), desk.terminal.bells), ("> vm show demo", 0));
    desk.press(b"\t");
    assert_eq!((desk.terminal.text().as_str(), desk.terminal.bells), ("> vm show demo", 1));
    desk.press(b"\t");
    assert_eq!(desk.terminal.text(), "> vm show demo\ndemo    demo-2\n> vm show demo");
    desk.press(b"-\t\r");
    assert_eq!(desk.lines, ["vm show demo-2 "]);
    let mut narrow = Desk::new(Kind::Dumb, 40);
    narrow.press(b"\t\t");
    let text = narrow.terminal.text();
    assert!(text.contains("console") && text.contains("version"), "{text}");
    assert_eq!((narrow.terminal.wrapped, narrow.terminal.line().as_str()), (0, ">"));
}

#[test]
fn a_dumb_terminal_gets_no_escape_sequence() {
    let bytes = b"vm show demo\x01\x0b\x10\x12x\x07\x0c\t\tvm\x1bf\x1bb\x17\r";
    let mut desk = Desk::new(Kind::Dumb, 80);
    desk.press(bytes);
    assert_eq!(desk.terminal.garbage, [""; 0]);
    assert_eq!(desk.editor.term(), (Term::Auto, false));
    // Nor one that was said to be dumb, whatever it sends.
    desk.editor.set_term(Term::Dumb);
    desk.press(b"a long enough line\x1b[H\x1b[F\x1b[3~\x1b[A\x0c");
    assert_eq!(desk.terminal.garbage, [""; 0]);
    // One that sends them gets them.
    let mut desk = Desk::new(Kind::Ansi, 80);
    desk.press(b"a long enough line\x1b[H");
    assert_eq!(desk.editor.term(), (Term::Auto, true));
    let mut out = String::new();
    desk.editor.input(5, &(), &mut out);
    assert_eq!(out, "\x1b[18C");
    desk.terminal.show(&out);
    desk.press(b"\x0c");
    assert_eq!(desk.terminal.text(), "> a long enough line");
}

#[test]
fn long_lines_stay_on_their_row() {
    for kind in [Kind::Dumb, Kind::Ansi] {
        let mut desk = Desk::new(kind, 40);
        if kind == Kind::Ansi {
            desk.editor.set_term(Term::Ansi);
        }
        let text: String = (0..30).map(|n| format!("word{n} ")).collect();
        for byte in text.bytes() {
            desk.key(byte);
            assert_eq!(desk.agrees(), Ok(()));
        }
        assert_eq!(desk.terminal.rows().len(), 1);
        for key in [&b"\x01"[..], b"x", b"\x05", b"\x17", b"\x01\x06\x06\x0b"] {
            desk.press(key);
            assert_eq!(desk.agrees(), Ok(()));
        }
        for _ in 0..text.len() {
            desk.key(2);
            assert_eq!(desk.agrees(), Ok(()));
        }
    }
}

#[test]
fn a_long_line_is_shown_whole_once_it_is_run() {
    let url = "http://10.0.0.2/images/of/a/long/path/vmlinuz-6.1.0-amd64";
    let line = format!("vm create web --kernel {url} --cmdline \"console=ttyS0 quiet\"");
    let mut editor = LineEditor::new(PROMPT);
    let mut out = String::new();
    let mut press = |text: &str, out: &mut String| {
        for byte in text.bytes() {
            editor.input(byte, &Host, out);
        }
    };
    press(&line, &mut out);
    assert!(!out.contains(&format!("{PROMPT}{line}")));
    press("\r", &mut out);
    assert_eq!(out.matches(&format!("\r\n{PROMPT}{line}\r\n")).count(), 1);
    out.clear();
    press("vm list\r", &mut out);
    assert!(out.ends_with("vm list\r\n") && out.matches(PROMPT).count() == 1, "{out:?}");
    out.clear();
    press(&format!("pool key {}\r", "ab12".repeat(20)), &mut out);
    assert!(
        out.contains(&format!("\r\n{PROMPT}pool key {}\r\n", "*".repeat(80))) && !out.contains("ab12"),
        "{out:?}"
    );
}

#[test]
fn a_paste_costs_little_more_than_its_bytes() {
    let mut editor = LineEditor::new(PROMPT);
    let mut out = String::new();
    editor.prompt(&mut out);
    out.clear();
    let paste = "migrate demo 10.0.0.2 downtime=100 timeout=600 on-timeout=throttle";
    for byte in paste.bytes() {
        editor.input(byte, &(), &mut out);
    }
    assert_eq!(out, paste);
    out.clear();
    for _ in 0..900 {
        editor.input(b'x', &(), &mut out);
    }
    assert!(out.len() < 6 * 900, "{} bytes", out.len());
}

#[test]
fn characters_are_rubbed_out_whole() {
    for (bytes, line) in [
        ("a漢\x7fb", "ab"),
        ("ae\u{301}\x7fb", "ab"),
        ("ae\u{301}\u{302}x\x02\x7fb", "abx"),
        ("a😀b\x02\x02\x04c", "acb"),
        ("\u{301}a", "a"),
        ("a\x01\u{301}", "a"),
        ("漢字 x\x17\x17", ""),
    ] {
        let mut desk = Desk::new(Kind::Dumb, 80);
        for byte in bytes.bytes() {
            desk.key(byte);
            assert_eq!(desk.agrees(), Ok(()));
        }
        assert_eq!(desk.editor.line().0, line, "{bytes:?}");
    }
}

#[test]
fn long_lines_are_refused_whole() {
    let fits = vec![b'a'; MAX_LINE];
    let line = |extra: &[u8]| typed(&[&fits, extra].concat()).0;
    assert_eq!(line(b"\r"), [String::from_utf8(fits.clone()).unwrap()]);
    assert_eq!(line(b"b\rnet\r"), ["too long by 1", "net"]);
    assert_eq!(line(b"bb\x08\x08\r"), [String::from_utf8(fits.clone()).unwrap()]);
    assert_eq!(line(b"bb\x15net\r"), ["net"]);
    assert_eq!(line(b"\x01b\r"), ["too long by 1"], "in the middle too");
    let paste = [vec![b'x'; 16 << 10], b"\rnet\r".to_vec()].concat();
    assert_eq!(typed(&paste).0, ["too long by 15360", "net"]);
}

#[test]
fn the_prompt_comes_back_with_the_line() {
    let mut editor = LineEditor::new(PROMPT);
    let mut out = String::new();
    for byte in *b"vm l" {
        editor.input(byte, &(), &mut out);
    }
    out.clear();
    editor.prompt(&mut out);
    assert_eq!(out, "> vm l");
    assert_eq!(editor.input(b'\r', &(), &mut out), Some(Event::Line("vm l")));
    out.clear();
    editor.prompt(&mut out);
    assert_eq!(out, "> ", "a line that was run is not typed any more");
    editor.set_echo(false);
    editor.input(b'x', &(), &mut out);
    assert_eq!(out, "> ");
}

#[test]
fn a_line_whose_rest_is_lost_is_given_up() {
    let mut desk = Desk::new(Kind::Dumb, 80);
    desk.press(b"vm destroy de");
    desk.editor.give_up();
    desk.press(b"net\r");
    assert_eq!(desk.lines, ["net"]);
}

#[test]
fn the_character_before_the_cursor_is_shown_in_a_long_line_too() {
    let mut desk = Desk::new(Kind::Dumb, 50);
    desk.editor.set_term(Term::Dumb);
    for byte in "漢a     aaaaaaaaa a   aaa ------downtime=migrate \x1b[1;5D".bytes() {
        desk.key(byte);
        assert_eq!(desk.agrees(), Ok(()));
    }
}

fn queued(ahead: &mut TypeAhead) -> Vec<u8> {
    std::iter::from_fn(|| ahead.pop()).collect()
}

#[test]
fn what_does_not_fit_is_dropped_by_the_line() {
    let mut ahead = TypeAhead::with_capacity(12);
    b"vm list\rvm destroy x\rnet\r".iter().for_each(|byte| ahead.push(*byte));
    assert_eq!(queued(&mut ahead), b"vm list\rnet\r");
    assert_eq!(ahead.take_lost(), Some(Typed { lines: 1, bytes: 13, begun: false }));
    assert_eq!(ahead.take_lost(), None);
    // The reader has the beginning already.
    b"vm des".iter().for_each(|byte| ahead.push(*byte));
    assert_eq!((ahead.pop(), ahead.pop()), (Some(b'v'), Some(b'm')));
    b"troy everything\rnet\r".iter().for_each(|byte| ahead.push(*byte));
    assert_eq!(ahead.take_lost().map(|lost| (lost.lines, lost.begun)), Some((1, true)));
    assert_eq!(queued(&mut ahead), b"net\r");
    let mut closed = TypeAhead::closed();
    closed.push(b'x');
    assert!(closed.is_empty());
}

#[test]
fn an_interrupt_drops_what_was_typed_before() {
    let mut ahead = TypeAhead::with_capacity(100);
    b"one\rtwo\x03thr\x03ee\r".iter().for_each(|byte| ahead.push(*byte));
    assert!(ahead.interrupt());
    assert!(!ahead.interrupt());
    assert_eq!(queued(&mut ahead), b"ee\r");
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

/// Keys and pieces of text that matter to an editor.
fn presses() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-z ]{1,12}".prop_map(String::into_bytes),
        2 => prop::sample::select(vec![
            "vm ", "demo", "pool ", "help ", "migrate ", "--", "downtime=", "\u{fc}", "漢", "e\u{301}", "😀", "\u{301}",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        4 => (0u8..32).prop_map(|control| vec![control]),
        3 => prop::sample::select(vec![
            "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[H", "\x1b[F", "\x1b[3~", "\x1b[1;5C", "\x1b[1;5D", "\x1bd", "\x7f",
        ]).prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn noise_never_panics_and_lines_stay_short(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        let (lines, _) = typed(&bytes);
        for line in lines {
            prop_assert!(line.len() <= MAX_LINE && !line.contains(|c: char| c.is_control()), "{line:?}");
        }
    }

    #[test]
    fn the_screen_shows_the_line(bytes in presses(), columns in 40..100usize, ansi: bool) {
        let mut desk = Desk::new(if ansi { Kind::Ansi } else { Kind::Dumb }, columns);
        desk.editor.set_term(if ansi { Term::Ansi } else { Term::Dumb });
        for byte in bytes {
            desk.key(byte);
            prop_assert_eq!(desk.agrees(), Ok(()));
        }
    }

    #[test]
    fn what_is_shown_is_what_is_run(text in "[a-z ]{0,30}[a-z]", rubs in 0..40usize, more in "[a-z]{1,8}") {
        let bytes = [text.as_bytes(), &vec![0x7f; rubs], more.as_bytes(), b"\r"].concat();
        let (lines, shown) = typed(&bytes);
        let kept = text.len().saturating_sub(rubs);
        prop_assert_eq!(&lines, &[format!("{}{more}", &text[..kept])]);
        prop_assert_eq!(shown, format!("{PROMPT}{}\n>", lines[0]));
    }

    #[test]
    fn the_queue_gives_whole_lines(capacity in 0..60usize, lines in prop::collection::vec("[a-z]{0,20}", 0..20), read in prop::collection::vec(0..8usize, 0..40)) {
        let mut ahead = TypeAhead::with_capacity(capacity);
        let mut read = read.into_iter().chain(std::iter::repeat(0));
        let mut got = Vec::new();
        for line in &lines {
            for byte in line.bytes().chain([b'\r']) {
                ahead.push(byte);
                // As the console does it: what was begun and is lost is given up.
                if ahead.take_lost().is_some_and(|lost| lost.begun) {
                    let start = got.iter().rposition(|byte| *byte == b'\r').map_or(0, |at| at + 1);
                    got.truncate(start);
                }
                for _ in 0..read.next().unwrap_or(0) {
                    got.extend(ahead.pop());
                }
            }
        }
        got.extend(queued(&mut ahead));
        let got = String::from_utf8(got).unwrap();
        let mut sent = lines.iter();
        for line in got.split_terminator('\r') {
            prop_assert!(sent.any(|one| one == line), "{line:?} of {lines:?}");
        }
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
    fn the_ring_survives_a_move(
        first in prop::collection::vec(any::<u8>(), 0..200), more in prop::collection::vec(any::<u8>(), 0..200),
        seen in 0..500u64,
    ) {
        let mut there = ConsoleRing::with_capacity(150);
        there.push(&first);
        let mut here = ConsoleRing::with_capacity(150);
        let piece = |ring: &ConsoleRing, told| {
            let (_, (older, newer)) = ring.since(told);
            [older, newer].concat()
        };
        here.append(&piece(&there, 0), there.total());
        let told = there.total();
        there.push(&more);
        here.append(&piece(&there, told), there.total());
        let kept = |ring: &ConsoleRing| { let (older, newer) = ring.contents(); [older, newer].concat() };
        prop_assert!(kept(&there).ends_with(&kept(&here)));
        prop_assert!(more.len() > 150 || kept(&here) == kept(&there));
        prop_assert_eq!(here.total(), there.total());
        let (lost, (older, newer)) = here.since(seen);
        let all = [&first[..], &more[..]].concat();
        let unseen = &all[(seen.min(all.len() as u64)) as usize..];
        prop_assert!(unseen.ends_with(&[older, newer].concat()));
        prop_assert!(seen >= here.total() || lost as usize + older.len() + newer.len() == unseen.len());
    }

    #[test]
    fn a_piece_from_the_wire_is_harmless(piece in prop::collection::vec(any::<u8>(), 0..200), total: u64, seen: u64) {
        let mut ring = ConsoleRing::new();
        ring.push(b"before");
        ring.append(&piece, total);
        ring.push(b"after");
        prop_assert!(ring.total() >= piece.len() as u64);
        let _ = (ring.since(seen), ring.replay());
    }
}
