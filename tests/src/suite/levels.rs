//! CPU levels, cell by cell: on one host, a guest at each level tries everything that a level can hide, and its finding
//! has to be what CPUID told it and what the host's ledger says.

use super::{Case, Context, start};
use crate::console::tail;
use crate::emu::bochs::models_with_ept;
use crate::guest;
use crate::host::{Host, HostSpec, PROMPT, VmSpec};
use crate::scenario::{Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
/// Leaves a guest's console.
const DETACH: &[u8] = b"\x1c.";
/// Prefix of the cases of the full matrix.
const MATRIX: &str = "matrix-levels/";

/// Every level that a host may have; those that a host cannot give have to be refused there.
const LEVELS: [&str; 42] = [
    "x86-64-v1",
    "x86-64-v2",
    "x86-64-v2-aes",
    "x86-64-v3",
    "x86-64-v4",
    "merom",
    "penryn",
    "nehalem",
    "westmere",
    "sandybridge",
    "ivybridge",
    "haswell",
    "haswell-tsx",
    "haswell-ibrs",
    "broadwell",
    "broadwell-tsx",
    "broadwell-ibrs",
    "skylake-server",
    "skylake-server-tsx",
    "skylake-server-ibrs",
    "cascadelake",
    "cascadelake-tsx",
    "cooperlake",
    "cooperlake-tsx",
    "icelake-server",
    "icelake-server-tsx",
    "sapphirerapids",
    "sapphirerapids-tsx",
    "emeraldrapids",
    "emeraldrapids-tsx",
    "graniterapids",
    "graniterapids-tsx",
    "diamondrapids",
    "avoton",
    "denverton",
    "snowridge",
    "knightslanding",
    "avx2-common",
    "rocketlake",
    "raptorlake",
    "sierraforest",
    "clearwaterforest",
];

/// The slice that every run plays: hosts, and levels at, between and below what they are.
const SLICE: [(&str, [&str; 4]); 2] = [
    ("corei7_skylake_x", ["nehalem", "x86-64-v3", "haswell", "skylake-server"]),
    ("corei7_ivy_bridge_3770k", ["x86-64-v1", "nehalem", "westmere", "ivybridge"]),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (model, levels) in SLICE {
        let name = format!("levels/{model}");
        cases.push(Case::new(&name, 240, move |context| play(context, model, &levels, true).map(drop)));
    }
    let mut travels = Case::new("levels/ledger_travels", 300, ledger_travels);
    travels.weight = 2;
    cases.push(travels);
    cases.push(Case::new("levels/aesni_off", 180, aesni_off));
    for model in models_with_ept() {
        let run = move |context: &Context| {
            let matrix = play(context, model, &LEVELS, false)?;
            println!("{matrix}");
            Ok(())
        };
        cases.push(Case::new(&format!("{MATRIX}{model}"), 900, run).slow());
    }
    cases
}

/// One finding of the probe.
#[derive(Debug, PartialEq, Eq)]
struct Cell {
    feature: String,
    /// insn, cr4, xcr0, efer or msr.
    kind: String,
    announced: bool,
    finding: String,
}

/// What a guest printed: its cells, and the bits that its registers took.
#[derive(Debug, Default)]
struct Findings {
    cells: Vec<Cell>,
    limits: BTreeMap<String, u64>,
}

impl Findings {
    fn parse(text: &str) -> Result<Self> {
        let mut findings = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["cell", feature, kind, told @ ("announced" | "hidden"), finding] => {
                    findings.cells.push(Cell {
                        feature: feature.to_string(),
                        kind: kind.to_string(),
                        announced: *told == "announced",
                        finding: finding.to_string(),
                    });
                }
                ["cell", ..] => bail!("no cell: {line}"),
                ["limit", register, bits] => {
                    findings.limits.insert(register.to_string(), u64::from_str_radix(bits, 16)?);
                }
                _ => {}
            }
        }
        ensure!(findings.cells.len() > 100 && findings.limits.len() == 3, "the probe printed {text}");
        Ok(findings)
    }

    fn told(&self, feature: &str) -> bool {
        self.cells.iter().any(|cell| cell.feature == feature && cell.announced)
    }
}

/// One row of the ledger's JSON.
#[derive(Clone, Debug)]
struct Row {
    means: String,
    hole: bool,
}

fn ledger(json: &Value) -> Result<BTreeMap<String, Row>> {
    let rows = json["here"]["rows"].as_array().context("`here.rows` is no array")?;
    rows.iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().with_context(|| format!("no `{key}` in {row}"));
            let hole = row["hole"].as_bool().with_context(|| format!("no `hole` in {row}"))?;
            Ok((text("name")?.to_string(), Row { means: text("means")?.to_string(), hole }))
        })
        .collect()
}

