//! Something goes wrong in each phase of a migration: frames lost, late, doubled or out of order, the cable cut, either
//! host killed, the operator's change of mind. The guest runs in one place and finds all of its memory as it left it,
//! and the next move goes through. With `--faults` only.

use super::memory::{free_memory, memory_is_free_again};
use super::migrate::{insecure, towards_target};
use super::{Case, Context, Run};
use crate::hub::stream::{PORT, Records, record};
use crate::hub::{Frame, Verdict};
use crate::scenario::{Outcome, Pair, Plan, SOURCE, Silent, TARGET, VM};
use anyhow::{Context as _, Result, bail, ensure};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

const SKYLAKE: &str = "corei7_skylake_x";
const HASWELL: &str = "corei7_haswell_4770";
const PATIENCE: Duration = Duration::from_secs(180);

/// When a phase begins: at a record of the source, or of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Source(u16),
    Target(u16),
    /// The first pages of round 2.
    LaterRound,
    /// The guest is stopped: so few pages are left.
    LastPages,
}

const PHASES: [(&str, When); 8] = [
    ("checking", When::Source(record::POLICY)),
    ("first_round", When::Source(record::MEMORY)),
    ("later_round", When::LaterRound),
    ("last_pages", When::LastPages),
    ("state", When::Source(record::STATE)),
    ("ready", When::Target(record::READY)),
    ("commit", When::Source(record::COMMIT)),
    ("running", When::Target(record::RUNNING)),
];

/// What the cable does from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    /// The frames of a short time are lost.
    Interrupted,
    Late,
    Shuffled,
    Doubled,
    /// One frame in fifty is lost.
    Lossy,
    Cut,
}

const MENDED_BY_TCP: [Weather; 5] =
    [Weather::Interrupted, Weather::Late, Weather::Shuffled, Weather::Doubled, Weather::Lossy];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, limit: u64, apart: bool, run: Run| {
        let mut case = Case::new(&format!("faults/{name}"), limit, run);
        case.weight = 2;
        case.apart = apart;
        cases.push(case);
    };
    add("bad_weather", 300, false, Box::new(bad_weather));
    for (name, when) in PHASES {
        add(&format!("weather_{name}"), 900, true, Box::new(move |context| weather(context, when)));
        add(&format!("ends_{name}"), 1200, true, Box::new(move |context| ends(context, when)));
    }
    cases
}

/// The filter that waits for a phase and then lets the weather begin.
struct Watch {
    when: When,
    weather: Weather,
    streams: [Records; 2],
    frames: u64,
    begun: Option<Instant>,
    tell: SyncSender<()>,
}

impl Watch {
    /// Puts it into the hub. What is given back says when the phase has come.
    fn install(pair: &Pair, when: When, weather: Weather) -> Receiver<()> {
        let (tell, told) = sync_channel(1);
        let streams = [Records::default(), Records::default()];
        let mut watch = Self { when, weather, streams, frames: 0, begun: None, tell };
        pair.hub.set_filter(move |_, frame| watch.take(frame));
        told
    }

    fn take(&mut self, frame: Frame<'_>) -> Verdict {
        if self.begun.is_none() && self.comes(frame) {
            self.begun = Some(Instant::now());
            let _ = self.tell.try_send(());
        }
        let Some(begun) = self.begun else { return Verdict::Pass };
        self.frames += 1;
        match self.weather {
            Weather::Interrupted if begun.elapsed() < Duration::from_millis(700) => Verdict::Drop,
            Weather::Interrupted => Verdict::Pass,
            Weather::Late => Verdict::Delay(Duration::from_millis(25)),
            Weather::Shuffled if self.frames.is_multiple_of(16) => Verdict::Delay(Duration::from_millis(3)),
            Weather::Shuffled => Verdict::Pass,
            Weather::Doubled => Verdict::Double,
            Weather::Lossy if self.frames % 50 == 5 => Verdict::Drop,
            Weather::Lossy => Verdict::Pass,
            Weather::Cut => Verdict::Drop,
        }
    }

