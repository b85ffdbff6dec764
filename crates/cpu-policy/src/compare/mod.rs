//! Whatever has a CPU policy, seen the same way: hosts, levels, pools, guests; what differs between two of them.

mod diff;
mod show;
mod verdict;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::baseline::Baseline;
use crate::feature::FeatureSet;
use crate::host::{HostPolicy, VENDOR};
use crate::level::{Level, UserSpace};
use crate::policy::GuestPolicy;
use crate::table::Row;
use crate::xsave::{MXCSR_MASK, compacted_size, standard_size, xcr0_of};
use vm_types::Megahertz;

pub(crate) use diff::per_cpu;
pub use diff::{Difference, What, diff};
pub use show::{Lacking, LevelList, shown_flags};
pub use verdict::{RoundTrip, fits, json_verdict};

fn rate(hz: u64) -> String {
    Megahertz(hz).to_string()
}

/// Which of a host's four policies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sense {
    /// What the CPU says.
    Raw,
    /// What can be virtualised.
    Host,
    /// What a guest may arrive with.
    Max,
    /// What a new guest gets.
    Default,
}

impl Sense {
    /// All four, in the order of their use.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Host, Self::Max, Self::Default];

    /// `raw`, `host`, `max`, `default`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Host => "host",
            Self::Max => "max",
            Self::Default => "default",
        }
    }

    /// The sense of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sense| sense.name() == name)
    }
}

impl HostPolicy {
    /// The features in this sense.
    #[must_use]
    pub fn set(&self, sense: Sense) -> FeatureSet {
        match sense {
            Sense::Raw => self.raw,
            Sense::Host => self.features,
            Sense::Max => self.max(),
            Sense::Default => self.default(),
        }
    }
}

/// A value beside the features.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    /// What it is, where it is enumerated included.
    pub name: &'static str,
    /// The value as text, with its unit.
    pub value: String,
}

/// Something with a CPU policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// What it is called.
    pub name: String,
    /// `host (raw)`, `level`, `pool level`, `guest`.
    pub kind: String,
    /// Features, gains and losses.
    pub features: FeatureSet,
    /// Values, in a fixed order.
    pub facts: Vec<Fact>,
    /// CPUID rows, where they are more than features and values.
    pub rows: Vec<Row>,
    /// MSRs, likewise.
    pub msrs: Vec<(u32, u64)>,
}

#[derive(Default)]
struct Facts(Vec<Fact>);

impl Facts {
    fn add(&mut self, name: &'static str, value: impl fmt::Display) {
        self.0.push(Fact { name, value: format!("{value}") });
    }

    fn vendor(&mut self, vendor: [u8; 12]) {
        self.add("vendor", vendor.escape_ascii());
    }

    fn signature(&mut self, signature: u32) {
        self.add("signature (CPUID.1:EAX)", format!("{signature:X}"));
    }

    fn max_leaf(&mut self, leaf: u32) {
        self.add("highest basic leaf", format!("{leaf:X}"));
    }

    fn widths(&mut self, physical: u8, linear: u8) {
        self.add("physical address width", format!("{physical} bits"));
        self.add("linear address width", format!("{linear} bits"));
    }

    fn xsave(&mut self, xcr0: u64, xss: u64) {
        self.add("XCR0", format!("{xcr0:#x}"));
        self.add("IA32_XSS", format!("{xss:#x}"));
        let [standard, compacted] =
            if xcr0 == 0 { [0; 2] } else { [standard_size(xcr0), compacted_size(xcr0)] };
        self.add("XSAVE area, standard", format!("{standard} bytes"));
        self.add("XSAVE area, compacted", format!("{compacted} bytes"));
        self.add("MXCSR mask", format!("{MXCSR_MASK:#x}"));
    }

    fn level(&mut self, level: &Level) {
        self.vendor(*VENDOR);
        self.signature(level.signature);
        self.add("brand", level.brand());
    }

    fn caches(&mut self, level: &Level) {
        for cache in level.caches {
            let name = match (cache.level, cache.kind) {
                (1, crate::level::CacheKind::Instruction) => "cache L1i",
                (1, _) => "cache L1d",
                (2, _) => "cache L2",
                (3, _) => "cache L3",
                _ => continue,
            };
            let kib = cache.ways * cache.sets / 16;
            self.add(name, format!("{kib} KiB, {} ways, {} sets", cache.ways, cache.sets));
        }
    }
}

