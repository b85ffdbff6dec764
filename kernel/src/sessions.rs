//! Who is connected to this host: ports of the console, and links that are up.

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::lock::{self, Mutex};
use hw::arch::tsc;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    id: u64,
    /// `console`, or the service of a link.
    pub(crate) kind: &'static str,
    /// The port, or the other host.
    pub(crate) peer: String,
    /// The other host's key.
    pub(crate) key: Option<String>,
    /// Since when, in microseconds since the start.
    pub(crate) since_us: u64,
    /// What runs.
    pub(crate) doing: Option<String>,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(lock::SESSIONS, Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A place in the list, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Entry(u64);

impl Entry {
    /// Somebody is connected from now on.
    pub(crate) fn new(kind: &'static str, peer: String, key: Option<String>) -> Self {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        ROWS.lock().push(Row { id, kind, peer, key, since_us: tsc::micros(), doing: None });
        Self(id)
    }

    /// What runs there now; none: nothing.
    pub(crate) fn doing(&self, what: Option<String>) {
        if let Some(row) = ROWS.lock().iter_mut().find(|row| row.id == self.0) {
            row.doing = what;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        ROWS.lock().retain(|row| row.id != self.0);
    }
}

/// All of them, the oldest first.
pub(crate) fn all() -> Vec<Row> {
    ROWS.lock().clone()
}
