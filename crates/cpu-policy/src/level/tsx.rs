//! The levels with TSX, which microcode, firmware and operating systems turn off on many hosts.

use super::Level;
use super::early::{BROADWELL, HASWELL};
use super::scalable::*;
use crate::feature::Feature;

const HLE_RTM: &[Feature] = &[Feature::Hle, Feature::Rtm];
/// Without HLE: it is deprecated, and only a hint.
const RTM: &[Feature] = &[Feature::Rtm];
const RTM_TSXLDTRK: &[Feature] = &[Feature::Rtm, Feature::Tsxldtrk];

/// The level `base` and TSX.
const fn with_tsx(
    base: &'static Level,
    name: &'static str,
    series: &'static str,
    adds: &'static [Feature],
) -> Level {
    Level::on(base, name, base.signature).stands_for(series).adds(adds)
}

pub(super) static HASWELL_TSX: Level =
    with_tsx(&HASWELL, "haswell-tsx", "Xeon E7 v3; others before microcode took TSX away", HLE_RTM);

pub(super) static BROADWELL_TSX: Level =
    with_tsx(&BROADWELL, "broadwell-tsx", "Xeon E5 v4, E7 v4 with TSX on", HLE_RTM);

pub(super) static SKYLAKE_SERVER_TSX: Level =
    with_tsx(&SKYLAKE_SERVER, "skylake-server-tsx", "Xeon Scalable, 1st generation, with TSX on", HLE_RTM);

pub(super) static CASCADELAKE_TSX: Level =
    with_tsx(&CASCADELAKE, "cascadelake-tsx", "Xeon Scalable, 2nd generation, with TSX on", HLE_RTM);

pub(super) static COOPERLAKE_TSX: Level =
    with_tsx(&COOPERLAKE, "cooperlake-tsx", "Xeon Scalable, 3rd generation (H), with TSX on", HLE_RTM);

pub(super) static ICELAKE_SERVER_TSX: Level =
    with_tsx(&ICELAKE_SERVER, "icelake-server-tsx", "Xeon Scalable, 3rd generation, with TSX on", RTM);

pub(super) static SAPPHIRERAPIDS_TSX: Level = with_tsx(
    &SAPPHIRERAPIDS,
    "sapphirerapids-tsx",
    "Xeon Scalable, 4th generation, with TSX on",
    RTM_TSXLDTRK,
);

pub(super) static EMERALDRAPIDS_TSX: Level =
    with_tsx(&EMERALDRAPIDS, "emeraldrapids-tsx", "Xeon Scalable, 5th generation, with TSX on", RTM_TSXLDTRK);

pub(super) static EMERALDRAPIDS_2_TSX: Level =
    with_tsx(&EMERALDRAPIDS_2, EMERALDRAPIDS_TSX.name, EMERALDRAPIDS_TSX.series, RTM_TSXLDTRK).version(2);

pub(super) static GRANITERAPIDS_TSX: Level =
    with_tsx(&GRANITERAPIDS, "graniterapids-tsx", "Xeon 6 with P-cores, with TSX on", RTM_TSXLDTRK);