    fn comes(&mut self, frame: Frame<'_>) -> bool {
        let Some(segment) = frame.tcp() else { return false };
        let side = if towards_target(frame) {
            0
        } else if segment.from == PORT {
            1
        } else {
            return false;
        };
        let before = self.streams[0].dirty();
        let kinds = self.streams[side].take(frame);
        match self.when {
            When::Source(kind) => side == 0 && kinds.contains(&kind),
            When::Target(kind) => side == 1 && kinds.contains(&kind),
            When::LaterRound => side == 0 && before.is_some() && kinds.contains(&record::MEMORY),
            When::LastPages => self.streams[0].dirty().is_some_and(|pages| pages <= 32),
        }
    }
}

/// A guest whose first round leaves some hundred pages, and whose second leaves few.
pub(super) fn plan() -> Result<Plan> {
    let mut plan = Plan::memwriter(SKYLAKE, HASWELL, "haswell", 1)?;
    plan.vm.cmdline = "mib=1 pages=8 gap=5000000".into();
    plan.migrate_after = "tick 2 ".into();
    plan.patience = PATIENCE;
    Ok(plan)
}

struct Bench {
    pair: Pair,
    plan: Plan,
    /// Where the guest is.
    at: usize,
    /// Starts of hosts so far.
    starts: u32,
    /// Memory that a host has free while the guest is not there.
    free: [Option<u64>; 2],
}

impl Bench {
    fn start(context: &Context, plan: Plan) -> Result<Self> {
        let mut pair = Pair::start(&insecure(&plan), &context.dir, context.deadline, &mut Silent)?;
        pair.wait_guest(&plan, &mut Silent)?;
        let free = [None, Some(free_memory(&mut pair, TARGET)?)];
        Ok(Self { pair, plan, at: SOURCE, starts: 0, free })
    }

    /// The guest looks at all its memory.
    fn check(&mut self) -> Result<()> {
        check(&mut self.pair, self.at)
    }

    /// A move on a good cable, and what both hosts look like after it.
    fn moves(&mut self) -> Result<()> {
        self.pair.hub.clear_filter();
        self.pair.migrate(self.at, &self.plan, &mut Silent)?;
        self.arrived()
    }

    fn arrived(&mut self) -> Result<()> {
        let left = self.at;
        self.at = 1 - left;
        self.check()?;
        self.only_here()?;
        let free = match self.free[left] {
            Some(free) => free,
            None => *self.free[left].insert(free_memory(&mut self.pair, left)?),
        };
        memory_is_free_again(&mut self.pair, left, free)
    }

    /// Both consoles answer, and one host has the guest.
    fn only_here(&mut self) -> Result<()> {
        let rows = [row(&mut self.pair, SOURCE)?, row(&mut self.pair, TARGET)?];
        let here = rows[self.at].as_deref().unwrap_or_default();
        ensure!(here.contains("running"), "the host that should run it says {here:?}");
        ensure!(rows[1 - self.at].is_none(), "the other host has it too: {rows:?}");
        Ok(())
    }

