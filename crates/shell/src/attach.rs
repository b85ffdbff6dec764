//! The way out of a guest's console.

use core::fmt::{self, Write};

/// Ctrl-\: the escape key unless another one is asked for. No terminal program, BMC or `screen` takes it away.
pub const ESCAPE: u8 = 0x1C;

/// Stands between the terminal and a guest's serial port while the guest's console is shown.
///
/// The escape key and then `.` detaches, `?` explains, the escape key again sends it once. Any other key sends both
/// to the guest: an escape key typed by mistake is not lost.
#[derive(Clone, Debug)]
pub struct Attach {
    escape: u8,
    escaped: bool,
    read_only: bool,
}

/// What a byte from the terminal means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachEvent {
    /// The escape key: the next byte decides.
    Wait,
    /// For the guest.
    Byte(u8),
    /// Both for the guest, in this order.
    Pair(u8, u8),
    /// Back to the host's prompt.
    Detach,
    /// Print [`Attach::write_help`]; nothing goes to the guest.
    Help,
    /// It would be for the guest, to which nothing goes.
    Ignored,
}

impl Attach {
    /// Attached, with `escape` (a control character, usually [`ESCAPE`]) as the escape key.
    #[must_use]
    pub const fn new(escape: u8) -> Self {
        Self { escape, escaped: false, read_only: false }
    }

    /// Attached to look on: nothing goes to the guest.
    #[must_use]
    pub const fn read_only(escape: u8) -> Self {
        Self { escape, escaped: false, read_only: true }
    }

    /// Takes one byte from the terminal.
    pub fn input(&mut self, byte: u8) -> AttachEvent {
        if !self.escaped {
            self.escaped = byte == self.escape;
            return match byte {
                _ if self.escaped => AttachEvent::Wait,
                _ if self.read_only => AttachEvent::Ignored,
                byte => AttachEvent::Byte(byte),
            };
        }
        self.escaped = false;
        match byte {
            b'.' => AttachEvent::Detach,
            b'?' => AttachEvent::Help,
            _ if self.read_only => AttachEvent::Ignored,
            b if b == self.escape => AttachEvent::Byte(b),
            b => AttachEvent::Pair(self.escape, b),
        }
    }

    /// The line to print on entry: `console NAME: Ctrl-\ then . detaches, Ctrl-\ twice sends it`.
    ///
    /// # Errors
    /// Only those of `out`.
    pub fn write_help(&self, vm: &str, out: &mut impl Write) -> fmt::Result {
        let key = char::from(self.escape ^ 0x40);
        if self.read_only {
            return write!(out, "console {vm}, read-only: Ctrl-{key} then . detaches\r\n");
        }
        write!(out, "console {vm}: Ctrl-{key} then . detaches, Ctrl-{key} twice sends it\r\n")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    fn events(bytes: &[u8]) -> Vec<AttachEvent> {
        let mut attach = Attach::new(ESCAPE);
        bytes.iter().map(|b| attach.input(*b)).filter(|e| *e != AttachEvent::Wait).collect()
    }

    #[test]
    fn escape_key() {
        use AttachEvent::{Byte, Detach, Help, Pair};
        assert_eq!(events(b"a."), [Byte(b'a'), Byte(b'.')]);
        assert_eq!(events(b"\x1c."), [Detach]);
        assert_eq!(events(b"\x1c?x"), [Help, Byte(b'x')]);
        assert_eq!(events(b"\x1c\x1c."), [Byte(0x1c), Byte(b'.')]);
        assert_eq!(events(b"\x1cx\x1c\x1c\x1c."), [Pair(0x1c, b'x'), Byte(0x1c), Detach]);
    }

    #[test]
    fn nothing_is_typed_where_one_only_looks_on() {
        let mut attach = Attach::read_only(ESCAPE);
        let events: Vec<_> = b"a\x1c?\x1c\x1c\x1cx\x1c.".iter().map(|b| attach.input(*b)).collect();
        use AttachEvent::{Detach, Help, Ignored, Wait};
        assert_eq!(events, [Ignored, Wait, Help, Wait, Ignored, Wait, Ignored, Wait, Detach]);
        let mut out = String::new();
        assert!(attach.write_help("demo", &mut out).is_ok());
        assert_eq!(out, "console demo, read-only: Ctrl-\\ then . detaches\r\n");
    }

    #[test]
    fn the_key_is_named() {
        let mut out = String::new();
        assert!(Attach::new(ESCAPE).write_help("demo", &mut out).is_ok());
        assert_eq!(out, "console demo: Ctrl-\\ then . detaches, Ctrl-\\ twice sends it\r\n");
    }
}
