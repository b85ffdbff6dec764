//! Virtual-processor identifiers (SDM 28.1).

use alloc::vec::Vec;

/// The VPIDs of a host that vCPUs have.
///
/// The smallest free one is handed out: a counter of 16 bits comes to 0, which is the host's own and fails VM entry,
/// and then to those of living VMs. Who gets one that another vCPU had flushes it ([`crate::load`]).
#[derive(Debug, Default)]
pub struct Vpids(Vec<u64>);

impl Vpids {
    /// None is taken.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The smallest that is free, from 1; `None` where all 65,535 are taken.
    pub fn take(&mut self) -> Option<u16> {
        if self.0.is_empty() {
            self.0.push(1); // 0 is the host's
        }
        let word = self.0.iter().position(|word| *word != u64::MAX).unwrap_or(self.0.len());
        let bit = self.0.get(word).map_or(0, |bits| bits.trailing_ones());
        let vpid = u16::try_from(word as u64 * 64 + u64::from(bit)).ok()?;
        if word == self.0.len() {
            self.0.push(0);
        }
        self.0[word] |= 1 << bit;
        Some(vpid)
    }

    /// Gives one back.
    ///
    /// # Panics
    /// One that is not taken.
    pub fn give_back(&mut self, vpid: u16) {
        let (word, bit) = (usize::from(vpid / 64), 1 << (vpid % 64));
        assert!(vpid != 0 && self.0.get(word).is_some_and(|bits| bits & bit != 0), "VPID {vpid} is free");
        self.0[word] &= !bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many VMs as a host sees in months of refused arrivals, beside one that lives on.
    #[test]
    fn never_comes_to_0_or_to_one_that_is_taken() {
        let mut vpids = Vpids::new();
        let lives = vpids.take();
        assert_eq!(lives, Some(1));
        for _ in 0..3 * 65_536 {
            let vpid = vpids.take().expect("one is taken");
            assert_eq!(vpid, 2);
            vpids.give_back(vpid);
        }
    }

    #[test]
    fn all_of_them_can_be_taken() {
        let mut vpids = Vpids::new();
        for vpid in 1..=u16::MAX {
            assert_eq!(vpids.take(), Some(vpid));
        }
        assert_eq!(vpids.take(), None);
        vpids.give_back(300);
        assert_eq!(vpids.take(), Some(300));
    }

    #[test]
    #[should_panic(expected = "VPID 5 is free")]
    fn none_is_given_back_twice() {
        let mut vpids = Vpids::new();
        vpids.take();
        vpids.give_back(5);
    }
}
