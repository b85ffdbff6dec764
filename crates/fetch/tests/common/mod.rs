//! A sink that keeps what comes, up to a limit.

use fetch::{Sink, Url};

pub(crate) const LIMIT: u64 = 1 << 20;

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) size: Option<u64>,
    pub(crate) bytes: Vec<u8>,
}

impl Sink for Kept {
    fn size(&mut self, bytes: u64) -> Result<(), String> {
        assert!(self.size.replace(bytes).is_none(), "the size is told once");
        if bytes > LIMIT { Err(format!("{bytes} bytes are too many")) } else { Ok(()) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() as u64 > LIMIT { Err("too many bytes".into()) } else { Ok(()) }
    }
}

pub(crate) fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}
