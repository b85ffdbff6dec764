//! What a guest's devices reach beyond it.

use core::sync::atomic::{AtomicU32, Ordering};

use virtio::{Broken, Host};

use super::name::Name;
use crate::entropy;

/// So often it is said in full that a driver broke a device; then at each power of two, since its guest decides how often.
const SAID: u32 = 4;

/// The host, as the devices of one guest see it.
pub(crate) struct Outside<'a> {
    pub(super) name: &'a Name,
    /// How often its drivers broke something.
    pub(super) broken: &'a AtomicU32,
}

impl Host for Outside<'_> {
    fn entropy(&mut self, out: &mut [u8]) -> bool {
        entropy::generator().map(|mut generator| generator.fill(out)).is_ok()
    }

    fn broken(&mut self, kind: &str, why: &Broken) {
        let count = self.broken.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let name = self.name.get();
        if count <= SAID {
            log::warn!(target: "vm", "vm {name}: {kind} waits for a reset, its driver gave it {why}");
        } else if count.is_power_of_two() {
            log::warn!(target: "vm", "vm {name}: {kind} waits for a reset ({count} times so far), its driver gave it {why}");
        }
    }
}
