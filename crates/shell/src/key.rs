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
    /// Control and a letter, given in upper case.
    Ctrl(u8),
}

/// Takes the bytes of a serial line apart. Escape sequences that mean nothing here vanish as a whole.
#[derive(Clone, Debug, Default)]
pub struct KeyDecoder {
    state: State,
    after_cr: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// Behind `ESC [`, with the first parameter.
    Csi(u8),
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
                    b'[' => self.state = State::Csi(0),
                    b'O' => self.state = State::Ss3,
                    _ => {}
                }
                [None, None]
            }
            State::Csi(first) => [self.csi(byte, first), None],
            State::Ss3 => [letter(byte), None],
        }
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
        let c = text.and_then(|t| t.chars().next()).filter(|c| !c.is_control());
        [c.map_or(BROKEN, |c| Some(Key::Char(c))), None]
    }

    fn csi(&mut self, byte: u8, first: u8) -> Option<Key> {
        match byte {
            b'0'..=b'9' => {
                self.state = State::Csi(first.saturating_mul(10).saturating_add(byte - b'0'));
                None
            }
            // Further parameters (modifiers) and intermediates change nothing for us.
            0x20..=0x3F => {
                self.state = State::Csi(first);
                None
            }
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
            [Key::Up, Key::Down, Key::Delete, Key::Home, Key::Right]
        );
        assert_eq!(keys(b"\x1b[200~a\x1b[201~\x1bxb"), [Key::Char('a'), Key::Char('b')]);
        assert_eq!(keys(b"\x1b\r\x1b[99999\r"), [Key::Enter, Key::Enter]);
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
