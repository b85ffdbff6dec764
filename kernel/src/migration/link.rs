//! The keyed link as the byte stream of a migration.

use crate::link::Bound;
use crate::net as network;

impl migrate::Link for Bound<'_> {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        Bound::recv(self, buf)
    }

    fn came(&self, now: u64) -> u64 {
        now.min(network::came())
    }

    fn send(&mut self, data: &[u8]) -> usize {
        Bound::send(self, data)
    }

    fn is_open(&self) -> bool {
        Bound::is_open(self)
    }
}
