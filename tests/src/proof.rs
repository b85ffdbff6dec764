//! The proofs of a migration, drawn from what the guest printed on the serial ports of both hosts.

use crate::levels;
use std::collections::BTreeMap;
use std::fmt;

/// A counter line of the guest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tick {
    /// The counter.
    pub number: u64,
    /// The guest's uptime in seconds.
    pub uptime: f64,
    /// The guest's wall clock in seconds since 1970.
    pub epoch: f64,
}

/// What a guest that speaks the demo's protocol printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Counter lines.
    pub ticks: Vec<Tick>,
    /// `/proc/cpuinfo` flags, once per dump.
    pub flags: Vec<String>,
    /// Raw CPUID dumps: one string per complete dump.
    pub cpuid: Vec<String>,
    /// Passes of the memory worker and the errors found so far.
    pub passes: Vec<(u64, u64)>,
    /// The same of the worker on each further CPU, by its number.
    pub others: BTreeMap<u64, Vec<(u64, u64)>>,
    /// How many workers there are, one on each CPU.
    pub workers: Option<u64>,
}

impl Record {
    /// Those of the worker on this CPU.
    fn passes_of(&self, cpu: u64) -> &[(u64, u64)] {
        match cpu {
            0 => &self.passes,
            _ => self.others.get(&cpu).map_or(&[], Vec::as_slice),
        }
    }

    /// Reads a guest's output; other lines are passed over.
    pub fn parse(text: &str) -> Self {
        let mut record = Self::default();
        let mut dump: Option<String> = None;
        // Without its end a last line may be cut within a number.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["tick", number, "uptime", uptime, "epoch", epoch] => {
                    if let (Ok(number), Ok(uptime), Ok(epoch)) =
                        (number.parse(), uptime.parse(), epoch.parse())
                    {
                        record.ticks.push(Tick { number, uptime, epoch });
                    }
                }
                ["worker", "pass", pass, "errors", errors, ..] => {
                    if let (Ok(pass), Ok(errors)) = (pass.parse(), errors.parse()) {
                        record.passes.push((pass, errors));
                    }
                }
                ["worker", cpu, "pass", pass, "errors", errors, ..] => {
                    if let (Ok(cpu), Ok(pass), Ok(errors)) = (cpu.parse(), pass.parse(), errors.parse()) {
                        record.others.entry(cpu).or_default().push((pass, errors));
                    }
                }
                ["workers", count] => record.workers = count.parse().ok(),
                ["flags", number, ..] if number.ends_with(':') => {
                    record.flags.push(words[2..].join(" "));
                }
                ["cpuid", "begin", _] => dump = Some(String::new()),
                ["cpuid", "end", _, "lines", count] => {
                    record.cpuid.extend(dump.take().filter(|d| d.lines().count().to_string() == *count));
                }
                ["cpuid", ..] => {
                    if let Some(dump) = &mut dump {
                        dump.push_str(line);
                        dump.push('\n');
                    }
                }
                _ => {}
            }
        }
        record
    }
}

/// Outcome of one proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It held; what was seen.
    Held(String),
    /// It did not; why.
    Failed(String),
    /// The guest offers nothing to judge by.
    NotOffered,
}

/// One proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What it shows.
    pub name: &'static str,
    /// Its outcome.
    pub verdict: Verdict,
}

impl Proof {
    /// A proof with its outcome: `Ok` says what was seen, `Err` why it failed.
    pub fn new(name: &'static str, outcome: Result<String, String>) -> Self {
        let verdict = match outcome {
            Ok(text) => Verdict::Held(text),
            Err(text) => Verdict::Failed(text),
        };
        Self { name, verdict }
    }

    /// It failed.
    pub fn failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed(_))
    }
}

