//! Pairs of host models: two hosts form a pool, a guest that names no level starts at the pool's, goes to the other host
//! and comes back. What it finds in its CPU must be the same all the way.

use super::{Case, Context};
use crate::emu::IPS;
use crate::emu::bochs::models_with_ept;
use crate::guest;
use crate::scenario::{ADDRESSES, Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);
const LIMIT: u64 = 600;
/// Prefix of the cases of the full matrix.
const MATRIX: &str = "matrix-pairs/";
/// Rounds of the probe that have to be whole at each station.
const ROUNDS: usize = 2;

/// The pairs of every run: far apart, side by side, and one where each host has what the other lacks.
const SLICE: [(&str, &str); 3] = [
    ("corei5_lynnfield_750", "tigerlake"),
    ("corei7_sandy_bridge_2600k", "corei7_ivy_bridge_3770k"),
    ("corei7_skylake_x", "corei3_cnl"),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (at, from) in models_with_ept().enumerate() {
        for to in models_with_ept().skip(at + 1) {
            let run = move |context: &Context| {
                let line = there_and_back(context, from, to)?;
                println!("        {line}");
                Ok(())
            };
            let mut case = Case::new(&format!("{MATRIX}{from}+{to}"), LIMIT, run).slow();
            case.weight = 2;
            cases.push(case);
        }
    }
    for (from, to) in SLICE {
        let run = move |context: &Context| there_and_back(context, from, to).map(drop);
        let mut case = Case::new(&format!("pairs/{from}+{to}"), LIMIT, run);
        case.weight = 2;
        cases.push(case);
    }
    cases
}

/// One whole round of the probe, line by line.
#[derive(Debug, PartialEq, Eq)]
struct Round {
    number: u64,
    lines: Vec<String>,
}

/// The whole rounds in what a guest printed, with no number left out between them. Later rounds print only the lines
/// in which they differ from the first.
fn rounds(text: &str) -> Result<Vec<Round>> {
    let (mut rounds, mut open): (Vec<Round>, Option<Round>) = (Vec::new(), None);
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), &mut open) {
            (["round", number, "begin"], None) => {
                let lines = rounds.first().map_or(Vec::new(), |first| first.lines.clone());
                open = Some(Round { number: number.parse()?, lines });
            }
            (["round", number, "end", lines], Some(round)) => {
                let number: u64 = number.parse()?;
                let following = number == round.number && number == rounds.len() as u64 + 1;
                ensure!(following, "round {} ends as {number}, the {}th", round.number, rounds.len() + 1);
                ensure!(lines.parse() == Ok(round.lines.len()), "round {number} has {lines} lines");
                rounds.extend(open.take());
            }
            (["changed", at, ..], Some(round)) if round.number > 1 => {
                let new = line.splitn(3, ' ').nth(2).unwrap_or_default();
                let old =
                    round.lines.get_mut(at.parse::<usize>()?).with_context(|| format!("no line {at}"))?;
                *old = new.to_string();
            }
            (["cell" | "limit" | "cpuid" | "msr" | "level-probe:" | "cpuid-dump:", ..], Some(round))
                if round.number == 1 =>
            {
                round.lines.push(line.to_string());
            }
            _ => bail!("the probe printed {line:?}"),
        }
    }
    Ok(rounds)
}

/// A cell as level-probe prints it: feature, kind, told, finding.
fn cell(line: &str) -> Option<[&str; 4]> {
    match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["cell", feature, kind, told, finding] => Some([feature, kind, told, finding]),
        _ => None,
    }
}

/// Everything in which a round differs from the first, except that instructions which a host cannot hide may work on
/// one and not on the other; and each feature that is announced and does not work.
fn differences(first: &Round, round: &Round, holes: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (was, is) in first.lines.iter().zip(&round.lines) {
        let allowed = match (cell(was), cell(is)) {
            (Some([feature, "insn", "hidden", _]), Some([now, "insn", "hidden", _])) => {
                feature == now && holes.contains(feature)
            }
            _ => false,
        };
        if was != is && !allowed {
            wrong.push(format!("round {}: `{was}` became `{is}`", round.number));
        } else if let Some([feature, kind, "announced", finding]) = cell(is)
            && finding != "works"
        {
            wrong.push(format!("round {}: {feature} {kind} is announced: {finding}", round.number));
        }
    }
    wrong
}

/// What the ledger of a host calls a hole.
fn holes(pair: &mut Pair, host: usize) -> Result<Vec<String>> {
    let json = ask(pair, host, &format!("cpu ledger {VM} --json"))?;
    let rows = json["here"]["rows"].as_array().context("`here.rows` is no array")?;
    let name = |row: &Value| row["name"].as_str().map(str::to_string).context("a row without name");
    rows.iter().filter(|row| row["hole"] == Value::Bool(true)).map(name).collect()
}

fn ask(pair: &mut Pair, host: usize, command: &str) -> Result<Value> {
    let answer = pair.hosts[host].command(command, PATIENCE)?;
    ensure!(answer.error.is_none(), "{command}: {:?}", answer.error);
    let line = answer.lines.iter().find(|line| line.starts_with('{')).context("no JSON")?;
    serde_json::from_str(line).with_context(|| format!("`{command}` answers {line}"))
}

