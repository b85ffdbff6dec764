//! Bytes of a terminal become keys.

/// What the user pressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// A printable character; U+FFFD stands for bytes that are no UTF-8 or no printable character.
    Char(char),
    /// CR, LF, or both.
    Enter,
    /// Ctrl-I.
    Tab,
    /// BS or DEL: rubs out to the left.
    Backspace,
    /// ESC [ 3 ~: rubs out to the right.
    Delete,
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Arrow left.
    Left,
    /// Arrow right.
    Right,
    /// Start of line.
    Home,
    /// End of line.
    End,
    /// To the start of a word: Control and arrow left, or Alt-B.
    WordLeft,
    /// To the end of a word: Control and arrow right, or Alt-F.
    WordRight,
    /// Alt-D: rubs out to the end of a word.
    KillWord,
    /// Control and a letter, given in upper case.
    Ctrl(u8),
}

/// Takes the bytes of a serial line apart. Escape sequences that mean nothing here vanish as a whole.
#[derive(Clone, Debug, Default)]
pub struct KeyDecoder {
    state: State,
    after_cr: bool,
    /// A key came as an ESC sequence.
    sequence: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// Behind `ESC [`, with the first parameter and the last one.
    Csi {
        first: u8,
        last: u8,
        more: bool,
    },
    /// Behind `ESC O`.
    Ss3,
    Utf8 {
        bytes: [u8; 4],
        have: usize,
        need: usize,
    },
}

impl KeyDecoder {
    /// Takes one byte. There are two keys where it breaks off an unfinished character.
    pub fn feed(&mut self, byte: u8) -> [Option<Key>; 2] {
        let lf_of_crlf = self.after_cr && byte == b'\n';
        self.after_cr = byte == b'\r';
        if lf_of_crlf {
            return [None, None];
        }
        match core::mem::take(&mut self.state) {
            State::Ground => [self.ground(byte), None],
            State::Utf8 { bytes, have, need } => self.utf8(byte, bytes, have, need),
            // A control character ends a sequence that never came to its end.
            _ if byte < 0x20 => [self.ground(byte), None],
            State::Escape => {
                match byte {
                    b'[' => self.state = State::Csi { first: 0, last: 0, more: false },
                    b'O' => self.state = State::Ss3,
                    b'b' | b'B' => return [Some(Key::WordLeft), None],
                    b'f' | b'F' => return [Some(Key::WordRight), None],
                    b'd' | b'D' => return [Some(Key::KillWord), None],
                    0x1B => self.state = State::Escape,
                    0x08 | 0x7F => return [Some(Key::Ctrl(b'W')), None],
                    _ => {}
                }
                [None, None]
            }
            State::Csi { first, last, more } => {
                let key = self.csi(byte, first, last, more);
                self.sequence |= key.is_some();
                [key, None]
            }
            State::Ss3 => {
                // Control and arrow as rxvt sends them.
                let key = match byte {
                    b'c' => Some(Key::WordRight),
                    b'd' => Some(Key::WordLeft),
                    _ => letter(byte),
                };
                self.sequence |= key.is_some();
                [key, None]
            }
        }
    }

    /// Whether a key has come as an ESC sequence since the last call: the terminal knows them.
    pub fn take_sequence(&mut self) -> bool {
        core::mem::take(&mut self.sequence)
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        let need = match byte {
            0x1B => {
                self.state = State::Escape;
                return None;
            }
            b'\r' | b'\n' => return Some(Key::Enter),
            b'\t' => return Some(Key::Tab),
            0x08 | 0x7F => return Some(Key::Backspace),
            0x01..=0x1A => return Some(Key::Ctrl(byte + b'@')),
            0x20..=0x7E => return Some(Key::Char(char::from(byte))),
            0x00..=0x1F => return None,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => return Some(Key::Char(char::REPLACEMENT_CHARACTER)),
        };
        self.state = State::Utf8 { bytes: [byte, 0, 0, 0], have: 1, need };
        None
    }

    fn utf8(&mut self, byte: u8, mut bytes: [u8; 4], have: usize, need: usize) -> [Option<Key>; 2] {
        const BROKEN: Option<Key> = Some(Key::Char(char::REPLACEMENT_CHARACTER));
        if byte & 0xC0 != 0x80 {
            return [BROKEN, self.ground(byte)];
        }
        if let Some(slot) = bytes.get_mut(have) {
            *slot = byte;
        }
        let have = have + 1;
        if have < need {
            self.state = State::Utf8 { bytes, have, need };
            return [None, None];
        }
        let text = bytes.get(..need).and_then(|b| core::str::from_utf8(b).ok());
        let c = text.and_then(|t| t.chars().next()).filter(|c| is_shown(*c));
        [c.map_or(BROKEN, |c| Some(Key::Char(c))), None]
    }

