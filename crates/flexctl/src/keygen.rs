//! `keygen`: a pool key from the operating system's random numbers.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write as _};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{Answer, object};

const RANDOM: &str = "/dev/urandom";

pub(crate) fn run(output: Option<&Path>, words: &[String], json: bool) -> Result<Answer> {
    if !words.is_empty() {
        bail!(
            "a pool key is no passphrase: words can be guessed from a recorded handshake; `flexctl keygen` alone makes a random key"
        );
    }
    let mut bytes = [0; 32];
    File::open(RANDOM).and_then(|mut file| file.read_exact(&mut bytes)).context(RANDOM)?;
    let key = bytes.iter().fold(String::new(), |mut key, byte| {
        let _ = write!(key, "{byte:02x}");
        key
    });
    let Some(path) = output else {
        return Ok(Answer::yes(if json { object(|o| o.field("key", key.as_str())) } else { key + "\n" }));
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| writeln!(file, "{key}"));
    written.with_context(|| path.display().to_string())?;
    let name = path.display().to_string();
    Ok(Answer::yes(if json { object(|o| o.field("file", name.as_str())) } else { name + ": written\n" }))
}
