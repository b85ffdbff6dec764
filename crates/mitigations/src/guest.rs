//! Whether what a guest is told is true on a host.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::assess::{Assessment, State, rule};
use crate::cpu::{Cpu, cap, edx, spec};
use crate::flaw::Flaw;
use crate::history::History;
use crate::model::history;
use crate::plan::Plan;

/// What a guest's belief is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is told what is so, and has the means where there are any.
    True,
    /// It believes in a flaw that the host does not have: slower, harmless, and right once it moves to a host that has.
    Careful,
    /// It knows of the flaw and is not given the means against it.
    Untold,
    /// It believes itself safe, or its means to work, and neither is so.
    Lie,
}

impl Verdict {
    /// As reports have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::Careful => "careful",
            Self::Untold => "untold",
            Self::Lie => "lie",
        }
    }
}

/// What a guest is told about one flaw, held against the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The flaw.
    pub flaw: Flaw,
    /// What the guest is told, as it would conclude by bits and model.
    pub told: String,
    /// What that is worth.
    pub verdict: Verdict,
    /// Why.
    pub why: String,
}

/// What a guest has against a flaw besides its own code, and how its CPU says so.
struct Means {
    name: &'static str,
    has: fn(&Cpu) -> bool,
}

fn means(flaw: Flaw) -> Option<Means> {
    let verw = |name, has| Some(Means { name, has });
    match flaw {
        Flaw::Mds | Flaw::Taa => verw("MD_CLEAR", |cpu| cpu.edx(edx::MD_CLEAR)),
        // A CPU that has MDS too clears the fill buffers by MD_CLEAR.
        Flaw::MmioStaleData => {
            verw("FB_CLEAR", |cpu| cpu.cap(cap::FB_CLEAR) || cpu.edx(edx::MD_CLEAR) && !cpu.cap(cap::MDS_NO))
        }
        Flaw::Rfds => verw("RFDS_CLEAR", |cpu| cpu.cap(cap::RFDS_CLEAR)),
        Flaw::SpectreV2 | Flaw::Retbleed | Flaw::Its => {
            Some(Means { name: "IBRS_IBPB", has: |cpu| cpu.edx(edx::IBRS_IBPB) })
        }
        Flaw::Ssb => Some(Means { name: "SSBD", has: |cpu| cpu.edx(edx::SSBD) }),
        Flaw::Meltdown
        | Flaw::L1tf
        | Flaw::SpectreV1
        | Flaw::Rsb
        | Flaw::Pbrsb
        | Flaw::Bhi
        | Flaw::Srbds
        | Flaw::Gds
        | Flaw::PageSizeChange => None,
    }
}

/// Holds all that a guest is told (`told`, read of its own CPUID and MSRs) against the host that it runs on, whose code
/// carries out `active`.
#[must_use]
pub fn claims(told: &Cpu, host: &Cpu, active: &Plan) -> Vec<Claim> {
    let assessment = Assessment::new(host);
    Flaw::ALL.into_iter().map(|flaw| claim(told, (host, active), &assessment, flaw)).collect()
}

fn claim(told: &Cpu, (host, active): (&Cpu, &Plan), assessment: &Assessment, flaw: Flaw) -> Claim {
    let (believes, is) = (rule(told, flaw), rule(host, flaw));
    let state = assessment.of(flaw).map_or(State::Open, |finding| finding.state);
    let (verdict, why) = match (believes.affected, is.affected) {
        (false, false) => (Verdict::True, format!("this host is free of it: {}", is.why)),
        (true, false) => promise(told, host, flaw)
            .unwrap_or((Verdict::Careful, format!("this host is free of it: {}", is.why))),
        (false, true) if covered(flaw, state) => {
            (Verdict::True, "this host guards it without the guest".into())
        }
        (false, true) => (Verdict::Lie, format!("this host has it: {}", is.why)),
        (true, true) if flaw == Flaw::Bhi => branch_history(told, host, active),
        (true, true) => known(told, host, flaw, state),
    };
    let mut told_text = if believes.affected {
        format!("affected: {}", believes.why)
    } else {
        format!("not affected: {}", believes.why)
    };
    if let Some(means) = means(flaw).filter(|means| (means.has)(told)) {
        told_text = format!("{told_text}; {}", means.name);
    }
    Claim { flaw, told: told_text, verdict, why }
}

/// A guest that does nothing is as safe as one that does: the host or its microcode sees to it.
fn covered(flaw: Flaw, state: State) -> bool {
    match flaw {
        Flaw::Srbds | Flaw::Gds | Flaw::MmioStaleData | Flaw::PageSizeChange => state == State::Mitigated,
        // Between guest and host alone.
        Flaw::Pbrsb => true,
        _ => false,
    }
}

/// A register that the guest is told of and the host lacks.
fn promise(told: &Cpu, host: &Cpu, flaw: Flaw) -> Option<(Verdict, String)> {
    let registers = matches!(flaw, Flaw::SpectreV2 | Flaw::Retbleed | Flaw::Ssb | Flaw::Its);
    let means = means(flaw).filter(|means| registers && (means.has)(told) && !(means.has)(host))?;
    Some((Verdict::Lie, format!("{} is not there on this host", means.name)))
}

/// Both have branch history injection: a guest clears its history by BHI_DIS_S where it is told of it, else by a
/// sequence, which is made for the model that it was told of.
fn branch_history(told: &Cpu, host: &Cpu, active: &Plan) -> (Verdict, String) {
    let too_short = history(host) == History::LONG && history(told) != History::LONG;
    match (told.bhi_ctrl(), host.bhi_ctrl()) {
        (true, true) => (Verdict::True, "this host has it, and BHI_CTRL works here".into()),
        (true, false) => (Verdict::Lie, "BHI_CTRL is told and does nothing on this host".into()),
        (false, true) if active.forced_for(told) & spec::BHI_DIS_S != 0 => {
            (Verdict::True, "this host sets BHI_DIS_S while the guest runs".into())
        }
        (false, _) if too_short => {
            (Verdict::Lie, "this host's branch history is longer than what the guest clears".into())
        }
        (false, _) => (Verdict::True, "this host has it, the guest's own code is the guard".into()),
    }
}

/// Both know of the flaw: what is the guest's means worth?
fn known(told: &Cpu, host: &Cpu, flaw: Flaw, state: State) -> (Verdict, String) {
    if flaw == Flaw::SpectreV2 && told.enhanced_ibrs() && !host.enhanced_ibrs() {
        return (Verdict::Lie, "IBRS_ALL is told, and IBRS of this host is not enhanced".into());
    }
    if covered(flaw, state) {
        return (Verdict::True, "this host guards it without the guest".into());
    }
    let Some(means) = means(flaw) else {
        return (Verdict::True, "this host has it, the guest's own code is the guard".into());
    };
    match ((means.has)(told), (means.has)(host)) {
        (true, true) => (Verdict::True, format!("this host has it, and {} works here", means.name)),
        (true, false) => (Verdict::Lie, format!("{} is told and does nothing on this host", means.name)),
        (false, true) => (Verdict::Untold, format!("{} would work here and is not told", means.name)),
        (false, false) => (Verdict::Untold, format!("this host has no {} either", means.name)),
    }
}
