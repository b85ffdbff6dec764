//! Speculation controls: a guest has the registers that its policy announces and no other, they move with it, and
//! `cpu mitigations` says what is done and whether guests are told the truth.

use super::migrate::{goes_on, in_sequence};
use super::{Case, Context, start};
use crate::guest;
use crate::host::{HostSpec, VmSpec};
use crate::scenario::{Pair, Plan, SOURCE, Silent, TARGET};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

/// The two models of Bochs with IA32_SPEC_CTRL.
const WITH: [&str; 2] = ["corei7_icelake_u", "tigerlake"];
const WITHOUT: &str = "corei7_skylake_x";
const VM: &str = "guest";
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for model in WITH {
        let name = format!("speculation/announced_on_{model}");
        cases.push(Case::new(&name, 180, move |context| registers(context, model, "", true, &[])));
        let name = format!("speculation/hidden_on_{model}");
        cases.push(Case::new(&name, 180, move |context| registers(context, model, "haswell", false, &[])));
    }
    cases.push(Case::new("speculation/announced_mitigations_off", 180, |context| {
        registers(context, WITH[0], "", true, &["mitigations=off"])
    }));
    cases.push(Case::new("speculation/absent", 180, |context| registers(context, WITHOUT, "", false, &[])));
    cases.push(Case::new("speculation/console", 180, console));
    // The other way a guest starts with Tiger Lake's CLWB.
    let mut case = Case::new("speculation/icelake_tigerlake_and_back", 300, |context| {
        and_back(context, WITH[0], WITH[1])
    });
    case.weight = 2;
    cases.push(case);
    cases
}

fn vm(level: &str, cmdline: &str) -> Result<VmSpec> {
    guest::build_payloads()?;
    let mut vm = VmSpec::new(VM, &guest::payload("spec-ctrl"));
    vm.level = level.to_string();
    vm.cmdline = cmdline.to_string();
    vm.options.push("debug-exit".to_string());
    Ok(vm)
}

/// The payload tries every bit of each register and judges itself.
fn registers(context: &Context, model: &str, level: &str, there: bool, options: &[&str]) -> Result<()> {
    let vm = vm(level, &format!("expect={}", u8::from(there)))?;
    let spec = options.iter().fold(HostSpec::new("host", model).with_vm(vm), |spec, word| spec.option(word));
    let mut host = start(context, &spec)?;
    let event = host.vm_event(VM, &["stopped: ", "refused: "], PATIENCE)?;
    host.guest()?.drain(Duration::from_millis(200), Duration::from_secs(3));
    let text = host.guest()?.text();
    ensure!(event == "stopped: debug exit 0", "ended with `{event}`, printed {text}");
    // 3 bits by 8 values, 61 reserved bits, 2 x 66 of the commands; or 3 x 3 refusals.
    let least = if there { 200 } else { 10 };
    let count = text.split("spec-ctrl: ").last().and_then(|rest| rest.split(' ').next());
    let count: u32 = count.and_then(|word| word.parse().ok()).context("no count of checks")?;
    ensure!(count >= least, "only {count} checks were made: {text}");
    Ok(())
}

fn console(context: &Context) -> Result<()> {
    let spec = HostSpec::new("host", WITH[0]).with_vm(vm("haswell", "expect=0 ticks=0")?);
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    let mut says = |command: &str, expected: &[&str]| -> Result<()> {
        let answer = host.command(command, PATIENCE)?;
        ensure!(answer.error.is_none(), "{command}: {:?}", answer.error);
        // A row that is wider than a terminal has more lines than one.
        let said: Vec<&str> = answer.lines.iter().flat_map(|line| line.split_whitespace()).collect();
        let said = said.join(" ");
        for words in expected {
            ensure!(said.contains(words), "{command} does not say `{words}`: {}", answer.lines.join("\n"));
        }
        Ok(())
    };
    says(
        "cpu mitigations",
        &[
            "Ice Lake-U",
            "slot spec-ctrl open, host 0x1",
            "slot verw closed",
            "l1tf free - RDCL_NO",
            "mds open - model Ice Lake-U",
            "needs microcode: MD_CLEAR",
            "slot branch-history open, 5 calls of 5 jumps",
            "spectre-v1 mitigated indices masked",
            "spectre-v2 mitigated enhanced IBRS",
        ],
    )?;
    says(
        &format!("cpu mitigations {VM}"),
        &[
            "l1tf careful affected: model Haswell-EP",
            "spectre-v2 untold",
            "gds lie not affected: model Haswell-EP",
        ],
    )?;
    says("cpu mitigations --json", &["{\"signature\":460517,", "\"host_spec_ctrl\":1"])?;
    says(&format!("cpu mitigations {VM} --json"), &["{\"vm\":\"guest\",\"claims\":[{\"flaw\":\"meltdown\""])?;
    let answer = host.command("cpu mitigations nobody", PATIENCE)?;
    ensure!(answer.error.is_some(), "a VM that is not there was described: {:?}", answer.lines);
    Ok(())
}

/// IBRS and SSBD stay set across two migrations; no read in between finds anything else.
fn and_back(context: &Context, from: &str, to: &str) -> Result<()> {
    let mut plan = Plan::memwriter(from, to, "", 8)?;
    plan.vm.kernel = guest::payload("spec-ctrl");
    plan.vm.cmdline = "expect=1 ticks=0 value=5".to_string();
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    pair.migrate(SOURCE, &plan, &mut Silent)?;
    goes_on(&mut pair, TARGET, 20)?;
    let there = pair.hosts[SOURCE].guest()?.text().len();
    pair.migrate(TARGET, &plan, &mut Silent)?;
    goes_on(&mut pair, SOURCE, 20)?;
    let source = pair.hosts[SOURCE].guest()?.text();
    let (before, after) = source.split_at(there);
    let target = pair.hosts[TARGET].guest()?.text();
    ensure!(before.contains(" 0 BAD"), "the registers are not as announced: {before}");
    in_sequence(&format!("{before}{target}{after}"))?;
    Ok(())
}