    fn csi(&mut self, byte: u8, first: u8, last: u8, more: bool) -> Option<Key> {
        /// The parameter of a cursor key for Control, and that for Alt.
        const WITH_CONTROL: [u8; 2] = [5, 3];
        match byte {
            b'0'..=b'9' => {
                let last = last.saturating_mul(10).saturating_add(byte - b'0');
                self.state = State::Csi { first: if more { first } else { last }, last, more };
                None
            }
            b';' => {
                self.state = State::Csi { first, last: 0, more: true };
                None
            }
            // Intermediates change nothing for us.
            0x20..=0x3F => {
                self.state = State::Csi { first, last, more };
                None
            }
            b'C' if WITH_CONTROL.contains(&last) => Some(Key::WordRight),
            b'D' if WITH_CONTROL.contains(&last) => Some(Key::WordLeft),
            b'~' => match first {
                1 | 7 => Some(Key::Home),
                3 => Some(Key::Delete),
                4 | 8 => Some(Key::End),
                _ => None,
            },
            _ => letter(byte),
        }
    }
}

/// Whether a character may be echoed: no control character, none that turns the direction of the text around.
fn is_shown(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The final letter of a cursor key's sequence.
fn letter(byte: u8) -> Option<Key> {
    match byte {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        b'C' => Some(Key::Right),
        b'D' => Some(Key::Left),
        b'H' => Some(Key::Home),
        b'F' => Some(Key::End),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = KeyDecoder::default();
        bytes.iter().flat_map(|b| decoder.feed(*b)).flatten().collect()
    }

    #[test]
    fn line_ends_are_one_key_each() {
        for bytes in [&b"\r\r"[..], b"\n\n", b"\r\n\r\n", b"\r\n\n", b"\n\r"] {
            assert_eq!(keys(bytes), [Key::Enter, Key::Enter], "{bytes:?}");
        }
    }

    #[test]
    fn escape_sequences() {
        assert_eq!(
            keys(b"\x1b[A\x1bOB\x1b[3~\x1b[1~\x1b[1;5C"),
            [Key::Up, Key::Down, Key::Delete, Key::Home, Key::WordRight]
        );
        assert_eq!(keys(b"\x1b[200~a\x1b[201~\x1bxb"), [Key::Char('a'), Key::Char('b')]);
        assert_eq!(keys(b"\x1b\r\x1b[99999\r"), [Key::Enter, Key::Enter]);
    }

    #[test]
    fn words_with_control_or_alt() {
        assert_eq!(
            keys(b"\x1b[1;5D\x1b[5C\x1b[1;3C\x1bOd"),
            [Key::WordLeft, Key::WordRight, Key::WordRight, Key::WordLeft]
        );
        assert_eq!(
            keys(b"\x1bb\x1bf\x1bd\x1b\x7f"),
            [Key::WordLeft, Key::WordRight, Key::KillWord, Key::Ctrl(b'W')]
        );
        assert_eq!(keys(b"\x1b\x1b[A"), [Key::Up]);
    }

    #[test]
    fn a_sequence_is_noticed() {
        let mut decoder = KeyDecoder::default();
        let mut seen = |bytes: &[u8]| {
            for byte in bytes {
                decoder.feed(*byte);
            }
            decoder.take_sequence()
        };
        assert!(!seen(b"vm list\r\x1bb"));
        assert!(!seen(b"\x1b[200~"));
        assert!(seen(b"\x1b[A"));
        assert!(!seen(b"a"));
        assert!(seen(b"\x1bOH"));
    }

    #[test]
    fn utf8_and_noise() {
        let broken = Key::Char('\u{fffd}');
        assert_eq!(
            keys("aü€😀".as_bytes()),
            [Key::Char('a'), Key::Char('ü'), Key::Char('€'), Key::Char('😀')]
        );
        assert_eq!(keys(b"\xc3a"), [broken, Key::Char('a')]);
        assert_eq!(keys(b"\xc3\r\n"), [broken, Key::Enter]);
        assert_eq!(keys(b"\xff\x80\xc0"), [broken; 3]);
        assert_eq!(keys(b"\xc2\x9b1"), [broken, Key::Char('1')], "a C1 control is not echoed");
        assert_eq!(keys(b"\xed\xa0\x80"), [broken], "surrogates are no characters");
        assert_eq!(keys(b"\0\x03\x1c"), [Key::Ctrl(b'C')]);
    }
}
