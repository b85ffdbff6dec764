//! The classic capture file format (pcap-savefile(5)): little-endian, microseconds, Ethernet.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

const MAGIC: u32 = 0xa1b2_c3d4;
const ETHERNET: u32 = 1;
const SNAPLEN: u32 = 65_535;

/// A capture being written.
pub(super) struct Capture {
    file: BufWriter<File>,
}

impl Capture {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut file = BufWriter::new(file);
        let version = 2 | 4 << 16; // 2.4
        for word in [MAGIC, version, 0, 0, SNAPLEN, ETHERNET] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.flush()?;
        Ok(Self { file })
    }

    pub(super) fn write(&mut self, frame: &[u8]) {
        let time = UNIX_EPOCH.elapsed().unwrap_or_default();
        let length = frame.len() as u32;
        for word in [time.as_secs() as u32, time.subsec_micros(), length, length] {
            let _ = self.file.write_all(&word.to_le_bytes());
        }
        let _ = self.file.write_all(frame);
        let _ = self.file.flush();
    }
}

/// The frames of a capture written by [`Capture`].
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let word =
        |at: usize| -> Option<u32> { Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
    ensure!(word(0) == Some(MAGIC) && word(20) == Some(ETHERNET), "wrong header");
    let mut frames = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let length = word(at + 8).context("cut header")? as usize;
        frames.push(bytes.get(at + 16..at + 16 + length).context("cut frame")?.to_vec());
        at += 16 + length;
    }
    Ok(frames)
}
