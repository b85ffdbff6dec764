//! The VPIDs of this host's vCPUs.

use translation::Vpids;

use crate::lock::{self, Mutex};

static TAKEN: Mutex<Vpids> = Mutex::new(lock::VPIDS, Vpids::new());

/// A VPID, for as long as its vCPU lives.
#[derive(Debug)]
pub(crate) struct Vpid(u16);

impl Vpid {
    /// The smallest that is free; `None` where all are taken.
    pub(crate) fn new() -> Option<Self> {
        TAKEN.lock().take().map(Self)
    }

    /// For the VMCS and INVVPID; never 0.
    pub(crate) fn get(&self) -> u16 {
        self.0
    }
}

impl Drop for Vpid {
    fn drop(&mut self) {
        TAKEN.lock().give_back(self.0);
    }
}
