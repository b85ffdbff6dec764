//! The judgement: which flaws a CPU has, and what is done about each.

use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use crate::cpu::{Cpu, Smt, cap, ebx, ecx, edx};
use crate::flaw::Flaw;
use crate::measure::Measure;
use crate::model::model;

/// How the host stands to a flaw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The CPU does not have it.
    Free,
    /// It has it, and what is done suffices.
    Mitigated,
    /// What is done leaves a way: the reason says which.
    Partial,
    /// Nothing is done.
    Open,
}

impl State {
    /// As reports have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Mitigated => "mitigated",
            Self::Partial => "partial",
            Self::Open => "open",
        }
    }
}

/// Why a CPU is held to have a flaw, or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ruling {
    pub(crate) affected: bool,
    pub(crate) why: String,
}

/// One flaw on one CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The flaw.
    pub flaw: Flaw,
    /// How the host stands.
    pub state: State,
    /// What the host does.
    pub measures: Vec<Measure>,
    /// Why the CPU has the flaw or has not, and what is left open.
    pub why: String,
    /// What newer microcode would bring, where the means is missing.
    pub needs: Option<&'static str>,
}

/// Every flaw on one CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assessment {
    /// In the order of [`Flaw::ALL`].
    pub findings: Vec<Finding>,
}

impl Assessment {
    /// Judges a host.
    #[must_use]
    pub fn new(cpu: &Cpu) -> Self {
        Self { findings: Flaw::ALL.into_iter().map(|flaw| find(cpu, flaw)).collect() }
    }

    /// The finding on one flaw.
    #[must_use]
    pub fn of(&self, flaw: Flaw) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.flaw == flaw)
    }

    /// True where the entry and exit code owes this.
    #[must_use]
    pub fn wants(&self, measure: Measure) -> bool {
        self.findings.iter().any(|finding| finding.measures.contains(&measure))
    }
}

/// Whether a CPU has a flaw: by the bit that denies it, by what the flaw presupposes, by its model. Where none
/// of these says anything it has.
pub(crate) fn rule(cpu: &Cpu, flaw: Flaw) -> Ruling {
    let free = |why: &str| Ruling { affected: false, why: why.into() };
    if let Some(name) = denied(cpu, flaw) {
        return free(name);
    }
    if let Some(why) = impossible(cpu, flaw) {
        return free(why);
    }
    // A hypervisor may show any model, and move its guest to another.
    if cpu.virtual_machine() && matches!(flaw, Flaw::Its | Flaw::Bhi) {
        return Ruling { affected: true, why: "a virtual machine may be anywhere".into() };
    }
    if let Some(name) = asserted(cpu, flaw) {
        return Ruling { affected: true, why: name.into() };
    }
    let all = matches!(flaw, Flaw::SpectreV1 | Flaw::Rsb);
    match model(cpu) {
        _ if all => Ruling { affected: true, why: "every CPU has it".into() },
        Some(row) if row.is_free_of(flaw) => Ruling { affected: false, why: format!("model {}", row.name) },
        Some(row) => Ruling { affected: true, why: format!("model {}, no bit denies it", row.name) },
        None => {
            let (family, model) = (cpu.family(), cpu.model());
            Ruling { affected: true, why: format!("unknown model {family:X}_{model:02X}H, no bit denies it") }
        }
    }
}

/// The bits of IA32_ARCH_CAPABILITIES that say that a CPU does not have it, and their names.
pub(crate) fn denial(flaw: Flaw) -> Option<(u64, &'static str)> {
    Some(match flaw {
        Flaw::Meltdown | Flaw::L1tf => (cap::RDCL_NO, "RDCL_NO"),
        Flaw::Mds => (cap::MDS_NO, "MDS_NO"),
        Flaw::Taa => (cap::TAA_NO, "TAA_NO"),
        Flaw::MmioStaleData => {
            (cap::SBDR_SSDP_NO | cap::FBSDP_NO | cap::PSDP_NO, "SBDR_SSDP_NO, FBSDP_NO and PSDP_NO")
        }
        Flaw::Rfds => (cap::RFDS_NO, "RFDS_NO"),
        Flaw::Bhi => (cap::BHI_NO, "BHI_NO"),
        Flaw::Pbrsb => (cap::PBRSB_NO, "PBRSB_NO"),
        Flaw::Its => (cap::ITS_NO, "ITS_NO"),
        Flaw::Ssb => (cap::SSB_NO, "SSB_NO"),
        Flaw::Gds => (cap::GDS_NO, "GDS_NO"),
        Flaw::PageSizeChange => (cap::IF_PSCHANGE_MC_NO, "IF_PSCHANGE_MC_NO"),
        Flaw::SpectreV1 | Flaw::SpectreV2 | Flaw::Rsb | Flaw::Retbleed | Flaw::Srbds => return None,
    })
}

/// The denial that the CPU makes.
fn denied(cpu: &Cpu, flaw: Flaw) -> Option<&'static str> {
    denial(flaw).filter(|(bits, _)| cpu.cap(*bits)).map(|(_, name)| name)
}

