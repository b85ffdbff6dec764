//! What people type: on the console, and on boot lines.

use shell::{Attach, Command, Event, Failure, LineEditor, MAX_LINE, Named, Names, Term, TypeAhead};

/// What a host knows.
struct Host;

impl Names for Host {
    fn each(&self, kind: Named, found: &mut dyn FnMut(&str)) {
        let names: &[&str] = match kind {
            Named::Vms => &["demo", "demo-2", "web", "", "no name", "\u{301}"],
            Named::Addresses => &["10.0.0.2", "10.0.0.3"],
            Named::Members => &["rack-a", "r\u{e4}ck"],
            Named::CpuLevels => &["haswell", "haswell-noTSX"],
        };
        names.iter().for_each(|name| found(name));
    }
}

/// Bytes of a terminal, through the queue, the line editor and the parser, and through an attached console. The first
/// byte says what the terminal is.
pub fn shell_line(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let mut editor = LineEditor::new(shell::PROMPT);
    editor.set_term(Term::ALL[usize::from(first) % Term::ALL.len()]);
    editor.set_columns(usize::from(first));
    let mut ahead = TypeAhead::with_capacity(64 + usize::from(first));
    let (mut echo, mut help) = (String::new(), String::new());
    editor.prompt(&mut echo);
    for chunk in data.chunks(97) {
        chunk.iter().for_each(|byte| ahead.push(*byte));
        if first & 0x80 != 0 {
            ahead.interrupt();
        }
        if ahead.take_lost().is_some_and(|lost| lost.begun) {
            editor.give_up();
        }
        while let Some(byte) = ahead.pop() {
            let ended = match editor.input(byte, &Host, &mut echo) {
                Some(Event::Line(line)) => {
                    assert!(line.len() <= MAX_LINE);
                    match shell::parse(line) {
                        Ok(Command::Help(topic)) => {
                            shell::write_help(topic, &mut help).expect("help of a known topic")
                        }
                        Ok(_) => {}
                        Err(error) => {
                            let text = Failure::from(error).to_string();
                            assert!(!text.contains(char::is_control), "{text:?}");
                        }
                    }
                    true
                }
                Some(_) => true,
                None => false,
            };
            if ended {
                editor.prompt(&mut echo);
            }
            let (text, cursor) = editor.line();
            assert!(text.len() <= MAX_LINE && text.is_char_boundary(cursor), "{text:?} at {cursor}");
            if !editor.term().1 {
                let harmless = |c: char| !c.is_control() || matches!(c, '\r' | '\n' | '\x08' | '\x07');
                assert!(echo.chars().all(harmless), "{echo:?}");
            }
            echo.clear();
        }
    }
    for mut attach in [Attach::new(shell::ESCAPE), Attach::read_only(shell::ESCAPE)] {
        for byte in data {
            attach.input(*byte);
        }
    }
}

/// Boot lines: the host's, and one of a module.
pub fn cmdline(data: &[u8]) {
    let line = String::from_utf8_lossy(data);
    let (_, warnings) = cmdline::HostOptions::parse(&line);
    warnings.iter().for_each(|w| drop(w.to_string()));
    if let Err(refused) = cmdline::ModuleRole::parse(&line) {
        assert!(!refused.to_string().is_empty());
    }
    let (rest, rows) = cmdline::modules_of_line(&line);
    assert!(rest.len() + 8 * rows.len() <= line.len(), "{line:?}: {rest:?}");
    if let Ok(file) = cmdline::ConfigFile::parse("fuzz.cfg", data) {
        let kept = cmdline::ConfigFile::parse("fuzz.cfg", file.without_modules().as_bytes());
        assert_eq!(kept.map(|kept| kept.line()), Ok(file.line()));
        file.modules().flatten().for_each(|row| assert!(!row.file.is_empty()));
        let (_, warnings) = cmdline::HostOptions::with_config("loglevel=info", &[file]);
        warnings.iter().for_each(|w| drop(w.to_string()));
    }
}
