//! CPU levels as data, rendered CPUID tables, MSR policy and the comparison of a policy with a host.
//!
//! Everything is derived from one table of feature bits ([`FEATURES`]): what a host can give ([`HostPolicy`]),
//! what a level is ([`Level`]), the CPUID table, XCR0, CR4, EFER and MSRs of a guest ([`GuestPolicy`]), and
//! what stands in the way of a guest on a host ([`Misfit`]).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod baseline;
mod compare;
mod control;
mod decode;
mod dump;
mod feature;
mod fits;
mod host;
mod leaves;
mod ledger;
mod level;
mod msr;
mod policy;
mod render;
mod table;
mod wire;
mod xsave;

pub use baseline::{Baseline, Cost, Fingerprint};
pub use compare::{
    Difference, Fact, Lacking, LevelList, RoundTrip, Sense, Subject, What, diff, fits, json_verdict,
    shown_flags,
};
pub use control::{CR4_BITS, EFER_BITS};
pub use dump::{Dump, DumpError, MAX_DUMP};
pub use feature::{
    ARCH_CAPABILITIES, CORE_CAPABILITIES, FEATURE_MSRS, FEATURES, Feature, FeatureInfo, FeatureMsr,
    FeatureSet, Kind, MISC_ENABLE, PLATFORM_INFO, Place, Polarity, Reg, TSX_CTRL,
};
pub use fits::{Misfit, Obstacle};
pub use host::{
    Controls, HostError, HostPolicy, MAX_HOST_ENCODED, MAX_RAW_MSRS, MAX_RAW_ROWS, RawCpu, RawError,
};
pub use ledger::{
    Change, Companion, Control, Enforcement, Ledger, LedgerError, LedgerRow, MAX_COMPANION,
    MAX_LEDGER_ENCODED, MAX_LEDGER_ROWS, MAX_SEEN, Means, Word,
};
pub use level::{Cache, CacheKind, LEVELS, Level, OLDER, UserSpace};
pub use msr::{MsrClass, MsrKind, MsrPolicy, MsrRead, MsrRule, MsrValues, MsrWrite, RULES, spec_ctrl_bits};
pub use policy::{GuestPolicy, OtherVcpus, Shape};
pub use render::RenderError;
pub use table::{CpuidTable, Dynamic, Entry, MAX_ROWS, Row, TableError};
pub use wire::{DecodeError, MAX_ENCODED};
pub use xsave::{
    COMPONENTS, Component, HIDDEN_COMPONENTS, MXCSR_MASK, compacted_size, standard_size, xcr0_legal,
};