/// The bits of IA32_ARCH_CAPABILITIES that are true of this silicon, whatever its microcode says: those whose flaws the
/// model does not have, and the parts of one that it does have. 0 under a hypervisor, which may show any model.
#[must_use]
pub fn innate_capabilities(cpu: &Cpu) -> u64 {
    let Some(row) = model(cpu).filter(|_| !cpu.virtual_machine()) else { return 0 };
    let (mut holds, mut contradicted) = (row.stale_data_no, 0);
    for flaw in Flaw::ALL {
        let (bits, _) = denial(flaw).unwrap_or((0, ""));
        match row.is_free_of(flaw) {
            true => holds |= bits,
            false if flaw != Flaw::MmioStaleData => contradicted |= bits,
            false => {}
        }
    }
    holds & !contradicted
}

/// A flaw of something that the CPU does not do.
fn impossible(cpu: &Cpu, flaw: Flaw) -> Option<&'static str> {
    let random = cpu.leaf1_ecx & ecx::RDRAND != 0 || cpu.leaf7_ebx & ebx::RDSEED != 0;
    let gathers = cpu.leaf1_ecx & ecx::AVX != 0 && cpu.leaf7_ebx & ebx::AVX2 != 0;
    match flaw {
        Flaw::Taa if !cpu.transactions() => Some("no transactions"),
        Flaw::Srbds if !random => Some("no RDRAND, no RDSEED"),
        Flaw::Gds if !gathers => Some("no gather instructions"),
        Flaw::Pbrsb if !cpu.enhanced_ibrs() => Some("no enhanced IBRS"),
        // Without enhanced IBRS there is nothing that branch history gets past: that is Spectre v2 itself.
        Flaw::Bhi if !cpu.enhanced_ibrs() && !cpu.virtual_machine() => {
            Some("no enhanced IBRS, see spectre-v2")
        }
        Flaw::Its if cpu.bhi_ctrl() => Some("BHI_CTRL came after it"),
        _ => None,
    }
}

/// A bit that says that the CPU has it, whatever its model.
fn asserted(cpu: &Cpu, flaw: Flaw) -> Option<&'static str> {
    match flaw {
        Flaw::Retbleed if cpu.cap(cap::RSBA) => Some("RSBA"),
        Flaw::Rfds if cpu.cap(cap::RFDS_CLEAR) => Some("RFDS_CLEAR"),
        _ => None,
    }
}

/// What is done, what is left.
struct Answer {
    state: State,
    measures: Vec<Measure>,
    note: &'static str,
    needs: Option<&'static str>,
}

impl Answer {
    fn done(measures: Vec<Measure>, note: &'static str) -> Self {
        Self { state: State::Mitigated, measures, note, needs: None }
    }

    fn open(note: &'static str, needs: Option<&'static str>) -> Self {
        Self { state: State::Open, measures: Vec::new(), note, needs }
    }

    /// Less than enough where threads share a core.
    fn unless_shared(mut self, cpu: &Cpu) -> Self {
        if cpu.smt != Smt::Off && self.state == State::Mitigated {
            self.state = State::Partial;
            self.note = "a sibling thread reads what the other leaves: switch hyper-threading off";
        }
        self
    }
}

fn find(cpu: &Cpu, flaw: Flaw) -> Finding {
    let ruling = rule(cpu, flaw);
    if !ruling.affected {
        return Finding { flaw, state: State::Free, measures: Vec::new(), why: ruling.why, needs: None };
    }
    let answer = answer(cpu, flaw);
    let why = if answer.note.is_empty() { ruling.why } else { format!("{}; {}", ruling.why, answer.note) };
    Finding { flaw, state: answer.state, measures: answer.measures, why, needs: answer.needs }
}

const NO_VERW: &str = "VERW clears no buffer";
const MD_CLEAR: &str = "MD_CLEAR (CPUID.7.0:EDX[10])";

