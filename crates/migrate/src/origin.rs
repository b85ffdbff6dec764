//! ORIGIN and FILE: what a VM was made from, and the files of it that the target lacks.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::limits;
use crate::wire::{RecordType, WireError};

/// SHA-256 of a file.
pub type Sha256 = [u8; 32];

/// A file that a VM was made from.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct OriginFile {
    /// Of its bytes; absent where nobody has computed it.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub sha256: Option<Sha256>,
    /// Bytes in it.
    #[n(1)]
    pub len: u64,
    /// A module's string.
    #[n(2)]
    pub text: String,
    /// Where it came from.
    #[n(3)]
    pub url: Option<String>,
    /// The source has not got it, or it is longer than goes along: it cannot be asked for.
    #[n(4)]
    pub stays: Option<bool>,
}

impl OriginFile {
    /// Whether it can be asked for.
    #[must_use]
    pub fn can_come(&self) -> bool {
        self.sha256.is_some() && self.len > 0 && self.stays != Some(true)
    }
}

/// ORIGIN: what a VM was made from.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Origin {
    /// The options of the VM, as on a module's line.
    #[n(0)]
    pub options: String,
    /// The guest's command line.
    #[n(1)]
    pub args: String,
    /// The kernel, then its modules.
    #[n(2)]
    pub files: Vec<OriginFile>,
}

impl Origin {
    /// Checks every number against the constants.
    ///
    /// # Errors
    /// [`WireError::Body`] with the file and its value.
    pub fn validate(&self) -> Result<(), WireError> {
        let bad = |why: String| Err(WireError::body(RecordType::Origin, why));
        if !(1..=limits::MAX_FILES).contains(&self.files.len()) {
            return bad(format!("{} files, 1 to {} are allowed", self.files.len(), limits::MAX_FILES));
        }
        for (number, file) in self.files.iter().enumerate() {
            if file.len > limits::MAX_FILE_BYTES {
                return bad(format!("file {number} of {} bytes", file.len));
            }
            let url = file.url.as_deref().unwrap_or("x");
            if url.is_empty() || url.len() > limits::MAX_TEXT || !url.bytes().all(|b| b.is_ascii_graphic()) {
                return bad(format!("the URL of file {number} is none"));
            }
        }
        Ok(())
    }

    /// The first file with the digest of this one: the same bytes are sent once.
    #[must_use]
    pub fn same_as(&self, number: u32) -> u32 {
        let digest = self.files.get(number as usize).and_then(|file| file.sha256);
        let same = |file: &OriginFile| digest.is_some() && file.sha256 == digest;
        self.files.iter().position(same).map_or(number, |first| first as u32)
    }

    /// The numbers of those that can come and that a host lacks: each digest once.
    #[must_use]
    pub fn lacking(&self, mut lacks: impl FnMut(&Sha256, u64) -> bool) -> Vec<u32> {
        let mut wanted = Vec::new();
        for (number, file) in (0_u32..).zip(&self.files) {
            if let Some(sha256) = &file.sha256
                && file.can_come()
                && self.same_as(number) == number
                && lacks(sha256, file.len)
            {
                wanted.push(number);
            }
        }
        wanted
    }