/// Whether none of them failed.
///
/// # Errors
/// Those that did, a line each.
pub fn all_hold(proofs: &[Proof]) -> anyhow::Result<()> {
    let failed: Vec<String> = proofs.iter().filter(|p| p.failed()).map(ToString::to_string).collect();
    anyhow::ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, text) = match &self.verdict {
            Verdict::Held(text) => ("held", text.as_str()),
            Verdict::Failed(text) => ("FAILED", text.as_str()),
            Verdict::NotOffered => ("-", "not offered by this guest"),
        };
        write!(f, "{:<34} {word:<6}  {text}", self.name)
    }
}

/// What the guest printed, before and after the move.
pub struct Evidence<'a> {
    /// On the source's serial port.
    pub source: &'a str,
    /// On the target's.
    pub target: &'a str,
    /// The guest's CPU level.
    pub level: &'a str,
    /// The source's CPU model.
    pub model: &'a str,
    /// Every proof must be offered (the demo's own guest).
    pub strict: bool,
}

/// Wall clock and uptime may drift apart by this much (their lines print hundredths).
const CLOCK_SLACK: f64 = 0.5;

/// At most so many moves are in one record.
const MOVES: usize = 2;

/// Judges all that the guest's output shows.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Proof> {
    // A line may be cut anywhere by the move: the two halves make it whole.
    let whole = Record::parse(&format!("{}{}", evidence.source, evidence.target));
    let source = Record::parse(evidence.source);
    let target = Record::parse(evidence.target);
    let offered = |some: bool, name, outcome: Result<String, String>| {
        if some || evidence.strict {
            Proof::new(name, outcome)
        } else {
            Proof { name, verdict: Verdict::NotOffered }
        }
    };
    vec![
        offered(!source.ticks.is_empty(), "counter without repeat or gap", counter(&whole, &source, &target)),
        offered(!source.ticks.is_empty(), "uptime and wall clock go on", clocks(&whole, &source)),
        offered(!source.cpuid.is_empty(), "CPUID and flags are the same", cpu_view(&source, &target)),
        offered(
            !source.passes.is_empty() || !target.passes.is_empty(),
            "memory worker",
            worker(&whole, &target),
        ),
        offered(!whole.flags.is_empty(), "no feature beyond the level", level(&whole, evidence)),
    ]
}

fn counter(whole: &Record, source: &Record, target: &Record) -> Result<String, String> {
    let (Some(first), Some(last)) = (whole.ticks.first(), whole.ticks.last()) else {
        return Err("no counter line came".to_string());
    };
    for pair in whole.ticks.windows(2) {
        if pair[1].number != pair[0].number + 1 {
            return Err(format!("{} is followed by {}", pair[0].number, pair[1].number));
        }
    }
    if target.ticks.len() < 3 {
        return Err(format!("only {} counter lines on the target", target.ticks.len()));
    }
    Ok(format!(
        "{} to {}, {} lines on the source, {} on the target",
        first.number,
        last.number,
        source.ticks.len(),
        target.ticks.len()
    ))
}

fn clocks(whole: &Record, source: &Record) -> Result<String, String> {
    let mut offsets: Vec<f64> = whole.ticks.iter().map(|tick| tick.epoch - tick.uptime).collect();
    offsets.sort_by(f64::total_cmp);
    let Some(&usual) = offsets.get(offsets.len() / 2) else { return Err("no counter line came".to_string()) };
    let off = |tick: &Tick| (tick.epoch - tick.uptime - usual).abs() > CLOCK_SLACK;
    // The guest reads its two clocks one after the other: a stop just between shows in that line, and in no other.
    for (index, tick) in whole.ticks.iter().enumerate().filter(|(_, tick)| off(tick)) {
        let neighbours = [index.checked_sub(1), Some(index + 1)].into_iter().flatten();
        let alone = neighbours.filter_map(|at| whole.ticks.get(at)).all(|tick| !off(tick));
        if !alone || whole.ticks.iter().filter(|tick| off(tick)).count() > MOVES {
            let by = tick.epoch - tick.uptime - usual;
            return Err(format!(
                "at tick {} wall clock and uptime are {by:+.2} s apart from before",
                tick.number
            ));
        }
    }
    for pair in whole.ticks.windows(2) {
        if pair[1].uptime <= pair[0].uptime || pair[1].epoch <= pair[0].epoch {
            return Err(format!("tick {} is not later than tick {}", pair[1].number, pair[0].number));
        }
    }
    let at = source.ticks.len();
    let (Some(before), Some(after)) =
        (at.checked_sub(1).and_then(|at| whole.ticks.get(at)), whole.ticks.get(at))
    else {
        return Err("no counter line on each side".to_string());
    };
    Ok(format!(
        "{:.2} s of guest time from the last line there to the first here",
        after.uptime - before.uptime
    ))
}