    /// The cable is mended. The hosts ask each other; where one of them has started anew, the operator decides.
    fn resolve(&mut self) -> Result<()> {
        self.pair.hub.clear_filter();
        let started = Instant::now();
        let mut rows = [None, None];
        let mut decided = false;
        while started.elapsed() < PATIENCE {
            rows = [row(&mut self.pair, SOURCE)?, row(&mut self.pair, TARGET)?];
            let is = |host: usize, state: &str| {
                rows[host].as_ref().is_some_and(|row: &String| row.contains(state))
            };
            if let Some(at) =
                [SOURCE, TARGET].into_iter().find(|&at| is(at, "running") && rows[1 - at].is_none())
            {
                self.at = at;
                return self.check();
            }
            for host in [SOURCE, TARGET] {
                let log = self.pair.hosts[host].console()?.text();
                if !decided && is(host, "unknown") && log.contains("has started again") {
                    decided = true;
                    let refused =
                        self.pair.hosts[host].command(&format!("migrate resolve {VM} run-here"), PATIENCE)?;
                    ensure!(refused.error.is_some(), "without receipt and without force: {refused:?}");
                    command(&mut self.pair, host, &format!("migrate resolve {VM} run-here --force"))?;
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        bail!("it is not known where the guest runs: {rows:?}")
    }

    /// The host loses its power. Nothing of it is heard any more.
    fn kill(&mut self, host: usize) {
        self.pair.hosts[host].machine.process.kill();
    }

    /// And has it again: it starts without VMs.
    fn restart(&mut self, context: &Context, host: usize) -> Result<()> {
        self.starts += 1;
        let mut spec = insecure(&self.plan)[host].clone();
        spec.vms.clear();
        spec.guest_console = Some(VM.to_string());
        spec.name = format!("{}-start-{}", spec.name, self.starts + 1);
        let mut up = spec.start(&context.dir, Some((&self.pair.hub, host as u8 + 1)))?;
        up.set_deadline(context.deadline);
        up.wait_ready(PATIENCE)?;
        self.pair.hosts[host] = up;
        self.free[host] = Some(free_memory(&mut self.pair, host)?);
        Ok(())
    }
}

pub(super) fn check(pair: &mut Pair, at: usize) -> Result<()> {
    let guest = pair.hosts[at].guest()?;
    guest.take_lines();
    guest.send(b"c")?;
    let wrong = guest.expect_line("the guest's look at its memory", PATIENCE, |line| {
        line.contains("checked ").then(|| line.to_string())
    })?;
    ensure!(wrong.ends_with(" 0 wrong"), "the guest says: {wrong}");
    for host in [SOURCE, TARGET] {
        let text = pair.hosts[host].guest()?.text();
        ensure!(!text.contains("words wrong"), "the guest has found harm: see the console of host {host}");
    }
    Ok(())
}

fn command(pair: &mut Pair, host: usize, text: &str) -> Result<Vec<String>> {
    let answer = pair.hosts[host].command(text, PATIENCE)?;
    ensure!(answer.error.is_none(), "`{text}`: {:?}", answer.error);
    Ok(answer.lines)
}

/// The guest's row in a host's `vm list`.
fn row(pair: &mut Pair, host: usize) -> Result<Option<String>> {
    let lines = command(pair, host, "vm list")?;
    Ok(lines.into_iter().find(|line| line.split_whitespace().any(|word| word == VM)))
}

/// All that TCP makes up for: the move goes through, there and back, over the keyed link.
fn bad_weather(context: &Context) -> Result<()> {
    let plan = plan()?;
    let mut pair = Pair::start(&plan.hosts(), &context.dir, context.deadline, &mut Silent)?;
    pair.wait_guest(&plan, &mut Silent)?;
    let mut frames = 0_u64;
    pair.hub.set_filter(move |_, _| {
        frames += 1;
        match frames % 300 {
            150 => Verdict::Drop,
            n if n % 50 == 3 => Verdict::Delay(Duration::from_millis(4)),
            n if n % 20 == 11 => Verdict::Double,
            _ => Verdict::Pass,
        }
    });
    for from in [SOURCE, TARGET] {
        pair.migrate(from, &plan, &mut Silent)?;
        check(&mut pair, 1 - from)?;
    }
    Ok(())
}

/// One move for each weather, back and forth.
fn weather(context: &Context, when: When) -> Result<()> {
    let mut bench = Bench::start(context, plan()?)?;
    for weather in MENDED_BY_TCP {
        let told = Watch::install(&bench.pair, when, weather);
        bench.pair.migrate(bench.at, &bench.plan, &mut Silent).with_context(|| format!("{weather:?}"))?;
        ensure!(told.try_recv().is_ok(), "{when:?} never came");
        bench.pair.hub.clear_filter();
        bench.arrived().with_context(|| format!("after {weather:?}"))?;
    }
    Ok(())
}

/// Cancelled, cut, and either host killed; each followed by the same move once more.
fn ends(context: &Context, when: When) -> Result<()> {
    let mut bench = Bench::start(context, plan()?)?;
    bench.moves()?;
    cancelled(&mut bench, when).context("cancelled")?;
    cut(&mut bench, when).context("cut")?;
    target_killed(context, &mut bench, when).context("target killed")?;
    source_killed(context, &mut bench, when).context("source killed")
}

/// The source has queued COMMIT by then.
fn given(when: When) -> bool {
    matches!(when, When::Source(record::COMMIT) | When::Target(record::RUNNING))
}

/// The target has all of it by then, and does not run it.
fn holds(when: When) -> bool {
    matches!(when, When::Target(record::READY) | When::Source(record::COMMIT))
}

fn cancelled(bench: &mut Bench, when: When) -> Result<()> {
    let told = Watch::install(&bench.pair, when, Weather::Late);
    bench.pair.order(bench.at, "", &mut Silent)?;
    told.recv_timeout(PATIENCE).with_context(|| format!("{when:?} never came"))?;
    bench.pair.hosts[bench.at].console()?.send(b"\x03")?;
    let outcome = bench.pair.follow(bench.at, &bench.plan, &mut Silent)?;
    match outcome {
        Outcome::Failed(why) => {
            ensure!(!given(when) && why.contains("cancelled"), "{why}");
            // At once, before anything has settled.
            bench.pair.migrate(bench.at, &bench.plan, &mut Silent).context("again, at once")?;
            bench.arrived()
        }
        // Ctrl-C came when it was given away already.
        Outcome::Done(_) => bench.arrived(),
        Outcome::Unknown(text) => bail!("unknown: {text}"),
    }
}

fn cut(bench: &mut Bench, when: When) -> Result<()> {
    let told = Watch::install(&bench.pair, when, Weather::Cut);
    bench.pair.order(bench.at, "", &mut Silent)?;
    told.recv_timeout(PATIENCE).with_context(|| format!("{when:?} never came"))?;
    let outcome = bench.pair.follow(bench.at, &bench.plan, &mut Silent)?;
    ensure!(matches!(outcome, Outcome::Unknown(_)) == given(when), "the source says {outcome:?}");
    if !given(when) {
        let ends = [": failed: ", "unknown: paused here"];
        let (which, line) = bench.pair.hosts[1 - bench.at].console()?.expect_any(&ends, PATIENCE)?;
        ensure!((which == 1) == holds(when), "the target says {line}");
    }
    bench.resolve()?;
    bench.moves()
}

fn target_killed(context: &Context, bench: &mut Bench, when: When) -> Result<()> {
    let told = Watch::install(&bench.pair, when, Weather::Cut);
    bench.pair.order(bench.at, "", &mut Silent)?;
    told.recv_timeout(PATIENCE).with_context(|| format!("{when:?} never came"))?;
    let target = 1 - bench.at;
    bench.kill(target);
    let outcome = bench.pair.follow(bench.at, &bench.plan, &mut Silent)?;
    ensure!(matches!(outcome, Outcome::Unknown(_)) == given(when), "the source says {outcome:?}");
    bench.pair.hub.clear_filter();
    bench.restart(context, target)?;
    bench.resolve()?;
    bench.moves()
}

fn source_killed(context: &Context, bench: &mut Bench, when: When) -> Result<()> {
    let told = Watch::install(&bench.pair, when, Weather::Cut);
    bench.pair.order(bench.at, "", &mut Silent)?;
    told.recv_timeout(PATIENCE).with_context(|| format!("{when:?} never came"))?;
    let (source, target) = (bench.at, 1 - bench.at);
    bench.kill(source);
    let runs = matches!(when, When::Target(record::RUNNING));
    if !runs {
        let ends = [": failed: ", "unknown: paused here"];
        let (which, line) = bench.pair.hosts[target].console()?.expect_any(&ends, PATIENCE)?;
        ensure!((which == 1) == holds(when), "the target says {line}");
    }
    bench.pair.hub.clear_filter();
    bench.restart(context, source)?;
    if runs || holds(when) {
        bench.resolve()?;
        ensure!(bench.at == target, "it cannot be on the host that has started anew");
        return bench.moves();
    }
    // The guest has died with its host, and has left nothing on the other.
    ensure!(row(&mut bench.pair, target)?.is_none(), "the target keeps a part of it");
    let free = bench.free[target].context("the target has never been without the guest")?;
    memory_is_free_again(&mut bench.pair, target, free)
}
