//! The host keys of others, as first seen.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use secure_link::PublicKey;

/// Hosts that are remembered.
const MAX_PINS: usize = 256;

/// A host's key.
#[derive(Clone, Debug)]
pub(crate) struct Pin {
    /// The host's address.
    pub(crate) host: Ipv4Addr,
    /// Its key.
    pub(crate) key: PublicKey,
    /// When it was first seen, in microseconds since this host's boot.
    pub(crate) since_us: u64,
}

#[derive(Debug, Default)]
pub(super) struct Pins(Vec<Pin>);

impl Pins {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Whether `host` may come with `key`.
    pub(super) fn check(&self, host: Ipv4Addr, key: &PublicKey) -> Result<(), String> {
        match self.0.iter().find(|pin| pin.host == host) {
            Some(pin) if pin.key != *key => Err(format!(
                "host {host} comes with key {key}, and had {} before: if it was set up anew or restarted without \
                 hostkey=, say `pool keys forget {host}`",
                pin.key
            )),
            Some(_) => Ok(()),
            None if self.0.len() >= MAX_PINS => Err(format!(
                "host {host} is one too many: {MAX_PINS} keys are pinned, say `pool keys forget HOST`"
            )),
            None => Ok(()),
        }
    }

    /// Remembers a key that [`Pins::check`] let pass. True where it is new.
    pub(super) fn remember(&mut self, host: Ipv4Addr, key: PublicKey, now_us: u64) -> bool {
        let new = self.0.iter().all(|pin| pin.host != host);
        if new {
            self.0.push(Pin { host, key, since_us: now_us });
        }
        new
    }

    pub(super) fn forget(&mut self, host: Ipv4Addr) -> bool {
        let before = self.0.len();
        self.0.retain(|pin| pin.host != host);
        self.0.len() != before
    }

    pub(super) fn all(&self) -> Vec<Pin> {
        self.0.clone()
    }
}
