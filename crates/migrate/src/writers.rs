//! Whose share of the CPU is cut, of a guest that does not converge: that of the vCPUs that write. Those that only read
//! keep theirs.

use alloc::vec::Vec;
use core::fmt;

/// What vCPUs are left of their CPUs, in percent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shares {
    /// All of them the same.
    All(u8),
    /// vCPU by vCPU.
    Each(Vec<u8>),
}

impl Shares {
    /// What a vCPU is left.
    #[must_use]
    pub fn of(&self, vcpu: usize) -> u8 {
        match self {
            Self::All(share) => *share,
            Self::Each(shares) => shares.get(vcpu).copied().unwrap_or(100),
        }
    }

    /// Those that are cut to `share`; the others have all of their CPUs.
    fn where_cut(share: u8, cut: impl Iterator<Item = bool> + Clone) -> Self {
        if cut.clone().all(|cut| cut) {
            return Self::All(share);
        }
        Self::Each(cut.map(|cut| if cut { share } else { 100 }).collect())
    }
}

/// What the log says of them.
impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares = match self {
            Self::All(share) => return write!(f, "the guest gets {share} % of its CPU"),
            Self::Each(shares) => shares,
        };
        let cut = || shares.iter().enumerate().filter(|(_, share)| **share < 100);
        let several = cut().count() != 1;
        f.write_str(if several { "vCPUs " } else { "vCPU " })?;
        for (place, (vcpu, _)) in cut().enumerate() {
            write!(f, "{}{vcpu}", if place == 0 { "" } else { ", " })?;
        }
        let (gets, cpu) = if several { ("get", "their CPUs") } else { ("gets", "its CPU") };
        let share = shares.iter().min().unwrap_or(&100);
        write!(f, " of {} {gets} {share} % of {cpu}", shares.len())
    }
}

/// Watches who makes pages dirty, round by round.
#[derive(Clone, Debug)]
pub(crate) struct Writers {
    /// Pages of each vCPU, counted since whenever, at the end of the last round.
    counted: Option<Vec<u64>>,
    /// Those of the last round.
    round: Option<Vec<u64>>,
    shares: Shares,
}

impl Default for Writers {
    fn default() -> Self {
        Self { counted: None, round: None, shares: Shares::All(100) }
    }
}

impl Writers {
    /// A round is over. `counted`: as [`crate::SourceVm::dirtied`] says.
    pub(crate) fn round(&mut self, counted: Option<Vec<u64>>) {
        let before = core::mem::replace(&mut self.counted, counted);
        self.round = match (&before, &self.counted) {
            (Some(before), Some(now)) if before.len() == now.len() => {
                Some(now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect())
            }
            _ => None,
        };
    }

    /// Cuts the share of those that write. The least of them are spared, as long as all that are spared would make no more
    /// than `spare` pages dirty in a round like the last. All are cut alike where nobody knows who writes, or nobody can be
    /// blamed.
    pub(crate) fn cut(&mut self, share: u8, spare: u64) -> Shares {
        self.shares = match &self.round {
            None => Shares::All(share),
            Some(round) => {
                // One that was cut would write more than it did: it is not spared for that, to be cut again a round later.
                let uncut = |(vcpu, pages): (usize, &u64)| {
                    pages.saturating_mul(100) / u64::from(self.shares.of(vcpu).max(1))
                };
                let pages: Vec<u64> = round.iter().enumerate().map(uncut).collect();
                let spared = spared(&pages, spare);
                Shares::where_cut(share, pages.iter().map(|pages| Some(*pages) > spared))
            }
        };
        self.shares.clone()
    }
}