fn cpu_view(source: &Record, target: &Record) -> Result<String, String> {
    let (Some(before), Some(after)) = (source.cpuid.first(), target.cpuid.last()) else {
        return Err("no complete CPUID dump on each side".to_string());
    };
    if let Some((b, a)) = before.lines().zip(after.lines()).find(|(b, a)| b != a) {
        return Err(format!("before: {b}; after: {a}"));
    }
    let (rows, after_rows) = (before.lines().count(), after.lines().count());
    if rows != after_rows {
        return Err(format!("{rows} rows before, {after_rows} after"));
    }
    let (Some(before), Some(after)) = (source.flags.first(), target.flags.last()) else {
        return Err("no flags of /proc/cpuinfo on each side".to_string());
    };
    if before != after {
        return Err(format!("flags before: {before}; after: {after}"));
    }
    Ok(format!("{rows} CPUID rows, {} flags", before.split_whitespace().count()))
}

fn worker(whole: &Record, target: &Record) -> Result<String, String> {
    let workers = whole.workers.unwrap_or(1);
    for cpu in 0..workers {
        if let Some((pass, errors)) = whole.passes_of(cpu).iter().find(|(_, errors)| *errors != 0) {
            return Err(format!("{errors} errors by pass {pass} on CPU {cpu}"));
        }
        // The first pass reported after the move may have begun before it: two make one whole pass over the memory.
        let there = target.passes_of(cpu).len();
        if there < 2 {
            return Err(format!("only {there} passes of CPU {cpu} reported on the target"));
        }
    }
    let last = whole.passes.last().map_or(0, |(pass, _)| *pass);
    let there = target.passes.len();
    let text = format!("{last} passes over 16 MiB, {there} of them reported on the target, no error");
    Ok(if workers > 1 { format!("{text} on any of {workers} CPUs") } else { text })
}