impl Subject {
    /// A host in one of its four senses.
    #[must_use]
    pub fn host(name: &str, host: &HostPolicy, sense: Sense) -> Self {
        let mut facts = Facts::default();
        facts.vendor(host.vendor);
        facts.signature(host.signature);
        facts.add("brand", host.cpu().brand());
        facts.max_leaf(host.max_leaf);
        facts.widths(host.phys_bits, host.linear_bits);
        if sense == Sense::Raw {
            let [low, _, _, high] = host.cpu().cpuid(0xd, 0);
            facts.add("XCR0", format!("{:#x}", u64::from(low) | u64::from(high) << 32));
        } else {
            facts.xsave(host.xcr0, host.xss);
        }
        let unknown = || "unknown".to_string();
        facts.add("TSC", host.tsc_hz.map_or_else(unknown, rate));
        facts.add("crystal", host.cpu().crystal_hz().map_or_else(unknown, |hz| rate(hz.into())));
        let (rows, msrs) = match sense {
            Sense::Raw => (host.cpu().rows().into(), host.cpu().msrs().into()),
            _ => (Vec::new(), Vec::new()),
        };
        let kind = format!("host ({})", sense.name());
        Self { name: name.into(), kind, features: host.set(sense), facts: facts.0, rows, msrs }
    }

    /// A level.
    #[must_use]
    pub fn level(level: &Level) -> Self {
        let (mut facts, features) = (Facts::default(), level.features());
        facts.level(level);
        facts.add("stands for", level.series);
        facts.add("user space", level.user_space());
        facts.max_leaf(level.max_leaf);
        facts.widths(level.phys_bits, 48);
        facts.xsave(xcr0_of(features), 0);
        facts.caches(level);
        let name = format!("{}-v{}", level.name, level.version);
        Self { name, kind: "level".into(), features, facts: facts.0, rows: Vec::new(), msrs: Vec::new() }
    }

    /// The level of a pool, as a new guest gets it.
    #[must_use]
    pub fn baseline(baseline: &Baseline) -> Self {
        let (mut facts, features, level) = (Facts::default(), baseline.guest_features(), baseline.level());
        facts.level(level);
        facts.add("fingerprint", baseline.fingerprint());
        facts.add("named level within", level.name);
        facts.add("user space", UserSpace::of(features));
        facts.max_leaf(baseline.max_leaf());
        facts.widths(baseline.phys_bits(), 48);
        facts.xsave(xcr0_of(features), 0);
        facts.caches(level);
        let kind = "pool level".into();
        Self { name: baseline.name(), kind, features, facts: facts.0, rows: Vec::new(), msrs: Vec::new() }
    }

    /// A guest.
    #[must_use]
    pub fn guest(name: &str, guest: &GuestPolicy) -> Self {
        let mut facts = Facts::default();
        facts.vendor(*VENDOR);
        facts.add("level", format!("{}-v{}", guest.level_name(), guest.level_version()));
        let [max_leaf, ..] = guest.table().lookup(0, 0).regs();
        let [signature, ..] = guest.table().lookup(1, 0).regs();
        facts.signature(*signature);
        facts.max_leaf(*max_leaf);
        facts.add("user space", UserSpace::of(guest.features()));
        facts.widths(guest.phys_bits(), guest.linear_bits());
        facts.xsave(guest.xcr0_allowed(), 0);
        facts.add("CR4 bits allowed", format!("{:#x}", guest.cr4_allowed()));
        facts.add("EFER bits allowed", format!("{:#x}", guest.efer_allowed()));
        facts.add("TSC", rate(guest.tsc_hz()));
        facts.add("crystal", rate(guest.shape().apic_hz.into()));
        facts.add("vCPUs", guest.shape().vcpus());
        facts.add("sockets:cores:threads", guest.shape().topology);
        Self {
            name: name.into(),
            kind: "guest".into(),
            features: guest.features(),
            facts: facts.0,
            rows: guest.table().rows().into(),
            msrs: guest.msrs().values().0.clone(),
        }
    }
}
