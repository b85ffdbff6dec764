//! What people type: on the console, and on boot lines.

use shell::{Attach, Command, Event, Failure, LineEditor, MAX_LINE};

/// Bytes of a terminal, through the line editor and the parser, and through an attached console.
pub fn shell_line(data: &[u8]) {
    let mut editor = LineEditor::new(shell::PROMPT);
    let mut echo = String::new();
    for byte in data {
        if let Some(Event::Line(line)) = editor.input(*byte, &mut echo) {
            assert!(line.len() <= MAX_LINE);
            match shell::parse(line) {
                Ok(Command::Help(topic)) => {
                    shell::write_help(topic, &mut echo).expect("help of a known topic")
                }
                Ok(_) => {}
                Err(error) => {
                    let text = Failure::from(error).to_string();
                    assert!(!text.contains(char::is_control), "{text:?}");
                }
            }
        }
    }
    let mut attach = Attach::new(shell::ESCAPE);
    for byte in data {
        attach.input(*byte);
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
}
