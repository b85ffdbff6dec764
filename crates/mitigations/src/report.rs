//! Assessments as text and as JSON.

use alloc::string::{String, ToString};
use core::fmt::{self, Write};

use text::{Align, Table};

use crate::assess::{Assessment, Finding};
use crate::cpu::Cpu;
use crate::guest::Claim;
use crate::model::model;
use crate::plan::Plan;

fn name_of(cpu: &Cpu) -> &'static str {
    model(cpu).map_or("unknown model", |row| row.name)
}

fn measures(finding: &Finding) -> String {
    let mut text = String::new();
    for measure in &finding.measures {
        let gap = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{gap}{measure}");
    }
    text
}

/// The entries of a plan, by the names of the slots, with what each does.
fn slots(plan: &Plan) -> [(&'static str, bool, String); 7] {
    let spec =
        alloc::format!("host {:#x}, guest without one {:#x}", plan.host_spec_ctrl, plan.guest_spec_ctrl);
    let loops = |h: crate::History| alloc::format!("{} calls of {} jumps", h.outer, h.inner);
    let history = plan.branch_history.map_or_else(String::new, loops);
    [
        ("l1d-flush", plan.l1d_flush, String::new()),
        ("spec-ctrl", plan.spec_ctrl, if plan.spec_ctrl { spec } else { String::new() }),
        ("verw", plan.verw, String::new()),
        ("rsb-fill", plan.rsb_fill, String::new()),
        ("branch-history", plan.branch_history.is_some(), history),
        ("ibpb", plan.ibpb, String::new()),
        ("small-pages", !plan.large_executable_pages, String::new()),
    ]
}

/// What a host has and does; `active` is the plan that its code carries out, which may be less than what it owes.
///
/// # Errors
/// Those of `out`.
pub fn host_text(out: &mut dyn Write, cpu: &Cpu, active: &Plan) -> fmt::Result {
    let (family, number) = (cpu.family(), cpu.model());
    let smt = cpu.smt.name();
    writeln!(out, "model     {family:X}_{number:02X}H stepping {:X}: {}", cpu.stepping(), name_of(cpu))?;
    writeln!(out, "threads   hyper-threading {smt}")?;
    for (name, on, what) in slots(active) {
        let gap = if what.is_empty() { "" } else { ", " };
        writeln!(out, "slot      {name} {}{gap}{what}", if on { "open" } else { "closed" })?;
    }
    let mut table = Table::new([
        ("FLAW", Align::Left),
        ("STATE", Align::Left),
        ("DONE", Align::Left),
        ("WHY", Align::Left),
    ]);
    let carried = *active != Plan::new(cpu);
    for finding in &Assessment::new(cpu).findings {
        let mut why = finding.why.clone();
        if let Some(needs) = finding.needs {
            let _ = write!(why, "; needs microcode: {needs}");
        }
        table.row([finding.flaw.to_string(), finding.state.name().into(), measures(finding), why]);
    }
    write!(out, "{table}")?;
    if carried {
        writeln!(out, "mitigations=off: what stands under DONE is owed, the slots say what is done")?;
    }
    Ok(())
}

/// The same as one JSON object.
///
/// # Errors
/// Those of `out`.
pub fn host_json(out: &mut dyn Write, cpu: &Cpu, active: &Plan) -> fmt::Result {
    json::object(out, |o| {
        o.field("signature", u64::from(cpu.signature))?;
        o.field("model", name_of(cpu))?;
        o.field("smt", cpu.smt.name())?;
        o.object("slots", |o| {
            for (name, on, _) in slots(active) {
                o.field(name, on)?;
            }
            Ok(())
        })?;
        o.field("host_spec_ctrl", active.host_spec_ctrl)?;
        o.field("guest_spec_ctrl", active.guest_spec_ctrl)?;
        o.field("as_owed", *active == Plan::new(cpu))?;
        o.array("flaws", |a| {
            for finding in &Assessment::new(cpu).findings {
                a.object(|o| {
                    o.field("flaw", finding.flaw.name())?;
                    o.field("cve", finding.flaw.cve())?;
                    o.field("state", finding.state.name())?;
                    o.array("done", |a| a.items(finding.measures.iter().map(|measure| measure.name())))?;
                    o.field("why", finding.why.as_str())?;
                    o.field("needs_microcode", finding.needs)
                })?;
            }
            Ok(())
        })
    })
}

/// What a guest is told, and whether that is true.
///
/// # Errors
/// Those of `out`.
pub fn guest_text(out: &mut dyn Write, claims: &[Claim]) -> fmt::Result {
    let mut table = Table::new([
        ("FLAW", Align::Left),
        ("VERDICT", Align::Left),
        ("TOLD", Align::Left),
        ("WHY", Align::Left),
    ]);
    for claim in claims {
        table.row([
            claim.flaw.to_string(),
            claim.verdict.name().into(),
            claim.told.clone(),
            claim.why.clone(),
        ]);
    }
    write!(out, "{table}")
}

/// The same as one JSON object.
///
/// # Errors
/// Those of `out`.
pub fn guest_json(out: &mut dyn Write, vm: &str, claims: &[Claim]) -> fmt::Result {
    json::object(out, |o| {
        o.field("vm", vm)?;
        o.array("claims", |a| {
            for claim in claims {
                a.object(|o| {
                    o.field("flaw", claim.flaw.name())?;
                    o.field("verdict", claim.verdict.name())?;
                    o.field("told", claim.told.as_str())?;
                    o.field("why", claim.why.as_str())
                })?;
            }
            Ok(())
        })
    })
}
