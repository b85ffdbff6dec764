//! What was found, in bounded memory.

use alloc::string::String;
use alloc::vec::Vec;

use cpu_policy::{Feature, FeatureSet};
use x86_decode::MAX_LEN;

/// Most rows kept: every feature that an instruction can need, and some.
pub const MAX_ROWS: usize = 96;

/// What becomes of an instruction on a CPU that lacks its feature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Without {
    /// #UD.
    Undefined,
    /// TZCNT runs as BSF: the same result, unless the operand is zero. Compilers and kernels write it for that.
    Bsf,
    /// LZCNT runs as BSR: another result, always.
    Bsr,
    /// WBNOINVD runs as WBINVD, which does more.
    Wbinvd,
    /// A hint: nothing happens.
    Nop,
}

impl Without {
    pub(crate) const ALL: [Self; 5] = [Self::Undefined, Self::Bsf, Self::Bsr, Self::Wbinvd, Self::Nop];

    /// As reports show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undefined => "#UD",
            Self::Bsf => "as BSF",
            Self::Bsr => "as BSR",
            Self::Wbinvd => "as WBINVD",
            Self::Nop => "nothing",
        }
    }

    /// True where a guest that counts on the instruction breaks.
    #[must_use]
    pub const fn breaks(self) -> bool {
        matches!(self, Self::Undefined | Self::Bsr)
    }
}

/// What was found of one feature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// The feature.
    pub feature: Feature,
    /// What its instructions do on a CPU without it: TZCNT and ANDN, both of BMI1, differ.
    pub without: Without,
    /// The host where it was found stops these instructions: they cannot have run.
    pub stopped: bool,
    /// Instructions in code that execution leads to.
    pub reached: u64,
    /// Instructions in other bytes of an executed page: code perhaps, data perhaps.
    pub swept: u64,
    /// Guest-linear address of the first one; a reached one takes a swept one's place.
    pub linear: u64,
    /// Its guest-physical address.
    pub gpa: u64,
    /// Its bytes.
    pub(crate) bytes: [u8; MAX_LEN],
    pub(crate) len: u8,
}

impl Row {
    /// The bytes of the first instruction.
    #[must_use]
    pub fn instruction(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// True where a CPU that lacks the feature would do something else than the guest has seen.
    #[must_use]
    pub const fn matters(&self) -> bool {
        self.without.breaks() && !self.stopped && self.reached != 0
    }
}

/// Everything that audits of a VM have found, on every host it has been on.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Findings {
    /// Pages decoded.
    pub pages: u64,
    /// Of them those decoded again after a write.
    pub again: u64,
    /// Instructions decoded in code that execution leads to.
    pub instructions: u64,
    /// Bytes at which execution was expected and no instruction found.
    pub undecodable: u64,
    pub(crate) rows: Vec<Row>,
}

/// Where an instruction was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site<'a> {
    pub(crate) reached: bool,
    pub(crate) linear: u64,
    pub(crate) gpa: u64,
    pub(crate) bytes: &'a [u8],
}

/// What the VM is meant to have, and what the host can keep from it.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Features of the VM's policy.
    pub has: FeatureSet,
    /// Features outside it whose instructions fault on this host: by a control, by XCR0 or CR4, or for lack of them.
    pub stopped: FeatureSet,
}

impl Findings {
    /// Nothing found.
    #[must_use]
    pub const fn new() -> Self {
        Self { pages: 0, again: 0, instructions: 0, undecodable: 0, rows: Vec::new() }
    }

    /// The rows, in the order of the first finding.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// True where nothing has been looked at.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// The features that run here although the policy hides them, and that break the guest on a CPU without them.
    #[must_use]
    pub fn in_use(&self) -> FeatureSet {
        let mut set = FeatureSet::EMPTY;
        for row in self.rows.iter().filter(|row| row.matters()) {
            set.insert(row.feature);
        }
        set
    }

    /// What to tell the operator of a host where the instructions of `stopped` do not work; nothing where none of them
    /// was seen.
    #[must_use]
    pub fn warning(&self, stopped: FeatureSet) -> Option<String> {
        let mut text = String::new();
        for feature in self.in_use().intersection(stopped).iter() {
            let before =
                if text.is_empty() { "an audit saw the VM execute, outside its level: " } else { ", " };
            text.push_str(before);
            text.push_str(feature.name());
        }
        (!text.is_empty()).then(|| text + "; these do not work on this host")
    }

    /// Counts an instruction that needs `features`.
    pub(crate) fn record(&mut self, features: &[Feature], without: Without, bounds: &Bounds, site: Site<'_>) {
        let missing = || features.iter().copied().filter(|f| !bounds.has.contains(*f));
        // what does not fault for want of the feature runs here too, as something else
        let faults = without == Without::Undefined;
        let stopped = faults && missing().any(|f| bounds.stopped.contains(f));
        // one that is stopped speaks for the whole instruction
        for feature in missing().filter(|f| !stopped || bounds.stopped.contains(*f)) {
            self.count(feature, without, stopped, site);
        }
    }

    fn count(&mut self, feature: Feature, without: Without, stopped: bool, site: Site<'_>) {
        let known = |row: &Row| row.feature == feature && row.without == without && row.stopped == stopped;
        let at = self.rows.iter().position(known).unwrap_or(self.rows.len());
        if at == self.rows.len() && at < MAX_ROWS {
            self.rows.push(Row {
                feature,
                without,
                stopped,
                reached: 0,
                swept: 0,
                linear: 0,
                gpa: 0,
                bytes: [0; MAX_LEN],
                len: 0,
            });
        }
        let Some(row) = self.rows.get_mut(at) else { return };
        if row.reached == 0 && (site.reached || row.swept == 0) {
            (row.linear, row.gpa) = (site.linear, site.gpa);
            let len = site.bytes.len().min(MAX_LEN);
            row.len = len as u8;
            row.bytes = [0; MAX_LEN];
            row.bytes[..len].copy_from_slice(&site.bytes[..len]);
        }
        let counter = if site.reached { &mut row.reached } else { &mut row.swept };
        *counter = counter.saturating_add(1);
    }
}