/// The most pages that a vCPU may write and be spared; none where no one is. Those that write as much are treated alike.
fn spared(pages: &[u64], spare: u64) -> Option<u64> {
    let mut sorted = pages.to_vec();
    sorted.sort_unstable();
    let (mut most, mut sum) = (None, 0u64);
    for alike in sorted.chunk_by(|a, b| a == b) {
        sum = alike.iter().fold(sum, |sum, pages| sum.saturating_add(*pages));
        if sum > spare {
            return most;
        }
        most = alike.first().copied();
    }
    // All of them together write too little for what is wrong: it is somebody else who writes, or all are to blame.
    None
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec;

    use super::*;

    fn after(counts: [&[u64]; 2]) -> Writers {
        let mut writers = Writers::default();
        for counted in counts {
            writers.round(Some(counted.to_vec()));
        }
        writers
    }

    #[test]
    fn a_writer_is_cut_and_a_reader_is_not() {
        let mut writers = after([&[1000, 1000], &[1003, 3000]]);
        let shares = writers.cut(70, 16);
        assert_eq!(shares, Shares::Each(vec![100, 70]));
        assert_eq!([0, 1, 2].map(|vcpu| shares.of(vcpu)), [100, 70, 100]);
        assert_eq!(shares.to_string(), "vCPU 1 of 2 gets 70 % of its CPU");
        // Who writes no more has all of its CPU again; who begins to is cut as far as the others were.
        writers.round(Some(vec![2003, 3000]));
        assert_eq!(writers.cut(50, 16), Shares::Each(vec![50, 100]));
    }

    #[test]
    fn many_who_write_little_each_are_not_readers() {
        let mut counts = [50; 64];
        counts[5] = 1000;
        counts[9] = 0;
        let mut writers = after([&[0; 64], &counts]);
        let shares = writers.cut(70, 200);
        assert!((0..64).all(|vcpu| shares.of(vcpu) == if vcpu == 9 { 100 } else { 70 }), "{shares}");
        assert!(shares.to_string().starts_with("vCPUs 0, 1, 2, "), "{shares}");
        assert!(shares.to_string().ends_with(", 62, 63 of 64 get 70 % of their CPUs"), "{shares}");
    }

    #[test]
    fn one_that_was_cut_counts_for_what_it_would_write() {
        let mut writers = after([&[0, 0], &[0, 1000]]);
        assert_eq!(writers.cut(10, 16), Shares::Each(vec![100, 10]));
        // 15 pages by a tenth of its CPU: 150.
        writers.round(Some(vec![2, 1015]));
        assert_eq!(writers.cut(5, 16), Shares::Each(vec![100, 5]));
    }

    #[test]
    fn all_are_cut_alike_where_nobody_knows_who_writes() {
        assert_eq!(Writers::default().cut(70, 16), Shares::All(70));
        // A/D flags say of pages that they were written, and not by whom.
        let mut writers = after([&[0, 0], &[0, 1000]]);
        writers.round(None);
        assert_eq!(writers.cut(70, 16), Shares::All(70));
        assert_eq!(Shares::All(70).to_string(), "the guest gets 70 % of its CPU");
        // One round is none: what came before it is in the count.
        writers.round(Some(vec![0, 2000]));
        assert_eq!(writers.cut(50, 16), Shares::All(50));
        // The hypervisor's own writes are no vCPU's.
        assert_eq!(after([&[0, 0], &[5, 3]]).cut(70, 16), Shares::All(70));
        // With one vCPU there is no question.
        assert_eq!(after([&[0], &[1000]]).cut(70, 16), Shares::All(70));
    }

    proptest! {
        #[test]
        fn the_spared_write_little_and_less_than_the_cut(
            pages in prop::collection::vec(prop_oneof![0u64..20, 0u64..5000, any::<u64>()], 1..65),
            share in 1u8..100,
            spare in 0u64..3000,
        ) {
            let mut writers = Writers::default();
            writers.round(Some(vec![0; pages.len()]));
            writers.round(Some(pages.clone()));
            let shares = writers.cut(share, spare);
            let is_cut = |vcpu: usize| shares.of(vcpu) == share;
            let of = |cut: bool| pages.iter().enumerate().filter(move |(vcpu, _)| is_cut(*vcpu) == cut);
            prop_assert!((0..pages.len()).all(|vcpu| is_cut(vcpu) || shares.of(vcpu) == 100));
            prop_assert!(of(true).count() > 0, "somebody is cut");
            let most = of(false).map(|(_, pages)| *pages).max();
            let least = of(true).map(|(_, pages)| *pages).min();
            prop_assert!(most < least, "who writes as much is treated alike");
            let sum = of(false).map(|(_, pages)| u128::from(*pages)).sum::<u128>();
            prop_assert!(sum <= u128::from(spare));
            // And no more are cut than must be.
            let alike = of(true).filter(|(_, pages)| Some(**pages) == least).count() as u128;
            let next = sum + alike * u128::from(least.unwrap_or(0));
            let all = pages.iter().map(|pages| u128::from(*pages)).sum::<u128>();
            prop_assert!(next > u128::from(spare) || all <= u128::from(spare));
        }

        /// Whoever the host says it is: any counts, of any number of vCPUs, also fewer than before.
        #[test]
        fn any_counts_end_in_shares(
            rounds in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u64>(), 0..6)), 0..8),
            spare in any::<u64>(),
        ) {
            let mut writers = Writers::default();
            for (round, share) in rounds.into_iter().zip([70, 50, 35, 20, 10, 5, 2, 1]) {
                writers.round(round);
                let shares = writers.cut(share, spare);
                prop_assert!((0..8).all(|vcpu| [share, 100].contains(&shares.of(vcpu))));
            }
        }
    }
}