fn answer(cpu: &Cpu, flaw: Flaw) -> Answer {
    match flaw {
        Flaw::Meltdown => {
            Answer::done(vec![], "no guest shares page tables with the host; its own kernel is its matter")
        }
        Flaw::L1tf if cpu.cap(cap::SKIP_L1DFL_VMENTRY) => {
            Answer::done(vec![], "SKIP_L1DFL_VMENTRY: a hypervisor above flushes").unless_shared(cpu)
        }
        Flaw::L1tf if cpu.edx(edx::L1D_FLUSH) => Answer::done(vec![Measure::L1dFlush], "").unless_shared(cpu),
        Flaw::L1tf => Answer::open("no L1D flush", Some("L1D_FLUSH (CPUID.7.0:EDX[28])")),
        // TSX_CTRL came with a VERW that clears buffers (TAA paper).
        Flaw::Mds | Flaw::Taa if cpu.edx(edx::MD_CLEAR) => {
            Answer::done(vec![Measure::Verw], "").unless_shared(cpu)
        }
        Flaw::Mds | Flaw::Taa => Answer::open(NO_VERW, Some(MD_CLEAR)),
        Flaw::MmioStaleData => Answer::done(vec![], "no guest reaches a device's memory"),
        Flaw::Rfds if cpu.cap(cap::RFDS_CLEAR) => Answer::done(vec![Measure::Verw], "").unless_shared(cpu),
        Flaw::Rfds => Answer::open(NO_VERW, Some("RFDS_CLEAR (IA32_ARCH_CAPABILITIES[28])")),
        Flaw::SpectreV1 => Answer::done(vec![Measure::IndexMasks], ""),
        Flaw::Rsb | Flaw::Pbrsb => Answer::done(vec![Measure::RsbFill], ""),
        Flaw::SpectreV2 => spectre_v2(cpu),
        Flaw::Bhi if cpu.bhi_ctrl() => Answer::done(vec![Measure::BhiDisS], ""),
        Flaw::Bhi => Answer::done(vec![Measure::BranchHistory], ""),
        Flaw::Retbleed if cpu.enhanced_ibrs() => {
            Answer::done(vec![Measure::IbrsAlways, Measure::RsbFill], "")
        }
        Flaw::Retbleed if cpu.edx(edx::IBRS_IBPB) => {
            Answer::done(vec![Measure::IbrsOnExit, Measure::RsbFill], "")
        }
        Flaw::Retbleed => Answer {
            state: State::Partial,
            measures: vec![Measure::RsbFill],
            note: "deep returns of the host are predicted elsewhere",
            needs: Some(IBRS),
        },
        Flaw::Its if crate::model::model(cpu).is_some_and(|row| row.its_native_only) => {
            Answer::done(vec![], "from a guest the host is out of reach")
        }
        Flaw::Its => Answer {
            state: if cpu.edx(edx::IBRS_IBPB) { State::Partial } else { State::Open },
            measures: if cpu.edx(edx::IBRS_IBPB) { vec![Measure::Ibpb] } else { vec![] },
            note: "the host's indirect branches are not aligned for it",
            needs: if cpu.edx(edx::IBRS_IBPB) { None } else { Some(IBRS) },
        },
        Flaw::Ssb => {
            Answer::done(vec![], "the host runs no code of a guest's; a guest switches SSBD for itself")
        }
        Flaw::Srbds => srbds(cpu),
        Flaw::Gds => gds(cpu),
        Flaw::PageSizeChange => Answer::done(vec![Measure::SmallExecutablePages], ""),
    }
}

const IBRS: &str = "IBRS_IBPB (CPUID.7.0:EDX[26])";

fn spectre_v2(cpu: &Cpu) -> Answer {
    if !cpu.edx(edx::IBRS_IBPB) {
        return Answer::open("the host's code has indirect branches and no retpolines", Some(IBRS));
    }
    if cpu.enhanced_ibrs() {
        return Answer::done(vec![Measure::IbrsAlways, Measure::Ibpb], "");
    }
    let mut answer = Answer::done(vec![Measure::IbrsOnExit, Measure::Ibpb], "");
    if cpu.smt != Smt::Off {
        if cpu.edx(edx::STIBP) {
            answer.measures.push(Measure::Stibp);
        } else {
            answer.state = State::Partial;
            answer.note = "a sibling thread trains a guest's branches";
            answer.needs = Some("STIBP (CPUID.7.0:EDX[27])");
        }
    }
    answer
}

/// The microcode mitigates unless IA32_MCU_OPT_CTRL says otherwise; nothing is left to the hypervisor.
fn srbds(cpu: &Cpu) -> Answer {
    const RNGDS_MITG_DIS: u64 = 1;
    match cpu.mcu_opt_ctrl {
        _ if !cpu.edx(edx::SRBDS_CTRL) => {
            Answer::open("RDRAND of one core is read by another", Some("SRBDS_CTRL (CPUID.7.0:EDX[9])"))
        }
        Some(control) if control & RNGDS_MITG_DIS == 0 => Answer::done(vec![Measure::Microcode], ""),
        Some(_) => Answer::open("RNGDS_MITG_DIS is set in IA32_MCU_OPT_CTRL", None),
        None => Answer::open("IA32_MCU_OPT_CTRL cannot be read", None),
    }
}

fn gds(cpu: &Cpu) -> Answer {
    const GDS_MITG_DIS: u64 = 1 << 4;
    match cpu.mcu_opt_ctrl {
        _ if !cpu.cap(cap::GDS_CTRL) => Answer::open(
            "gathers read stale vectors of others",
            Some("GDS_CTRL (IA32_ARCH_CAPABILITIES[25])"),
        ),
        Some(control) if control & GDS_MITG_DIS == 0 => Answer::done(vec![Measure::Microcode], ""),
        Some(_) => Answer::open("GDS_MITG_DIS is set in IA32_MCU_OPT_CTRL", None),
        None => Answer::open("IA32_MCU_OPT_CTRL cannot be read", None),
    }
}