    /// What the target may ask for of what it wants: files with a digest and a content, each once, in order.
    pub(crate) fn can_send(&self, wanted: Vec<u32>) -> Vec<u32> {
        let mut wanted: Vec<u32> = wanted.into_iter().filter(|number| self.sends(*number)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    fn sends(&self, number: u32) -> bool {
        self.files.get(number as usize).is_some_and(OriginFile::can_come)
    }

    /// Checks what a target asks for.
    ///
    /// # Errors
    /// [`WireError::Body`].
    pub(crate) fn check_wanted(&self, wanted: &[u32]) -> Result<(), WireError> {
        match wanted.iter().find(|number| !self.sends(**number)) {
            Some(number) => Err(WireError::body(
                RecordType::Verdict,
                format!("it asks for file {number}, which is not offered"),
            )),
            None if !wanted.is_sorted_by(|a, b| a < b) => {
                Err(WireError::body(RecordType::Verdict, "it asks for files out of order"))
            }
            None => Ok(()),
        }
    }
}

/// Bytes before a file's in FILE: its number and where they belong.
pub const FILE_HEAD: usize = 12;

/// A piece of a file: the body of FILE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece<'a> {
    /// Which of ORIGIN.
    pub number: u32,
    /// Place of the first byte.
    pub offset: u64,
    /// At least one.
    pub bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// What stands before the bytes.
    #[must_use]
    pub fn head(number: u32, offset: u64) -> [u8; FILE_HEAD] {
        let mut head = [0; FILE_HEAD];
        let (first, second) = head.split_at_mut(4);
        first.copy_from_slice(&number.to_le_bytes());
        second.copy_from_slice(&offset.to_le_bytes());
        head
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`WireError::Body`]: it is too short.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let short =
            || WireError::body(RecordType::File, format!("{} bytes, with none of a file", body.len()));
        let (number, rest) = body.split_first_chunk::<4>().ok_or_else(short)?;
        let (offset, bytes) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        if bytes.is_empty() {
            return Err(short());
        }
        Ok(Self { number: u32::from_le_bytes(*number), offset: u64::from_le_bytes(*offset), bytes })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn file(len: u64) -> OriginFile {
        OriginFile { sha256: Some([7; 32]), len, text: String::new(), url: None, stays: None }
    }

    fn origin(files: Vec<OriginFile>) -> Origin {
        Origin { options: "mem=64".into(), args: String::new(), files }
    }

    #[test]
    fn bad_origins_are_refused_by_file() {
        assert_eq!(origin(vec![file(1), file(0)]).validate(), Ok(()));
        for (bad, text) in [
            (origin(vec![]), "ORIGIN body: 0 files, 1 to 64 are allowed"),
            (origin(vec![file(1); 65]), "ORIGIN body: 65 files, 1 to 64 are allowed"),
            (origin(vec![file(1), file(u64::MAX)]), "ORIGIN body: file 1 of 18446744073709551615 bytes"),
            (
                origin(vec![OriginFile { url: Some("http://a b".into()), ..file(1) }]),
                "ORIGIN body: the URL of file 0 is none",
            ),
        ] {
            assert_eq!(bad.validate().map_err(|error| alloc::format!("{error}")), Err(text.into()));
        }
    }

    #[test]
    fn only_what_is_offered_is_asked_for() {
        let some = origin(vec![file(1), file(0), OriginFile { sha256: None, ..file(9) }, file(3)]);
        assert_eq!(some.can_send(vec![3, 0, 1, 2, 3, 4, u32::MAX]), [0, 3]);
        assert_eq!(some.check_wanted(&[0, 3]), Ok(()));
        assert_eq!(some.check_wanted(&[]), Ok(()));
        for bad in [&[1][..], &[2], &[4], &[3, 0], &[0, 0], &[u32::MAX]] {
            assert!(some.check_wanted(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_same_bytes_come_once() {
        let other = OriginFile { sha256: Some([8; 32]), ..file(5) };
        let stays = OriginFile { sha256: Some([9; 32]), stays: Some(true), ..file(5) };
        let some = origin(vec![file(5), other, file(5), OriginFile { sha256: None, ..file(5) }, stays]);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|number| some.same_as(number)), [0, 1, 0, 3, 4, 5]);
        assert_eq!(some.lacking(|_, _| true), [0, 1]);
        assert_eq!(some.lacking(|sha256, len| sha256 == &[8; 32] && len == 5), [1]);
    }

    #[test]
    fn pieces_round_trip() {
        let body = [&Piece::head(7, 1 << 40)[..], b"abc"].concat();
        assert_eq!(Piece::read(&body), Ok(Piece { number: 7, offset: 1 << 40, bytes: b"abc" }));
        for short in 0..=FILE_HEAD {
            assert!(Piece::read(&body[..short]).is_err(), "{short}");
        }
    }
}
