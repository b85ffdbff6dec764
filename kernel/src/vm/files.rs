//! The files of all VMs of this host. The same bytes are held once: told by their digest, which is computed, bit by bit on
//! CPU 0, only where somebody needs it.

#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::task::Poll;

use migrate::origin::Sha256;
use sha2::Digest;

use super::registry;
use super::source::Content;
use crate::lock::{self, Mutex};
use crate::meter::{self, Part};
use hw::mm::held::Held;

/// Bytes that are digested in one turn.
const STEP: usize = 8 << 10;

/// `max-file=`, in bytes.
static MAX_FILE: AtomicU64 = AtomicU64::new(u64::MAX);

/// A digest in the making, and those that are asked for.
static HASHING: Mutex<Vec<Hashing>> = Mutex::new(lock::HASHING, Vec::new());
/// There is one.
static WANTED: AtomicBool = AtomicBool::new(false);

struct Hashing {
    held: Arc<Held>,
    hash: sha2::Sha256,
    at: usize,
}

/// A file, and how many VMs were made from it.
pub(crate) struct Usage {
    /// Bytes in it.
    pub(crate) bytes: u64,
    /// Their digest, where it is known.
    pub(crate) sha256: Option<Sha256>,
    /// How often VMs name it.
    pub(crate) users: u64,
}

/// Sets `max-file=`.
pub(crate) fn set_max_file(mib: u32) {
    MAX_FILE.store(u64::from(mib) << 20, Ordering::Relaxed);
}

/// The longest file that goes along with a VM.
pub(crate) fn max_file() -> u64 {
    MAX_FILE.load(Ordering::Relaxed)
}

/// Every file that a VM of this host names and that is here.
fn all() -> Vec<Arc<Held>> {
    let mut all = Vec::new();
    for vm in registry::all() {
        if let Some(source) = &*vm.source.lock() {
            all.extend(source.files.iter().filter_map(|file| file.held().map(Arc::clone)));
        }
    }
    all
}

/// What the files take, each once.
pub(crate) fn usage() -> Vec<Usage> {
    let mut found: Vec<(Arc<Held>, u64)> = Vec::new();
    for held in all() {
        match found.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &held)) {
            Some((_, users)) => *users += 1,
            None => found.push((held, 1)),
        }
    }
    let usage = |(held, users): (Arc<Held>, u64)| Usage { bytes: held.len(), sha256: held.sha256(), users };
    found.into_iter().map(usage).collect()
}

/// The file with this digest, where a VM has it.
pub(crate) fn find(sha256: &Sha256) -> Option<Arc<Held>> {
    all().into_iter().find(|held| held.sha256() == Some(*sha256))
}

/// Its digest, for which it may have to be read first: that goes on in [`poll`].
pub(crate) fn sha256(held: &Arc<Held>) -> Poll<Sha256> {
    if let Some(sha256) = held.sha256() {
        return Poll::Ready(sha256);
    }
    let mut hashing = HASHING.lock();
    if !hashing.iter().any(|one| Arc::ptr_eq(&one.held, held)) {
        hashing.push(Hashing { held: Arc::clone(held), hash: sha2::Sha256::new(), at: 0 });
        WANTED.store(true, Ordering::Release);
    }
    Poll::Pending
}

/// Whether it is known of every file of that length that is here which digest it has; asks for the first that is not.
pub(crate) fn are_known(len: u64) -> bool {
    all().iter().filter(|held| held.len() == len).all(|held| sha256(held).is_ready())
}

/// A VM has got files: what may be the same as others' is looked at.
pub(crate) fn came() {
    let all = all();
    for held in all.iter().filter(|held| !held.is_empty()) {
        let twin = |other: &&Arc<Held>| other.len() == held.len() && !Arc::ptr_eq(other, held);
        if all.iter().any(|other| twin(&other)) {
            let _ = sha256(held);
        }
    }
    share();
}

/// Lets every VM use the first of those that are the same.
fn share() {
    let all = all();
    for vm in registry::all() {
        let mut source = vm.source.lock();
        for file in source.iter_mut().flat_map(|source| &mut source.files) {
            let Some(sha256) = file.sha256() else { continue };
            if let Some(first) = all.iter().find(|held| held.sha256() == Some(sha256)) {
                file.content = Content::Here(Arc::clone(first));
            }
        }
    }
}

/// Computes a piece of what is asked for. False where there is nothing to do.
pub(crate) fn poll() -> bool {
    if !WANTED.load(Ordering::Acquire) {
        return false;
    }
    meter::doing(Part::Create);
    let mut all = HASHING.lock();
    let Some(one) = all.first_mut() else {
        WANTED.store(false, Ordering::Release);
        return false;
    };
    if Arc::strong_count(&one.held) == 1 {
        all.remove(0); // nobody needs it any more
        return true;
    }
    let bytes = one.held.bytes();
    let end = one.at.saturating_add(STEP).min(bytes.len());
    one.hash.update(bytes.get(one.at..end).unwrap_or_default());
    one.at = end;
    if end == bytes.len() {
        let one = all.remove(0);
        drop(all);
        one.held.set_sha256(one.hash.finalize().into());
        share();
    }
    true
}
