//! The entropy device (5.4): random bytes of the host's.

use crate::broken::Broken;
use crate::device::{Device, Host};
use crate::ring::Ring;

/// Most bytes for one request: a driver takes fewer than it asked for, and asks again (5.4.6).
const MOST: usize = 256;
/// Bytes that cost the host as much as walking a descriptor.
const BYTES_A_DESCRIPTOR: u32 = 8;

/// An entropy device. Where the host has no entropy fit for keys, its requests wait: what is no entropy is not given for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rng;

impl Device for Rng {
    const KIND: &'static str = "virtio-rng";
    const TYPE: u16 = 4;
    const QUEUES: &'static [u16] = &[64];

    fn look(&mut self, _: u16, _: u64, ring: &mut Ring<'_>, host: &mut dyn Host) -> Result<(), Broken> {
        while let Some(chain) = ring.take()? {
            let mut bytes = [0; MOST];
            let len = (chain.writable_len() as usize).min(MOST);
            if len == 0 {
                return Err(Broken::Request("a request for entropy that has no room for it"));
            }
            if !host.entropy(&mut bytes[..len]) {
                ring.leave();
                break;
            }
            chain.write(ring.memory(), 0, &bytes[..len])?;
            ring.charge(len as u32 / BYTES_A_DESCRIPTOR);
            ring.put(chain.head(), len as u32)?;
        }
        Ok(())
    }
}
