//! The one table of feature bits: SDM 2A "CPUID", SDM 4 chapter 2, up to Granite Rapids.
//!
//! It is written in parts. Each is a macro that hands the rows so far, and its own, to the next one.

use super::numbers::*;
use super::{FeatureInfo, Kind, Place, Reg};

#[macro_use]
mod basic;
#[macro_use]
mod leaf7;
#[macro_use]
mod later;
#[macro_use]
mod msr;
#[macro_use]
mod vmx;

const fn cpuid(leaf: u32, subleaf: u32, reg: Reg) -> Place {
    Place::Cpuid { leaf, subleaf, reg }
}

macro_rules! features {
    ([$($place:expr => { $($bit:literal $id:ident $name:literal $linux:literal $kind:ident [$($need:ident)*];)* })*]) => {
        /// A feature bit.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        pub enum Feature {
            $($(#[doc = $name] $id,)*)*
        }

        /// Every feature bit: bit, SDM name, Linux name, how it is treated, what it needs.
        pub static FEATURES: &[FeatureInfo] = ROWS;

        /// The places in the order of the rows, each with the number of its rows.
        pub(super) static PLACES: &[(Place, usize)] = &[$(($place, [$($bit),*].len()),)*];

        const ROWS: &[FeatureInfo] = &[$($(FeatureInfo {
            feature: Feature::$id,
            place: $place,
            bit: $bit,
            name: $name,
            linux: $linux,
            kind: Kind::$kind,
            needs: &[$(Feature::$need),*],
        },)*)*];
    };
}

basic_rows! { [] leaf7_rows later_rows msr_rows vmx_rows features }