/// Both hosts show one pool of two members with one fingerprint; gives it back.
fn fingerprint(pair: &mut Pair) -> Result<String> {
    let mut seen = BTreeMap::new();
    for host in [SOURCE, TARGET] {
        let json = ask(pair, host, "pool show --json")?;
        let members = json["members"].as_array().context("`members` is no array")?;
        ensure!(members.len() == 2, "{} members", members.len());
        for member in members {
            let own = member["fingerprint"].as_str().context("a member without fingerprint")?;
            *seen.entry(own.to_string()).or_insert(0) += 1;
        }
    }
    ensure!(seen.len() == 1, "the members do not agree: {seen:?}");
    seen.into_keys().next().context("no fingerprint")
}

fn station(pair: &mut Pair, host: usize) -> Result<()> {
    let guest = pair.hosts[host].guest()?;
    guest.take_lines();
    for _ in 0..=ROUNDS {
        guest.expect("round * end *", PATIENCE)?;
    }
    Ok(())
}

/// Plays a pair. One line tells of it.
fn there_and_back(context: &Context, from: &str, to: &str) -> Result<String> {
    let mut plan = Plan::memwriter(from, to, "", 1)?;
    plan.vm.kernel = guest::payload("pair-probe");
    plan.vm.cmdline = format!("gap={}", IPS / 2);
    plan.migrate_after = "round 2 end ".into();
    plan.patience = PATIENCE;
    let mut hosts = plan.hosts();
    for (host, peer) in [(SOURCE, TARGET), (TARGET, SOURCE)] {
        hosts[host].options.push(format!("pool=pairs peers={} pool-wait=600", ADDRESSES[peer]));
    }
    let mut pair = Pair::start(&hosts, &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    let fingerprint = fingerprint(&mut pair)?;
    let mut open = BTreeSet::from_iter(holes(&mut pair, SOURCE)?);
    let there = pair.migrate(SOURCE, &plan, &mut Silent)?;
    station(&mut pair, TARGET)?;
    open.extend(holes(&mut pair, TARGET)?);
    let before = pair.hosts[SOURCE].guest()?.text();
    pair.migrate(TARGET, &plan, &mut Silent)?;
    station(&mut pair, SOURCE)?;
    let text = before.clone()
        + &pair.hosts[TARGET].guest()?.text()
        + &pair.hosts[SOURCE].guest()?.text_from(before.len());
    let rounds = rounds(&text.replace('\r', ""))?;
    let first = rounds.first().context("no round")?;
    ensure!(rounds.len() > 3 * ROUNDS, "{} rounds", rounds.len());
    let cells: Vec<_> = first.lines.iter().filter_map(|line| cell(line)).collect();
    let facts = first.lines.len() - cells.len();
    ensure!(cells.len() > 100 && facts > 40, "{} cells, {facts} other lines", cells.len());
    let wrong: Vec<String> = rounds.iter().flat_map(|round| differences(first, round, &open)).collect();
    ensure!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    let told = cells.iter().filter(|cell| cell[2] == "announced").count();
    Ok(format!(
        "{from} and {to}: pool level {fingerprint}, {} rounds alike, {told} of {} cells announced, {} holes, {} pages moved",
        rounds.len(),
        cells.len(),
        open.len(),
        there.pages
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "round 1 begin\ncell A insn announced works\ncell B insn hidden works\nlevel-probe: done\n\
                         cpuid 0 0: 1 2 3 4\ncpuid-dump: done\nmsr 17 0\nround 1 end 6\n";

    fn second(changes: &str) -> String {
        format!("{FIRST}round 2 begin\n{changes}round 2 end 6\n")
    }

    #[test]
    fn every_change_is_found() {
        let changed = |changes: &str, holes: &[&str]| {
            let rounds = rounds(&second(changes)).unwrap();
            let holes = holes.iter().map(|hole| (*hole).to_string()).collect();
            assert_eq!(differences(&rounds[0], &rounds[0], &holes), Vec::<String>::new());
            differences(&rounds[0], &rounds[1], &holes).len()
        };
        assert_eq!(changed("", &[]), 0);
        assert_eq!(changed("changed 3 cpuid 0 0: 1 2 3 5\n", &["A", "B"]), 1);
        assert_eq!(changed("changed 5 msr 17 #GP\n", &[]), 1);
        assert_eq!(changed("changed 0 cell A insn announced #UD\n", &["A"]), 1);
        assert_eq!(changed("changed 1 cell B insn hidden #UD\n", &[]), 1);
        assert_eq!(changed("changed 1 cell B insn hidden #UD\n", &["B"]), 0);
        assert_eq!(changed("changed 1 cell B insn announced works\n", &["B"]), 1);
        assert_eq!(changed("changed 1 cell B msr hidden works\n", &["B"]), 1);
    }

    #[test]
    fn announced_has_to_work_in_the_first_round_too() {
        let text = FIRST.replace("A insn announced works", "A insn announced #UD");
        let first = rounds(&text).unwrap().remove(0);
        assert_eq!(differences(&first, &first, &BTreeSet::new()).len(), 1);
    }

    #[test]
    fn rounds_are_whole_and_in_order() {
        assert_eq!(rounds(&second("")).unwrap().len(), 2);
        assert_eq!(
            rounds(&format!("{FIRST}round 2 begin\nchang")).unwrap().len(),
            1,
            "a cut one does not count"
        );
        let bad = [
            second("").replace("round 2", "round 3"),
            FIRST.replace("cell B", "celcell B"),
            FIRST.replace("end 6", "end 7"),
            second("changed 6 x\n"),
            second("msr 17 0\n"),
            format!("{FIRST}{FIRST}"),
        ];
        for text in bad {
            assert!(rounds(&text).is_err(), "{text}");
        }
    }
}
