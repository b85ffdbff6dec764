//! What a server gives out: the files of a folder, and others beside or in place of them that may be cut short or lied about.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a file is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As it is.
    Whole,
    /// The server ends after so many bytes of it.
    EndsAfter(usize),
    /// The server falls silent after so many bytes of it.
    SilentAfter(usize),
    /// The server says that it has so many bytes.
    Announced(u64),
    /// The server does not say how many bytes it has, and knows no options of TFTP.
    Unsaid,
}

/// A file on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// What is sent of it.
    pub(super) bytes: Vec<u8>,
    /// What is said of its length.
    pub(super) size: Option<u64>,
    /// Nothing follows the bytes, not even their end.
    pub(super) silent: bool,
}

impl Offer {
    pub(super) fn new(mut bytes: Vec<u8>, way: Way) -> Self {
        let length = bytes.len() as u64;
        let size = match way {
            Way::Announced(size) => Some(size),
            Way::Unsaid => None,
            _ => Some(length),
        };
        if let Way::EndsAfter(count) | Way::SilentAfter(count) = way {
            bytes.truncate(count);
        }
        Self { bytes, size, silent: matches!(way, Way::SilentAfter(_)) }
    }

    /// It is as long as was said.
    pub(super) fn is_whole(&self) -> bool {
        self.size == Some(self.bytes.len() as u64) && !self.silent
    }
}

/// The files, and what was asked for.
#[derive(Default)]
pub(super) struct Shelf {
    folder: Option<PathBuf>,
    files: Mutex<BTreeMap<String, (Vec<u8>, Way)>>,
    asked: Mutex<Vec<String>>,
    /// TFTP transfers whose end nobody has told.
    pub(super) open: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelf {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, ..Self::default() }
    }

    pub(super) fn put(&self, path: &str, bytes: Vec<u8>, way: Way) {
        lock(&self.files).insert(path.trim_start_matches('/').to_string(), (bytes, way));
    }

    pub(super) fn note(&self, line: String) {
        lock(&self.asked).push(line);
    }

    pub(super) fn asked(&self) -> Vec<String> {
        lock(&self.asked).clone()
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The file of that name; the request is noted.
    pub(super) fn ask(&self, protocol: &str, name: &str) -> Option<Offer> {
        let name = name.trim_start_matches('/');
        let found = self.find(name);
        let missing = if found.is_none() { " (none)" } else { "" };
        self.note(format!("{protocol} {name}{missing}"));
        found
    }

    fn find(&self, name: &str) -> Option<Offer> {
        if let Some((bytes, way)) = lock(&self.files).get(name) {
            return Some(Offer::new(bytes.clone(), *way));
        }
        let name = Path::new(name);
        let inside = name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let folder = self.folder.as_ref().filter(|_| inside)?;
        Some(Offer::new(std::fs::read(folder.join(name)).ok()?, Way::Whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_the_folder_is_served() {
        let shelf = Shelf::new(Some(std::env::temp_dir()));
        for name in ["../etc/passwd", "//../etc/passwd", "a/../../etc/passwd", ""] {
            assert_eq!(shelf.ask("tftp", name), None);
        }
        assert_eq!(shelf.asked()[0], "tftp ../etc/passwd (none)");
    }

    #[test]
    fn a_file_of_its_own_wins_over_the_folder() {
        let shelf = Shelf::new(Some("/".into()));
        assert!(shelf.ask("http", "/etc/passwd").is_some_and(|file| file.is_whole()));
        shelf.put("/etc/passwd", vec![1; 100], Way::EndsAfter(7));
        let offer = shelf.ask("http", "etc/passwd").unwrap();
        assert_eq!((offer.bytes.len(), offer.size, offer.is_whole()), (7, Some(100), false));
    }
}
