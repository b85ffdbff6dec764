//! Feature names as people read them: whole families by one word.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use cpu_policy::{Baseline, Cost, FeatureSet, GuestPolicy, Misfit, Obstacle};

/// Beginnings of names that belong together.
const FAMILIES: &[&str] = &["AVX512", "AMX", "CET_", "SGX", "PT_", "KL_", "XSAVE"];

/// The names of `gone`; a family of which nothing is left in `kept` by its beginning and `*`.
pub(crate) fn names(gone: FeatureSet, kept: FeatureSet) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for feature in gone.iter() {
        let name = feature.name();
        let of = |family: &&&str| name.starts_with(**family);
        let whole = FAMILIES.iter().find(of).filter(|family| {
            let members = |set: FeatureSet| set.iter().filter(|f| f.name().starts_with(**family)).count();
            members(gone) > 1 && members(kept) == 0
        });
        let text = whole.map_or_else(|| name.to_string(), |family| format!("{family}*"));
        if !out.contains(&text) {
            out.push(text);
        }
    }
    out
}

/// `lacks CLWB, AVX512*; start the VM at level haswell`: shorter than the whole of it, which a migration gives.
pub(crate) fn misfit(misfit: &Misfit, guest: &GuestPolicy) -> String {
    let mut missing = FeatureSet::EMPTY;
    misfit.missing().for_each(|feature| missing.insert(feature));
    let mut parts: Vec<String> = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("lacks {}", names(missing, guest.features().difference(missing)).join(", ")));
    }
    for obstacle in &misfit.obstacles {
        // The state of a feature that is missing says nothing new.
        let said = match obstacle {
            Obstacle::Missing(_) => true,
            Obstacle::Xsave(_) => !missing.is_empty(),
            _ => false,
        };
        if !said {
            parts.push(obstacle.to_string());
        }
    }
    parts.push(misfit.advice());
    parts.join("; ")
}

/// `removes CLWB, AVX512*; takes x86-64-v4 from the pool; physical address width 46 to 40`, or `nothing`.
pub(crate) fn cost(cost: &Cost, pool: &Baseline) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (verb, set, kept) in
        [("removes", cost.removes, pool.guest_features()), ("announces", cost.announces, FeatureSet::EMPTY)]
    {
        if !set.is_empty() {
            parts.push(format!("{verb} {}", names(set, kept).join(", ")));
        }
    }
    parts.extend(cost.taken());
    for (name, width) in [("physical", cost.phys_bits), ("linear", cost.linear_bits)] {
        if let Some((without, with)) = width {
            parts.push(format!("{name} address width {without} to {with}"));
        }
    }
    if parts.is_empty() { "nothing".to_string() } else { parts.join("; ") }
}
