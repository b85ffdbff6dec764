//! What a survey found, for people and for programs.

use core::fmt::{self, Display, Write};

use json::{Object, Shown};

use crate::faulting::Faulting;
use crate::generation::Generation;
use crate::leaf::Leaf;
use crate::limit::LeafLimit;
use crate::plan::Plan;
use crate::probe::{Finding, Probe};
use crate::survey::Survey;

/// A survey and, where there is a level to hold the host to, the masks for it.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What was found.
    pub survey: &'a Survey,
    /// The name of a level, and the masks under which code outside VMX sees no more than that.
    pub plan: Option<(&'a str, &'a Plan)>,
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let survey = self.survey;
        writeln!(f, "cpu       {}, {}", survey.generation.name(), survey.signature)?;
        if survey.nested {
            writeln!(f, "          under another hypervisor, which answers for the MSRs")?;
        }
        if let Some(value) = survey.unknown_reads {
            writeln!(f, "          emulated: unknown MSRs read {value:#x}, writes ignored")?;
        }
        writeln!(f, "leaves    {}", survey.limit)?;
        match &survey.probes[..] {
            [] => writeln!(f, "masks     none: {}", why_none(survey.generation))?,
            probes => {
                for (probe, head) in probes.iter().zip(["masks"].into_iter().chain(core::iter::repeat(""))) {
                    writeln!(f, "{head:<9} {probe}")?;
                }
            }
        }
        writeln!(f, "faulting  {}", survey.faulting)?;
        if !survey.restored {
            writeln!(f, "warning   the CPU did not take back what its MSRs held before")?;
        }
        writeln!(
            f,
            "guests    need neither: their CPUID exits always; faulting is emulated for them by level"
        )?;
        let Some((level, plan)) = self.plan.filter(|(_, plan)| !plan.writes.is_empty()) else {
            return Ok(());
        };
        writeln!(f, "level     {level}, for code that does not run in a guest:")?;
        for write in &plan.writes {
            writeln!(f, "          {:#x} = {:#018x}  {}", write.msr, write.value, write.leaf)?;
        }
        for (what, set) in sets(plan) {
            if !set.is_empty() {
                write!(f, "          {what}:")?;
                set.iter().try_for_each(|feature| write!(f, " {}", feature.name()))?;
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

impl Report<'_> {
    /// The same as one JSON object. MSRs and masks are strings, hexadecimal: 64 bits do not fit into a JSON number.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json(&self, out: &mut dyn Write) -> fmt::Result {
        let survey = self.survey;
        json::object(out, |o| {
            o.field("generation", survey.generation.name())?;
            o.field("family", survey.signature.family)?;
            o.field("model", survey.signature.model)?;
            o.field("stepping", survey.signature.stepping)?;
            o.field("nested", survey.nested)?;
            o.field("unknown_msrs_read", survey.unknown_reads.map(hex))?;
            o.field("leaf_limit", survey.limit.word())?;
            o.array("masks", |a| {
                survey.probes.iter().try_for_each(|probe| a.object(|o| json_probe(o, probe)))
            })?;
            o.object("faulting", |o| {
                o.field("state", survey.faulting.word())?;
                o.field("on", survey.faulting.on())
            })?;
            o.field("restored", survey.restored)?;
            match self.plan {
                Some((level, plan)) => o.object("plan", |o| json_plan(o, level, plan)),
                None => o.field("plan", None::<bool>),
            }
        })
    }
}

fn json_probe(o: &mut Object<'_>, probe: &Probe) -> fmt::Result {
    o.field("msr", hex(u64::from(probe.msr)))?;
    o.field("value", hex(probe.value))?;
    o.field("finding", probe.finding.word())?;
    let leaf = if let Finding::Masks(leaf) = probe.finding { Some(Shown(leaf)) } else { None };
    o.field("leaf", leaf)?;
    o.field("restored", probe.restored)
}

