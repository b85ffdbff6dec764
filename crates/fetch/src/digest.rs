//! The digest of a file while it comes.

use alloc::boxed::Box;
use alloc::string::String;

use sha2::{Digest, Sha256};

use crate::error::Why;
use crate::{FetchError, Sink, Url};

/// A sink that takes the SHA-256 (FIPS 180-4) of what goes on to another one.
#[derive(Debug)]
pub struct Digested<S> {
    sink: S,
    hash: Sha256,
}

impl<S: Sink> Digested<S> {
    /// Nothing has come yet.
    pub fn new(sink: S) -> Self {
        Self { sink, hash: Sha256::new() }
    }

    /// The whole file has come: the sink, and the digest.
    ///
    /// # Errors
    /// The file of that URL has another digest than is `wanted`.
    pub fn finish(self, url: &Url, wanted: Option<&[u8; 32]>) -> Result<(S, [u8; 32]), FetchError> {
        let found = self.hash.finalize().into();
        match wanted {
            Some(wanted) if *wanted != found => {
                Err(FetchError { url: url.clone(), why: Why::Digest(Box::new([found, *wanted])) })
            }
            _ => Ok((self.sink, found)),
        }
    }
}

impl<S: Sink> Sink for Digested<S> {
    fn size(&mut self, bytes: u64) -> Result<(), String> {
        self.sink.size(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.hash.update(bytes);
        self.sink.write(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    impl Sink for Vec<u8> {
        fn size(&mut self, _: u64) -> Result<(), String> {
            Ok(())
        }

        fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
            self.extend(bytes);
            Ok(())
        }
    }

    /// FIPS 180-4's example `abc`, in two pieces.
    #[test]
    fn a_file_with_another_digest_is_refused() {
        let url = Url::parse("http://10.0.0.2/abc").unwrap();
        let file = || {
            let mut file = Digested::new(Vec::new());
            file.write(b"a").unwrap();
            file.write(b"bc").unwrap();
            file
        };
        let (bytes, digest) = file().finish(&url, None).unwrap();
        assert_eq!((bytes.as_slice(), &digest[..4]), (&b"abc"[..], &[0xba, 0x78, 0x16, 0xbf][..]));
        assert!(file().finish(&url, Some(&digest)).is_ok());
        let error = file().finish(&url, Some(&[0x11; 32])).unwrap_err().to_string();
        assert!(error.starts_with("http://10.0.0.2/abc: SHA-256 is ba7816bf"), "{error}");
        assert!(error.ends_with(&"11".repeat(32)), "{error}");
    }
}
