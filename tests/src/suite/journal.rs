//! Which cells of a matrix have passed already: a matrix takes longer than many a session, and goes on where it was cut short.

use super::Outcome;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What passed with the same image, bench and guests: a line each, `KEY SECONDS NAME`, written when the cell ends.
pub struct Journal {
    path: PathBuf,
    key: String,
    passed: BTreeMap<String, Duration>,
}

impl Journal {
    /// That in this file, as far as it is about these files: what runs, and by what it is run.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn open(path: &Path, about: &[PathBuf]) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        for file in about {
            let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            hasher.write_usize(bytes.len());
            hasher.write(&bytes);
        }
        let key = format!("{:016x}", hasher.finish());
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        // A run that was killed may have left a part of a line.
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let passed = lines.filter_map(|line| {
            let (seconds, name) = line.strip_prefix(key.as_str())?.strip_prefix(' ')?.split_once(' ')?;
            Some((name.to_string(), Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?))
        });
        Ok(Self { path: path.to_path_buf(), passed: passed.collect(), key })
    }

    /// How this cell passed before, if it did.
    #[must_use]
    pub fn outcome(&self, name: &str) -> Option<Outcome> {
        let time = *self.passed.get(name)?;
        Some(Outcome { name: name.to_string(), passed: true, time, note: "before".to_string() })
    }

    /// Notes how a cell ended. One that failed is run again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note(&self, outcome: &Outcome) -> Result<()> {
        if !outcome.passed {
            return Ok(());
        }
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(self.path.parent().unwrap_or(Path::new(".")))?;
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            writeln!(file, "{} {:.1} {}", self.key, outcome.time.as_secs_f64(), outcome.name)
        };
        write().with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_is_known_until_the_image_is_another() {
        let dir = std::env::temp_dir().join(format!("journal-test-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (path, image) = (dir.join("deep/smp"), dir.join("image"));
        fs::write(&image, "one").unwrap();
        let open = || Journal::open(&path, std::slice::from_ref(&image)).unwrap();
        let cell = |name: &str, passed| Outcome {
            name: name.to_string(),
            passed,
            time: Duration::from_millis(2500),
            note: String::new(),
        };
        let journal = open();
        assert!(journal.outcome("a/b c").is_none());
        journal.note(&cell("a/b c", true)).unwrap();
        journal.note(&cell("a/d", false)).unwrap();
        let found = open().outcome("a/b c").unwrap();
        assert!(found.passed && found.time == Duration::from_millis(2500));
        assert!(open().outcome("a/d").is_none(), "what failed is run again");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        write!(file, "{} 1.0 a/cut", open().key).unwrap();
        assert!(open().outcome("a/cut").is_none());
        fs::write(&image, "two").unwrap();
        assert!(open().outcome("a/b c").is_none(), "that was another image");
        fs::remove_dir_all(dir).unwrap();
    }
}