/// What a cell may have found, by the ledger's row of its feature; None for a feature that is not hidden.
fn expected(cell: &Cell, row: Option<&Row>, xsave: bool) -> &'static [&'static str] {
    let Some(row) = row else { return &["works"] };
    match (cell.kind.as_str(), row.means.as_str()) {
        ("insn", _) if row.hole => &["works"],
        // Without it XGETBV with ECX = 1 is #GP, and LZCNT and TZCNT run as BSR and BSF.
        ("insn", "absent") => &["#UD", "#GP", "old"],
        ("insn", "not-enabled" | "exiting" | "cr4" | "xcr0") => &["#UD"],
        ("insn", "msr") => &["#UD", "#GP"],
        // XSETBV itself is #UD where there is no XSAVE.
        ("xcr0", _) if !xsave => &["#UD"],
        ("cr4" | "xcr0" | "efer" | "msr", _) => &["#GP"],
        _ => &[],
    }
}

/// What an emulator gets wrong by itself, whoever runs on it: model, feature, kind, finding.
///
/// Bochs 3.0 executes MOVDIRI of 32 bits as it would outside 64-bit mode: it checks the limit of DS, which is 0 in this
/// guest, and raises #GP (the handler in `ia_opcodes.def` of tag `REL_3_0_FINAL` is `MOV32_EdGdM`).
const EMULATOR: [(&str, &str, &str, &str); 2] =
    [("sapphire_rapids", "MOVDIRI", "insn", "#GP"), ("arrow_lake", "MOVDIRI", "insn", "#GP")];

