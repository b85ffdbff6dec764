//! What the console says of CPU policies: listings, comparisons, verdicts and dumps.

use super::{Case, Context, start};
use crate::guest;
use crate::host::{Host, HostSpec, VmSpec};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::Duration;

const MODEL: &str = "corei7_skylake_x";
const VM: &str = "guest";
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("cpu/questions", 180, questions)]
}

fn questions(context: &Context) -> Result<()> {
    guest::build_payloads()?;
    let mut vm = VmSpec::new(VM, &guest::payload("halt-forever"));
    vm.mem_mib = 16;
    let mut host = start(context, &HostSpec::new("host", MODEL).with_vm(vm))?;
    host.wait_ready(Duration::from_secs(120))?;

    let levels = json(&mut host, "cpu levels --json")?;
    let here = |name: &str| {
        let mut levels = levels.as_array().into_iter().flatten();
        levels.find(|level| level["name"] == name).map(|level| level["here"] == true)
    };
    for (level, given) in [
        ("merom", true),
        ("haswell", true),
        ("skylake-server", true),
        ("graniterapids", false),
        ("x86-64-v4", true),
    ] {
        ensure!(here(level) == Some(given), "{level} is {:?}, not {given}: {levels}", here(level));
    }

    let four = json(&mut host, "cpu show --json")?;
    for (at, sense) in ["raw", "host", "max", "default"].iter().enumerate() {
        ensure!(four[at]["kind"] == format!("host ({sense})"), "{sense}: {}", four[at]["kind"]);
    }
    let has = |at: usize, name: &str| {
        four[at]["features"].as_array().is_some_and(|all| all.iter().any(|f| f == name))
    };
    ensure!(has(0, "VMX") && !has(1, "VMX"), "VMX is the CPU's, and not virtualised: {}", four[1]);
    ensure!(has(1, "x2APIC") && has(3, "AVX2"), "what can be virtualised: {}", four[1]);

    let text = answer(&mut host, &format!("cpu show {VM}"))?;
    ensure!(text.contains("CPUID.7.0:EBX") && text.contains("AVX2") && !text.contains("AVX512F"), "{text}");
    let text = answer(&mut host, "cpu show x86-64-v3")?;
    ensure!(text.contains("BMI1 AVX2") && !text.contains("AESNI") && text.contains("user space"), "{text}");
    let text = answer(&mut host, "cpu diff haswell skylake-server")?;
    ensure!(text.contains("CPUID.7.0:EBX[16] AVX512F") && !text.contains("AVX2"), "{text}");
    let text = answer(&mut host, "cpu diff haswell haswell-v1")?;
    ensure!(text == "no difference", "{text:?}");

    let verdict = json(&mut host, &format!("cpu check {VM} here --json"))?;
    ensure!(verdict["fits"] == true, "{verdict}");
    refused(&mut host, &format!("cpu check {VM} nowhere"), "not-found host 'nowhere'")?;
    refused(&mut host, "cpu show hasswell", "not-found level, VM or host 'hasswell'")?;

    let dump = answer(&mut host, "cpu dump")?;
    ensure!(dump.lines().any(|line| line.starts_with("cpuid 00000001.00 ")), "{dump}");
    let counted = dump.lines().last().and_then(|last| last.strip_prefix("end ")?.parse().ok());
    ensure!(counted == Some(dump.lines().count() - 2), "the dump is not whole: {dump}");
    Ok(())
}

fn answer(host: &mut Host, command: &str) -> Result<String> {
    let answer = host.command(command, PATIENCE)?;
    ensure!(answer.error.is_none(), "`{command}`: {:?}", answer.error);
    Ok(answer.lines.join("\n").trim().to_string())
}

fn json(host: &mut Host, command: &str) -> Result<Value> {
    let text = answer(host, command)?;
    serde_json::from_str(&text).with_context(|| format!("`{command}` answers no JSON: {text}"))
}

fn refused(host: &mut Host, command: &str, with: &str) -> Result<()> {
    let error = host.command(command, PATIENCE)?.error.unwrap_or_default();
    ensure!(error.starts_with(with), "`{command}`: error `{error}` instead of `{with}`");
    Ok(())
}
