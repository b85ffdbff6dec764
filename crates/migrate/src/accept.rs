//! How much memory a host gives to VMs that come to it.

use alloc::format;
use alloc::string::String;

const MIB: u64 = 1 << 20;

/// What a host has for VMs that come, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// The most that all of them together may have; `None`: no limit but what is free.
    pub accept: Option<u64>,
    /// What those that came and are still here have.
    pub taken: u64,
    /// Free memory.
    pub free: u64,
}

impl Room {
    /// Whether `wanted` bytes fit.
    ///
    /// # Errors
    /// The figures, in MiB: what is wanted rounded up, what there is rounded down.
    pub fn check(&self, wanted: u64) -> Result<(), String> {
        let want = wanted.div_ceil(MIB);
        if let Some(accept) = self.accept {
            let left = accept.saturating_sub(self.taken);
            if wanted > left {
                return Err(format!("{want} MiB wanted, accept={} leaves {} MiB", accept / MIB, left / MIB));
            }
        }
        if wanted > self.free {
            return Err(format!("{want} MiB wanted, {} MiB free", self.free / MIB));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_both_counts() {
        let room = |accept: Option<u64>, taken: u64, free: u64| Room {
            accept: accept.map(|mib| mib * MIB),
            taken: taken * MIB,
            free: free * MIB,
        };
        assert_eq!(
            room(Some(128), 64, 1000).check(256 * MIB),
            Err("256 MiB wanted, accept=128 leaves 64 MiB".into())
        );
        assert_eq!(room(Some(128), 64, 1000).check(64 * MIB), Ok(()));
        assert_eq!(
            room(Some(128), 64, 1000).check(64 * MIB + 1),
            Err("65 MiB wanted, accept=128 leaves 64 MiB".into())
        );
        assert_eq!(room(Some(128), 64, 63).check(64 * MIB), Err("64 MiB wanted, 63 MiB free".into()));
        assert_eq!(room(None, 640, 64).check(65 * MIB), Err("65 MiB wanted, 64 MiB free".into()));
        assert_eq!(room(None, 640, 64).check(64 * MIB), Ok(()));
        // A host whose limit was passed by other means, one that takes none, and one that is asked for all there is.
        assert_eq!(room(Some(1), 2, 9).check(MIB), Err("1 MiB wanted, accept=1 leaves 0 MiB".into()));
        assert_eq!(room(Some(0), 0, 9).check(1), Err("1 MiB wanted, accept=0 leaves 0 MiB".into()));
        assert!(room(Some(0), 0, 9).check(u64::MAX).is_err());
    }
}