/// Bits of a register that come with features; the judge's own opinion, not the hypervisor's table.
fn limits(findings: &Findings) -> [(&'static str, u64); 3] {
    let with = |feature: &str, bits: u64| if findings.told(feature) { bits } else { 0 };
    // PVI and TSD, PAE, PCE, OSXMMEXCPT come with what every level has.
    let cr4 = [
        ("VME", 0b11),
        ("DE", 1 << 3),
        ("PSE", 1 << 4),
        ("MCE", 1 << 6),
        ("PGE", 1 << 7),
        ("FXSR", 1 << 9),
        ("UMIP", 1 << 11),
        ("FSGSBASE", 1 << 16),
        ("PCID", 1 << 17),
        ("XSAVE", 1 << 18),
        ("SMEP", 1 << 20),
        ("SMAP", 1 << 21),
        ("PKU", 1 << 22),
    ];
    let cr4 =
        cr4.iter().fold(1 << 2 | 1 << 5 | 1 << 8 | 1 << 10, |all, (name, bits)| all | with(name, *bits));
    let state = with("AVX", 1 << 2) | with("AVX512F", 0b111 << 5) | with("PKU", 1 << 9);
    let xcr0 = if findings.told("XSAVE") { 0b11 | state } else { 0 };
    let efer = 0b101 << 8 | with("SYSCALL", 1) | with("NX", 1 << 11);
    [("cr4", cr4), ("xcr0", xcr0), ("efer", efer)]
}

/// Everything in which a guest's findings differ from what it was told and from the ledger.
fn judge(model: &str, findings: &Findings, rows: &BTreeMap<String, Row>) -> Vec<String> {
    let mut wrong = Vec::new();
    let xsave = findings.told("XSAVE");
    for cell in &findings.cells {
        let Cell { feature, kind, announced, finding } = cell;
        let row = rows.get(feature);
        if *announced == row.is_some() {
            let told = if *announced { "announced" } else { "hidden" };
            wrong.push(format!("{feature} is {told} by CPUID, and the ledger has {row:?}"));
        }
        let emulator = EMULATOR.contains(&(model, feature, kind, finding));
        if !emulator && !expected(cell, row, xsave).contains(&finding.as_str()) {
            wrong.push(format!("{feature} {kind}: {finding}, and the ledger has {row:?}"));
        }
    }
    for (register, want) in limits(findings) {
        let took = findings.limits.get(register).copied().unwrap_or_default();
        if took != want {
            wrong.push(format!("{register} took bits {took:#x}, CPUID told of {want:#x}"));
        }
    }
    wrong
}

/// Plays a VM at each level on one host. With `all_given`, none may be refused; else those that the host does not list.
fn play(context: &Context, model: &str, levels: &[&str], all_given: bool) -> Result<String> {
    guest::build_payloads()?;
    let mut spec = HostSpec::new("host", model);
    for level in levels {
        let mut vm = VmSpec::new(level, &guest::payload("level-probe"));
        vm.level = level.to_string();
        vm.mem_mib = 8;
        vm.options.push("debug-exit".to_string());
        spec.vms.push(vm);
    }
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    let given = given(&host.console()?.text())?;
    let unknown: Vec<_> = given.iter().filter(|level| !LEVELS.contains(&level.as_str())).collect();
    ensure!(unknown.is_empty(), "levels that this bench does not know: {unknown:?}");
    let mut played = Vec::new();
    for level in levels {
        // Where there are many, the host is ready before it has come to the last.
        let (console, refusal) = (host.console()?, format!("vm {level}: refused: "));
        if !given.contains(*level) && !console.text().contains(&refusal) {
            console.expect(&refusal, PATIENCE)?;
        }
        let refused = console.text().contains(&refusal);
        ensure!(
            refused != given.contains(*level),
            "{level} on {model}: listed and refused, or neither: {given:?}"
        );
        ensure!(!refused || !all_given, "{level} is refused on {model}");
        if !refused {
            played.push(*level);
        }
    }
    let (mut columns, mut wrong) = (Vec::new(), Vec::new());
    for level in &played {
        let findings = Findings::parse(&printed(&mut host, level)?)?;
        let rows = ledger(&json(&mut host, &format!("cpu ledger {level} --json"))?)?;
        wrong.extend(judge(model, &findings, &rows).into_iter().map(|what| format!("{level}: {what}")));
        columns.push((*level, findings, rows));
    }
    let matrix = matrix(model, &columns);
    std::fs::write(context.dir.join("matrix.txt"), &matrix)?;
    ensure!(wrong.is_empty(), "{model}: {} cells differ:\n{}\n{matrix}", wrong.len(), wrong.join("\n"));
    Ok(matrix)
}

/// A guest that comes to a newer host becomes freer there, and the host can say in what, and what it was before.
fn ledger_travels(context: &Context) -> Result<()> {
    let plan = Plan::memwriter("corei7_haswell_4770", "corei7_skylake_x", "haswell", 2)?;
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    let question = format!("cpu ledger {VM} --json");
    let before = json(&mut pair.hosts[SOURCE], &question)?;
    ensure!(before.get("came-from").is_none(), "it came from nowhere: {before}");
    pair.migrate(SOURCE, &plan, &mut Silent)?;
    let now = json(&mut pair.hosts[TARGET], &question)?;
    ensure!(now["came-from"] == before["here"], "the ledger that came along is not the one that left");
    let adx = now["changes"].as_array().into_iter().flatten().find(|change| change["name"] == "ADX");
    let adx = adx.with_context(|| format!("ADX is not among the changes: {}", now["changes"]))?;
    ensure!(adx["freer"] == true && adx["before"] == "absent" && adx["now"] == "advertised-only", "{adx}");
    let log = pair.hosts[TARGET].console()?.text();
    ensure!(
        log.contains(&format!("cpu: vm {VM}: freer: ADX")),
        "the target's log does not say it:\n{}",
        tail(&log, 30)
    );
    let text = pair.hosts[TARGET].command(&format!("cpu ledger {VM}"), PATIENCE)?;
    ensure!(
        text.error.is_none() && text.lines.iter().any(|line| line.contains("came from")),
        "{:?}",
        text.lines
    );
    let nobody = pair.hosts[TARGET].command("cpu ledger nobody", PATIENCE)?;
    ensure!(nobody.error.is_some_and(|error| error.starts_with("not-found")), "a ledger of nobody");
    Ok(())
}

/// Without the MSR the host says that AES-NI stays, and goes on.
fn aesni_off(context: &Context) -> Result<()> {
    let spec = HostSpec::new("host", "corei7_haswell_4770").option("aesni=off");
    let mut host = start(context, &spec)?;
    host.wait_ready(PATIENCE)?;
    let log = host.console()?.text();
    ensure!(log.contains("aesni=off: MSR 13C has no effect"), "{}", tail(&log, 30));
    ensure!(given(&log)?.contains("haswell"), "AES-NI is there, so the levels are");
    Ok(())
}

fn json(host: &mut Host, command: &str) -> Result<Value> {
    let answer = host.command(command, PATIENCE)?;
    ensure!(answer.error.is_none(), "{command}: {:?}", answer.error);
    let json = answer.lines.iter().find(|line| line.starts_with('{')).context("no JSON")?;
    serde_json::from_str(json).with_context(|| format!("not JSON: {json}"))
}

/// The levels that the boot log says the host can give.
fn given(log: &str) -> Result<BTreeSet<String>> {
    let line =
        log.lines().find_map(|line| line.split_once("cpu: levels: ")).context("no levels in the boot log")?;
    Ok(line.1.split_whitespace().map(str::to_string).collect())
}

/// Plays a VM to its end, and gives back what it printed. While its console is shown, what it prints is taken: a guest
/// whose UART nobody reads waits. The console is shown once more then, since it replays without a line of the log
/// in between.
fn printed(host: &mut Host, vm: &str) -> Result<String> {
    let console = host.console()?;
    let end = format!("vm {vm}: stopped: ");
    console.send_line(&format!("console {vm}"))?;
    let ended = console.text().lines().find(|line| line.contains(&end)).map(str::to_string);
    let ended = match ended {
        Some(line) => line,
        None => console.expect_any(&[&end], PATIENCE)?.1,
    };
    ensure!(ended.contains("debug exit 0"), "{ended}");
    console.send(DETACH)?;
    console.expect(PROMPT, PATIENCE)?;
    let at = console.text().len();
    console.send_line(&format!("console {vm}"))?;
    console.expect("level-probe: done", PATIENCE)?;
    console.send(DETACH)?;
    console.expect(PROMPT, PATIENCE)?;
    Ok(console.text_from(at).replace('\r', ""))
}

/// Rows are cells, columns levels: `+` announced and works, `U` `G` `o` hidden and #UD, #GP or run as the older
/// instruction, `.` absent in this CPU, `!` hidden and works.
fn matrix(model: &str, columns: &[(&str, Findings, BTreeMap<String, Row>)]) -> String {
    let mut text =
        format!("{model}: + announced, U #UD, G #GP, o older instruction, . absent here, ! hole\n");
    for (number, (level, ..)) in columns.iter().enumerate() {
        let _ = writeln!(text, "{:28}{}{level}", "", "| ".repeat(number));
    }
    let Some((_, first, _)) = columns.first() else { return text };
    for (at, cell) in first.cells.iter().enumerate() {
        let _ = write!(text, "{:28}", format!("{} {}", cell.feature, cell.kind));
        for (_, findings, rows) in columns {
            let mark = findings.cells.get(at).map_or("?", |cell| match cell.finding.as_str() {
                "works" if cell.announced => "+ ",
                "works" => "! ",
                _ if rows.get(&cell.feature).is_some_and(|row| row.means == "absent") => ". ",
                "#UD" => "U ",
                "#GP" => "G ",
                "old" => "o ",
                _ => "? ",
            });
            text.push_str(mark);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(feature: &str, kind: &str, announced: bool, finding: &str) -> Cell {
        Cell { feature: feature.into(), kind: kind.into(), announced, finding: finding.into() }
    }

    fn row(means: &str, hole: bool) -> Row {
        Row { means: means.into(), hole }
    }

    #[test]
    fn differences_are_found() {
        let cells = vec![
            cell("XSAVE", "insn", true, "works"),
            cell("AVX2", "insn", false, "works"),
            cell("RDRAND", "insn", false, "#UD"),
            cell("SMEP", "cr4", false, "#GP"),
        ];
        let mut limits = BTreeMap::new();
        limits.extend([("cr4".to_string(), 0x40524_u64), ("xcr0".into(), 3), ("efer".into(), 0x500)]);
        let mut findings = Findings { cells, limits };
        let mut rows = BTreeMap::from([
            ("AVX2".to_string(), row("advertised-only", true)),
            ("RDRAND".into(), row("exiting", false)),
            ("SMEP".into(), row("cr4", false)),
        ]);
        assert_eq!(judge("x", &findings, &rows), Vec::<String>::new());
        findings.cells[2].finding = "works".into();
        assert_eq!(judge("x", &findings, &rows).len(), 1);
        rows.insert("AVX2".into(), row("xcr0", false));
        assert_eq!(judge("x", &findings, &rows).len(), 2);
        rows.remove("SMEP");
        assert_eq!(judge("x", &findings, &rows).len(), 4);
        findings.limits.insert("cr4".into(), 0x140524);
        assert_eq!(judge("x", &findings, &rows).len(), 5);
    }

    #[test]
    fn levels_of_a_boot_log() {
        let levels = given("[ 1.0] cpu: levels: nehalem haswell\n").unwrap();
        assert!(levels.contains("haswell") && levels.len() == 2);
        assert!(given("").is_err());
    }
}
