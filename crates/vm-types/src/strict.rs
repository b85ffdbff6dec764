//! The one decoder of state: CBOR that says what was understood, and nothing besides.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use minicbor::data::Type;
use minicbor::decode::Error;
use minicbor::{Decode, Decoder, Encode};

/// Decodes all of `body`. What the reader does not know is refused, since it may be state that the guest would miss:
/// bytes behind the value, further elements of an array, a value written otherwise than this version writes it. The one
/// exception is a key of a map, which a later version may add where older readers may ignore it; whatever they may not
/// ignore comes with a new record version.
///
/// # Errors
/// What is wrong, in words.
pub fn decode_strict<'b, T: Decode<'b, ()> + Encode<()>>(body: &'b [u8]) -> Result<T, String> {
    let mut decoder = Decoder::new(body);
    let value: T = decoder.decode().map_err(|error| error.to_string())?;
    match body.len() - decoder.position() {
        0 => {}
        rest => return Err(format!("{rest} bytes behind the body")),
    }
    let known = minicbor::to_vec(&value).map_err(|error| error.to_string())?;
    if known != body {
        let mut read = Decoder::new(body);
        agree(&mut read, &mut Decoder::new(&known)).map_err(|error| match error {
            Disagreement::At(at) => format!("the value at byte {at} is not one that this version writes"),
            Disagreement::Twice(key) => format!("key {key} comes twice"),
            Disagreement::Cbor(error) => error.to_string(),
        })?;
    }
    Ok(value)
}

enum Disagreement {
    /// Offset in what was read.
    At(usize),
    Twice(u64),
    Cbor(Error),
}

impl From<Error> for Disagreement {
    fn from(error: Error) -> Self {
        Self::Cbor(error)
    }
}

/// Compares one value that was read with what was understood of it. The depth is that of the type.
fn agree(read: &mut Decoder<'_>, known: &mut Decoder<'_>) -> Result<(), Disagreement> {
    let at = read.position();
    let differs = Disagreement::At(at);
    let kind = known.datatype()?;
    if read.datatype()? != kind {
        return Err(differs);
    }
    match kind {
        Type::Array => {
            let len = read.array()?;
            if len.is_none() || known.array()? != len {
                return Err(differs);
            }
            for _ in 0..len.unwrap_or(0) {
                agree(read, known)?;
            }
        }
        Type::Map => {
            let (Some(len), Some(count)) = (read.map()?, known.map()?) else { return Err(differs) };
            let mut fields = Vec::new();
            for _ in 0..count {
                let key = known.u64()?;
                fields.push((key, known.position(), false));
                known.skip()?;
            }
            let end = known.position();
            for _ in 0..len {
                let key = read.u64()?;
                match fields.iter_mut().find(|field| field.0 == key) {
                    None => read.skip()?,
                    Some((.., true)) => return Err(Disagreement::Twice(key)),
                    Some((_, value_at, seen)) => {
                        *seen = true;
                        known.set_position(*value_at);
                        agree(read, known)?;
                    }
                }
            }
            known.set_position(end);
        }
        _ => {
            let known_at = known.position();
            read.skip()?;
            known.skip()?;
            let bytes = |decoder: &Decoder<'_>, from: usize| {
                decoder.input().get(from..decoder.position()).map(<[u8]>::to_vec)
            };
            if bytes(read, at) != bytes(known, known_at) {
                return Err(differs);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Encode, Decode, Debug, PartialEq)]
    struct Inner {
        #[n(0)]
        a: u8,
        #[n(1)]
        later: Option<u8>,
    }

    #[derive(Encode, Decode, Debug, PartialEq)]
    #[cbor(map)]
    struct Outer {
        #[n(0)]
        rows: Vec<Inner>,
        #[n(3)]
        more: Option<u64>,
    }

    fn outer(body: &[u8]) -> Result<Outer, String> {
        decode_strict(body)
    }

    #[test]
    fn what_this_version_writes_is_taken() {
        for (later, more) in [(None, None), (Some(1), Some(300))] {
            let value = Outer { rows: [Inner { a: 5, later }].into(), more };
            assert_eq!(outer(&minicbor::to_vec(&value).unwrap()), Ok(value));
        }
    }

    /// Fault 1.8: `machine`, `vcpu`, `audit` and the layout of a file took all of these.
    #[test]
    fn nothing_is_ignored_but_keys() {
        let plain = [0xA1, 0x00, 0x81, 0x81, 0x05];
        assert!(outer(&plain).is_ok());
        let with_key = [0xA2, 0x00, 0x81, 0x81, 0x05, 0x18, 0x63, 0x82, 0x01, 0x02];
        assert!(outer(&with_key).is_ok(), "a key of a later version");
        for (bad, why) in [
            (&[&plain[..], &[0x00]].concat()[..], "1 bytes behind the body"),
            (&[0xA1, 0x00, 0x81, 0x83, 0x05, 0xF6, 0x07], "at byte 3"),
            (&[0xA1, 0x00, 0x81, 0x82, 0x05, 0xF6], "at byte 3"),
            (&[0xA1, 0x00, 0x81, 0x81, 0x18, 0x05], "at byte 4"),
            (&[0xA1, 0x00, 0x9F, 0x81, 0x05, 0xFF], "at byte 2"),
        ] {
            let refused = outer(bad);
            assert!(refused.as_ref().is_err_and(|text| text.contains(why)), "{bad:02x?}: {refused:?}");
        }
    }

    #[test]
    fn a_key_counts_once() {
        let twice = |second| [0xA3, 0x00, 0x81, 0x81, 0x05, 0x03, 0x01, 0x03, second];
        assert!(outer(&twice(2)).is_err());
        assert_eq!(outer(&twice(1)), Err("key 3 comes twice".into()));
    }
}
