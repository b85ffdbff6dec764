//! JSON text (RFC 8259), written piece by piece to a [`core::fmt::Write`]; nothing is allocated.
//!
//! ```
//! let mut text = String::new();
//! json::object(&mut text, |o| {
//!     o.field("name", "demo")?;
//!     o.field("pages", 3_u64)?;
//!     o.array("levels", |a| a.item("haswell"))
//! })
//! .unwrap();
//! assert_eq!(text, r#"{"name":"demo","pages":3,"levels":["haswell"]}"#);
//! ```
#![no_std]
#![forbid(unsafe_code)]

use core::fmt::{self, Display, Write};

/// Something that has a form in JSON.
pub trait Value {
    /// Writes it.
    ///
    /// # Errors
    /// Only those of `out`.
    fn write(&self, out: &mut dyn Write) -> fmt::Result;
}

/// What a type shows, as a string.
#[derive(Clone, Copy, Debug)]
pub struct Shown<T>(pub T);

/// Writes an object.
///
/// # Errors
/// Those of `out` and of `fill`.
pub fn object(out: &mut dyn Write, fill: impl FnOnce(&mut Object<'_>) -> fmt::Result) -> fmt::Result {
    out.write_char('{')?;
    fill(&mut Object(Items { out, any: false }))?;
    out.write_char('}')
}

/// Writes an array.
///
/// # Errors
/// Those of `out` and of `fill`.
pub fn array(out: &mut dyn Write, fill: impl FnOnce(&mut Array<'_>) -> fmt::Result) -> fmt::Result {
    out.write_char('[')?;
    fill(&mut Array(Items { out, any: false }))?;
    out.write_char(']')
}

struct Items<'w> {
    out: &'w mut dyn Write,
    any: bool,
}

impl Items<'_> {
    fn next(&mut self) -> fmt::Result {
        if core::mem::replace(&mut self.any, true) { self.out.write_char(',') } else { Ok(()) }
    }
}

/// An object that is being written.
pub struct Object<'w>(Items<'w>);

/// All these fail only as `out` does.
#[allow(clippy::missing_errors_doc)]
impl Object<'_> {
    fn key(&mut self, key: &str) -> fmt::Result {
        self.0.next()?;
        key.write(self.0.out)?;
        self.0.out.write_char(':')
    }

    /// A member with a plain value.
    pub fn field(&mut self, key: &str, value: impl Value) -> fmt::Result {
        self.key(key)?;
        value.write(self.0.out)
    }

    /// A member that is an object.
    pub fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>) -> fmt::Result) -> fmt::Result {
        self.key(key)?;
        object(self.0.out, fill)
    }

    /// A member that is an array.
    pub fn array(&mut self, key: &str, fill: impl FnOnce(&mut Array<'_>) -> fmt::Result) -> fmt::Result {
        self.key(key)?;
        array(self.0.out, fill)
    }
}

/// An array that is being written.
pub struct Array<'w>(Items<'w>);

/// All these fail only as `out` does.
#[allow(clippy::missing_errors_doc)]
impl Array<'_> {
    /// An element with a plain value.
    pub fn item(&mut self, value: impl Value) -> fmt::Result {
        self.0.next()?;
        value.write(self.0.out)
    }

    /// An element that is an object.
    pub fn object(&mut self, fill: impl FnOnce(&mut Object<'_>) -> fmt::Result) -> fmt::Result {
        self.0.next()?;
        object(self.0.out, fill)
    }

    /// Elements with plain values.
    pub fn items<T: Value>(&mut self, values: impl IntoIterator<Item = T>) -> fmt::Result {
        values.into_iter().try_for_each(|value| self.item(value))
    }
}

impl Value for str {
    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        out.write_char('"')?;
        Escaped(out).write_str(self)?;
        out.write_char('"')
    }
}

impl<T: Display> Value for Shown<T> {
    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        out.write_char('"')?;
        write!(Escaped(out), "{}", self.0)?;
        out.write_char('"')
    }
}

impl Value for bool {
    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        out.write_str(if *self { "true" } else { "false" })
    }
}

impl<T: Value + ?Sized> Value for &T {
    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        (**self).write(out)
    }
}

/// `null` for none.
impl<T: Value> Value for Option<T> {
    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        match self {
            Some(value) => value.write(out),
            None => out.write_str("null"),
        }
    }
}

macro_rules! integers {
    ($($t:ty)*) => {$(
        impl Value for $t {
            fn write(&self, out: &mut dyn Write) -> fmt::Result {
                write!(out, "{self}")
            }
        }
    )*};
}

integers!(u8 u16 u32 u64 usize i32 i64);

/// Escapes what RFC 8259 section 7 asks for, and DEL, which some terminals act on.
struct Escaped<'w>(&'w mut dyn Write);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate() {
            if !matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f) {
                continue;
            }
            self.0.write_str(&text[plain..at])?;
            match byte {
                b'"' | b'\\' => write!(self.0, "\\{}", char::from(byte))?,
                _ => write!(self.0, "\\u{byte:04x}")?,
            }
            plain = at + 1;
        }
        self.0.write_str(&text[plain..])
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;

    fn text(value: impl Value) -> String {
        let mut text = String::new();
        value.write(&mut text).unwrap();
        text
    }

    #[test]
    fn values() {
        assert_eq!(text("a\"b\\c\n\u{7f}é"), r#""a\"b\\c\u000a\u007fé""#);
        assert_eq!(text(Shown(format_args!("{}-{:?}", 1, "x"))), r#""1-\"x\"""#);
        assert_eq!(text(Some(5_u8)), "5");
        assert_eq!(text(None::<bool>), "null");
        assert_eq!(text(u64::MAX), "18446744073709551615");
        assert_eq!(text(-1_i32), "-1");
    }

    #[test]
    fn nesting() {
        let mut text = String::new();
        array(&mut text, |a| {
            a.items([true, false])?;
            a.object(|_| Ok(()))?;
            a.object(|o| {
                o.object("x", |o| o.field("y", "z"))?;
                o.array("list", |_| Ok(()))
            })
        })
        .unwrap();
        assert_eq!(text, r#"[true,false,{},{"x":{"y":"z"},"list":[]}]"#);
    }
}