fn json_plan(o: &mut Object<'_>, level: &str, plan: &Plan) -> fmt::Result {
    o.field("level", level)?;
    o.array("writes", |a| {
        plan.writes.iter().try_for_each(|write| {
            a.object(|o| {
                o.field("msr", hex(u64::from(write.msr)))?;
                o.field("leaf", Shown(write.leaf))?;
                o.field("value", hex(write.value))
            })
        })
    })?;
    for (what, set) in sets(plan) {
        o.array(what, |a| a.items(set.iter().map(|feature| feature.name())))?;
    }
    Ok(())
}

fn sets(plan: &Plan) -> [(&'static str, cpu_policy::FeatureSet); 3] {
    [("hidden", plan.hidden), ("exposed", plan.exposed), ("absent", plan.absent)]
}

fn hex(value: u64) -> Shown<impl Display> {
    struct Hex(u64);
    impl Display for Hex {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{:#x}", self.0)
        }
    }
    Shown(Hex(value))
}

fn why_none(generation: Generation) -> &'static str {
    match generation {
        Generation::Merom => "they came with the next generation",
        Generation::Foreign => "they are Intel's",
        _ => "no mask MSR is known for this model",
    }
}

impl Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} ", self.msr)?;
        match self.finding {
            Finding::Masks(leaf) => write!(f, "masks {leaf}, holds {:#018x}", self.value)?,
            Finding::Missing => write!(f, "is not there: RDMSR raises #GP")?,
            Finding::Refused => write!(f, "reads {:#x}, WRMSR raises #GP", self.value)?,
            Finding::Ignored { reads } if reads == self.value => {
                write!(f, "reads {reads:#x}, writes ignored")?;
            }
            Finding::Ignored { reads } => {
                write!(f, "reads {:#x}, and {reads:#x} after another value is written", self.value)?;
            }
            Finding::Idle => write!(f, "keeps what is written, CPUID does not follow")?,
            Finding::Strange => write!(f, "changes CPUID, but not as an AND mask of one leaf: not used")?,
            Finding::Untouched => write!(f, "reads {:#x}, not a mask: left alone", self.value)?,
        }
        if self.restored { Ok(()) } else { f.write_str("; NOT restored") }
    }
}

impl Finding {
    /// One word for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Masks(Leaf::Basic | Leaf::Extended | Leaf::Xsave) => "masks",
            Self::Refused => "refused",
            Self::Ignored { .. } => "ignored",
            Self::Idle => "idle",
            Self::Strange => "strange",
            Self::Untouched => "untouched",
        }
    }
}

impl LeafLimit {
    /// One word for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Lifted { .. } => "lifted",
            Self::Stuck => "stuck",
        }
    }
}

impl Display for LeafLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("all shown"),
            Self::Lifted { from, to } => {
                write!(
                    f,
                    "limited by the firmware to {from:#x} (IA32_MISC_ENABLE bit 22); lifted, {to:#x} then"
                )
            }
            Self::Stuck => {
                f.write_str("limited by the firmware (IA32_MISC_ENABLE bit 22), and it cannot be lifted")
            }
        }
    }
}

impl Faulting {
    /// One word for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Available { .. } => "available",
            Self::NoSwitch => "no-switch",
            Self::Stuck { .. } => "stuck",
        }
    }

    /// Whether it was on, where that can be told.
    #[must_use]
    pub const fn on(self) -> Option<bool> {
        match self {
            Self::Available { on } | Self::Stuck { on } => Some(on),
            Self::Absent | Self::NoSwitch => None,
        }
    }
}

impl Display for Faulting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = |on| if on { "on" } else { "off" };
        match *self {
            Self::Absent => f.write_str("none: MSR_PLATFORM_INFO bit 31 is 0 or cannot be read"),
            Self::Available { on } => write!(f, "available, {} (MSR 0x140 bit 0)", state(on)),
            Self::NoSwitch => f.write_str("enumerated, but MSR 0x140 cannot be read"),
            Self::Stuck { on } => write!(f, "enumerated, but MSR 0x140 bit 0 stays {}", state(on)),
        }
    }
}
