//! Where answers go.

use core::fmt::{self, Write};

use json::Object;

/// Cursor to the first row, and nothing below it (ECMA-48: CUP, ED).
pub(crate) const CLEAR: &str = "\x1b[H\x1b[J";

/// Where the answer to a command goes. It cannot fail: a transport that is gone swallows it.
pub(crate) struct Out<'a> {
    transport: &'a mut dyn Write,
    ansi: bool,
}

impl<'a> Out<'a> {
    /// A transport that is no terminal, or a dumb one.
    pub(crate) fn new(transport: &'a mut dyn Write) -> Self {
        Self { transport, ansi: false }
    }

    /// A terminal, which knows ESC sequences or not.
    pub(crate) fn terminal(transport: &'a mut dyn Write, ansi: bool) -> Self {
        Self { transport, ansi }
    }

    /// Whether ESC sequences mean something at the other end.
    pub(crate) fn is_ansi(&self) -> bool {
        self.ansi
    }
}

impl Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.transport.write_str(text)
    }
}

/// One JSON object on one line.
pub(super) fn json_line(out: &mut Out<'_>, fill: impl FnOnce(&mut Object<'_>) -> fmt::Result) {
    // An answer cannot fail.
    let _ = json::object(out, fill).and_then(|()| out.write_char('\n'));
}
