//! Whether a VM may come to a host: name and uuid are new there, and there is memory for it.

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

/// A VM that a host has, in whatever state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Here<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its uuid.
    pub uuid: [u8; 16],
    /// Its state in a word, for the message.
    pub state: &'a str,
}

impl Here<'_> {
    /// Whether another VM may come beside it.
    ///
    /// # Errors
    /// It has that name, or is that VM under another name.
    pub fn admits(&self, name: &str, uuid: &[u8; 16]) -> Result<(), String> {
        let Self { name: own, state, .. } = self;
        if *own == name {
            return Err(format!("vm {name} is on this host already ({state})"));
        }
        if self.uuid == *uuid {
            return Err(format!("vm {name} is on this host already, named {own} ({state}): same uuid"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_uuid_are_there_once() {
        let here = Here { name: "web", uuid: [7; 16], state: "running" };
        assert_eq!(here.admits("db", &[8; 16]), Ok(()));
        assert_eq!(here.admits("web", &[8; 16]), Err("vm web is on this host already (running)".into()));
        assert_eq!(here.admits("web", &[7; 16]), Err("vm web is on this host already (running)".into()));
        assert_eq!(
            here.admits("copy", &[7; 16]),
            Err("vm copy is on this host already, named web (running): same uuid".into())
        );
        assert_eq!(here.admits("WEB", &[8; 16]), Ok(()), "names are told apart byte by byte");
    }

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
