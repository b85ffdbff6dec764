//! How something ended that goes on by itself, for one who waits for it.

use alloc::string::String;
use alloc::sync::Arc;

use crate::lock::{self, Mutex};

/// The end, once it is known.
#[derive(Clone)]
pub(crate) struct Outcome(Arc<Mutex<Option<Result<(), String>>>>);

impl Default for Outcome {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(lock::OUTCOME, None)))
    }
}

impl Outcome {
    /// It is known, and was not before.
    pub(crate) fn set(&self, result: Result<(), String>) {
        self.0.lock().get_or_insert(result);
    }

    /// It, if it is known.
    pub(crate) fn get(&self) -> Option<Result<(), String>> {
        self.0.lock().clone()
    }
}