fn level(whole: &Record, evidence: &Evidence<'_>) -> Result<String, String> {
    let Some(beyond) = levels::beyond(evidence.level) else {
        return Err(format!("the bench does not know level {}", evidence.level));
    };
    if whole.flags.is_empty() {
        return Err("no flags of /proc/cpuinfo came".to_string());
    }
    for flags in &whole.flags {
        let seen: Vec<&str> = flags.split_whitespace().filter(|flag| beyond.contains(flag)).collect();
        if !seen.is_empty() {
            return Err(format!("the guest saw {}", seen.join(" ")));
        }
    }
    let hidden = levels::hidden(evidence.model, evidence.level).unwrap_or_default();
    Ok(if hidden.is_empty() {
        format!("level {}, {} features looked for", evidence.level, beyond.len())
    } else {
        format!("level {} hides {}", evidence.level, hidden.join(" "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(from: u64, to: u64, flags: &str) -> String {
        let mut text = format!("flags 1: {flags}\ncpuid begin 1\ncpuid 0 0 d 1 2 3\ncpuid end 1 lines 1\n");
        for n in from..=to {
            let uptime = n as f64 / 4.0;
            text += &format!("tick {n} uptime {uptime:.2} epoch {:.2}\n", uptime + 1.7e9);
            if n % 4 == 0 {
                text += &format!("worker pass {} errors 0 rewrites 3\n", n / 4);
            }
        }
        text
    }

    fn judged(source: &str, target: &str) -> Vec<Proof> {
        judge(&Evidence { source, target, level: "haswell", model: "corei7_skylake_x", strict: true })
    }

    fn failed(source: &str, target: &str) -> Vec<&'static str> {
        judged(source, target).iter().filter(|proof| proof.failed()).map(|proof| proof.name).collect()
    }

    #[test]
    fn a_clean_move_holds_wherever_the_cut_is() {
        let source = output(1, 8, "fpu avx2");
        let target = output(9, 20, "fpu avx2");
        let proofs = judged(&source, &target);
        assert!(proofs.iter().all(|proof| !proof.failed()), "{proofs:?}");
        let (cut, rest) = source.split_at(source.len() - 9);
        assert!(failed(cut, &format!("{rest}{target}")).is_empty());
    }

    #[test]
    fn each_fault_is_seen() {
        let source = output(1, 8, "fpu avx2");
        assert_eq!(failed(&source, &output(10, 20, "fpu avx2")), ["counter without repeat or gap"]);
        assert_eq!(
            failed(&source, &output(8, 20, "fpu avx2")),
            ["counter without repeat or gap", "uptime and wall clock go on"]
        );
        assert_eq!(
            failed(&source, &output(9, 20, "fpu avx2 avx512f")),
            ["CPUID and flags are the same", "no feature beyond the level"]
        );
        let wrong = output(9, 20, "fpu avx2").replace("pass 4 errors 0", "pass 4 errors 1");
        assert_eq!(failed(&source, &wrong), ["memory worker"]);
        let of_both = |text: &str| {
            text.lines().fold(String::new(), |all, line| {
                let second = line.strip_prefix("worker pass").map(|rest| format!("worker 1 pass{rest}\n"));
                all + line + "\n" + &second.unwrap_or_default()
            })
        };
        let two = |target: &str| failed(&format!("workers 2\n{}", of_both(&source)), target);
        let target = of_both(&output(9, 20, "fpu avx2"));
        assert_eq!(two(&target), [""; 0]);
        assert_eq!(
            two(&target.replace("worker 1 pass 4 errors 0", "worker 1 pass 4 errors 1")),
            ["memory worker"]
        );
        assert_eq!(two(&output(9, 20, "fpu avx2")), ["memory worker"], "the second says nothing any more");
        let jump = output(9, 20, "fpu avx2").replace("epoch 17", "epoch 18");
        assert_eq!(failed(&source, &jump), ["uptime and wall clock go on"]);
        let other = output(9, 20, "fpu avx2").replace("cpuid 0 0 d", "cpuid 0 0 e");
        assert_eq!(failed(&source, &other), ["CPUID and flags are the same"]);
    }

    #[test]
    fn a_stop_between_two_clocks_is_no_drift() {
        let source = output(1, 8, "fpu avx2");
        let target = output(9, 20, "fpu avx2");
        let mut late = String::from("tick 9 uptime 2.25 epoch 1700000003.25\n");
        for line in target.lines().filter(|line| !line.starts_with("tick 9 ")) {
            match line.strip_prefix("tick ").and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok()) {
                Some(n) => {
                    late +=
                        &format!("tick {n} uptime {:.2} epoch {:.2}\n", n / 4.0 + 1.0, n / 4.0 + 1.7e9 + 1.0);
                }
                None => late += &format!("{line}\n"),
            }
        }
        assert_eq!(failed(&source, &late), [""; 0]);
        let jump = target.replace("epoch 17000000", "epoch 17000001");
        assert_eq!(failed(&source, &jump), ["uptime and wall clock go on"]);
    }

    #[test]
    fn another_guest_is_judged_by_what_it_offers() {
        let evidence = Evidence {
            source: "hello\n",
            target: "world\n",
            level: "haswell",
            model: "corei7_skylake_x",
            strict: false,
        };
        assert!(judge(&evidence).iter().all(|proof| proof.verdict == Verdict::NotOffered));
    }
}
