//! Which way of making pages smaller is worth its time: all are tried, each for a while, and the fastest is taken.
//!
//! What counts is the time in which pages of data leave, whatever takes it: looking for matches, the seal, TCP/IP, the
//! wire, a target that is slow. So pages are sent by one way for a *window*, then by another, and the ticks of the
//! windows are compared. A window's first pages are not counted: what the way before it has queued leaves meanwhile.

use core::fmt;

use vm_types::Compression;

use crate::goal::Rate;
use crate::page::PAGE_BYTES;
use crate::tuning::Clock;

/// Pages of data in a window, those that are not counted apart.
const WINDOW: u64 = 192;
/// Pages of data in front of a window that are not counted.
const LEAD: u64 = 64;
/// Windows of each way before it is compared.
const ENOUGH: u32 = 2;
/// Windows of the way in use before another one is tried again; doubled each time that it is no better.
const PATIENCE: u64 = 32;
const MAX_PATIENCE: u64 = 32 * PATIENCE;
/// The first round with deltas: the second one keeps the copies for them.
const DELTA_ROUND: u32 = 3;

const WAYS: usize = Compression::ALL.len();

/// Pages of data, and what they became.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Data {
    /// Pages.
    pub(crate) pages: u64,
    /// Bytes of them in records.
    pub(crate) bytes: u64,
}

/// What a way of making pages smaller was measured to take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Measured {
    /// Pages of data measured; 0: none.
    pub pages: u64,
    /// Bytes that they became.
    pub bytes: u64,
    /// Ticks of the source's clock until they had left.
    pub ticks: u64,
}

impl Measured {
    /// Whether a page takes less than `num / den` of what it takes by `other`.
    fn beats(&self, other: &Self, num: u128, den: u128) -> bool {
        let (ours, theirs) = (u128::from(self.ticks), u128::from(other.ticks));
        ours * u128::from(other.pages) * den < theirs * u128::from(self.pages) * num
    }

    /// The mean of this and a later one.
    fn blend(&self, later: &Self) -> Self {
        let mean = |a: u64, b: u64| if self.pages == 0 { b } else { a.midpoint(b) };
        Self {
            pages: mean(self.pages, later.pages),
            bytes: mean(self.bytes, later.bytes),
            ticks: mean(self.ticks, later.ticks),
        }
    }
}

/// What `compress=auto` chose, and the figures it was chosen by. Its `Display` is the explanation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// The way in use.
    pub way: Compression,
    /// What each way was measured to take, in the order of [`Compression::ALL`]; where there are no pages, it was not.
    pub costs: [Measured; WAYS],
    /// Ticks a second.
    pub hz: u64,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Method(self.way))?;
        let mut before = " (";
        for (method, rate, share) in self.figures() {
            write!(f, "{before}{method}: {} of RAM, {share} % of its size", Rate(rate))?;
            before = "; ";
        }
        if before == "; " { f.write_str(")") } else { Ok(()) }
    }
}

impl Chosen {
    /// Of each way that was measured: bytes of RAM a second, and percent of it sent.
    fn figures(&self) -> impl Iterator<Item = (Method, u64, u64)> {
        let clock = Clock::new(self.hz);
        let ways = Compression::ALL.into_iter().zip(self.costs).filter(|(_, cost)| cost.pages != 0);
        ways.map(move |(way, cost)| {
            let raw = cost.pages.saturating_mul(PAGE_BYTES as u64);
            let share = u128::from(cost.bytes) * 100 / u128::from(raw.max(1));
            (Method(way), clock.per_second(raw, cost.ticks), u64::try_from(share).unwrap_or(u64::MAX))
        })
    }

    /// The members of a JSON object: the method in use, and of each measured one bytes of RAM a second and percent sent.
    ///
    /// # Errors
    /// Only those of the writer.
    pub fn json(&self, o: &mut json::Object<'_>) -> fmt::Result {
        o.field("method", Method(self.way).name())?;
        for (method, rate, share) in self.figures() {
            o.object(method.name(), |o| {
                o.field("ram-bytes-per-second", rate)?;
                o.field("percent-sent", share)
            })?;
        }
        Ok(())
    }
}

/// A way as it does it: what an operator calls `auto` is both.
pub(crate) struct Method(pub(crate) Compression);

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Method {
    const fn name(&self) -> &'static str {
        match self.0 {
            Compression::Auto => "delta and lz4",
            one => one.name(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Way {
    cost: Measured,
    windows: u32,
    /// Windows of all ways after which it is tried again.
    due: u64,
    patience: u64,
}

/// Decides for one migration. It is told of every turn that copies pages.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    ways: [Way; WAYS],
    /// Those that are possible in this round.
    open: &'static [usize],
    /// Whose window it is.
    using: usize,
    /// The fastest so far; a guess where ways have opened that are not measured yet.
    best: usize,
    /// The one decided on last: measured.
    told: usize,
    /// It is the fastest of all that are possible.
    decided: bool,
    /// What it took when it was chosen.
    chosen_at: Measured,
    /// Windows finished.
    windows: u64,
    /// No way is tried out of its turn before so many windows: a link that wavers would have it so at all times.
    calm: u64,
    window: Measured,
    lead: u64,
    /// The turn before: its tick, the counts then, and whether bytes waited for the link.
    last: Option<(u64, Data, bool)>,
    /// The guest stands still: nothing is tried.
    settled: bool,
    news: bool,
}

const NONE: usize = Compression::None as usize;
const LZ4: usize = Compression::Lz4 as usize;
const DELTA: usize = Compression::Delta as usize;
const BOTH: usize = Compression::Auto as usize;

impl Choice {
    pub(crate) fn new() -> Self {
        Self {
            ways: [Way { patience: PATIENCE, ..Way::default() }; WAYS],
            open: &[LZ4, NONE],
            using: LZ4,
            best: LZ4,
            told: LZ4,
            decided: false,
            chosen_at: Measured::default(),
            windows: 0,
            calm: 0,
            window: Measured::default(),
            lead: 0,
            last: None,
            settled: false,
            news: false,
        }
    }

    /// The way that pages are to be packed by.
    pub(crate) fn way(&self) -> Compression {
        Compression::ALL.get(self.using).copied().unwrap_or_default()
    }

    /// A round begins, from 1; `stands`: the guest is stopped.
    pub(crate) fn begin_round(&mut self, round: u32, stands: bool) {
        self.pause();
        if round == DELTA_ROUND {
            // What is sent again and again is other data than the rest: measured anew.
            self.open = &[BOTH, DELTA, LZ4, NONE];
            self.ways.iter_mut().for_each(|way| *way = Way { patience: PATIENCE, ..Way::default() });
            self.best = if self.best == NONE { DELTA } else { BOTH };
            self.decided = false;
            self.use_next();
        }
        if stands {
            self.settled = true;
            self.switch(self.best);
        }
    }

    /// Nothing is copied for a while.
    pub(crate) fn pause(&mut self) {
        self.last = None;
    }

    /// A turn begins. `data` counts from the migration's start; `waits`: bytes wait for the link.
    pub(crate) fn turn(&mut self, now: u64, data: Data, waits: bool) {
        let Some((then, before, waited)) = self.last.replace((now, data, waits)) else { return };
        let pages = data.pages.saturating_sub(before.pages);
        // The time that pages of one word take is nobody's.
        if pages == 0 && !waited && !waits {
            return;
        }
        if self.lead < LEAD {
            self.lead += pages;
            return;
        }
        self.window.pages += pages;
        self.window.bytes += data.bytes.saturating_sub(before.bytes);
        self.window.ticks = self.window.ticks.saturating_add(now.saturating_sub(then));
        if self.window.pages >= WINDOW || self.is_hopeless() {
            self.finish();
        }
    }

    /// Twice a window's time is over, and the best has that behind it.
    fn is_hopeless(&self) -> bool {
        let Some(best) = self.ways.get(self.best).filter(|_| self.decided && self.using != self.best) else {
            return false;
        };
        let spent = u128::from(self.window.ticks) * u128::from(best.cost.pages);
        self.window.pages > 0 && spent > u128::from(best.cost.ticks) * u128::from(WINDOW) * 2
    }

    fn finish(&mut self) {
        self.windows += 1;
        if let Some(way) = self.ways.get_mut(self.using) {
            way.cost = way.cost.blend(&self.window);
            way.windows = way.windows.saturating_add(1);
        }
        if self.open.iter().all(|&way| self.windows_of(way) >= ENOUGH) {
            self.decide();
        }
        if !self.settled {
            self.use_next();
        } else {
            self.switch(self.using);
        }
    }

    fn cost(&self, way: usize) -> Measured {
        self.ways.get(way).map_or_else(Measured::default, |way| way.cost)
    }

    fn windows_of(&self, way: usize) -> u32 {
        self.ways.get(way).map_or(0, |way| way.windows)
    }

    /// Takes the fastest: at first by any margin, later only if it saves an eighth.
    fn decide(&mut self) {
        let mut found = self.best;
        for &way in self.open {
            let eighths = if self.decided && found == self.best { 7 } else { 8 };
            if self.cost(way).beats(&self.cost(found), eighths, 8) {
                found = way;
            }
        }
        let tried = self.using;
        if let Some(way) = self.ways.get_mut(tried).filter(|_| tried != found && self.decided) {
            way.patience = (way.patience * 2).min(MAX_PATIENCE);
            way.due = self.windows + way.patience;
        }
        if !self.decided || found != self.best {
            self.news = true;
            self.chosen_at = self.cost(found);
            self.put_off(PATIENCE);
        } else if self.windows >= self.calm && self.has_changed() {
            // Another link, or other data: the others' figures are of old times.
            self.chosen_at = self.cost(found);
            self.put_off(0);
        }
        self.best = found;
        self.told = found;
        self.decided = true;
    }

    /// Whether the best takes a quarter more or less than when it was chosen.
    fn has_changed(&self) -> bool {
        let now = self.cost(self.best);
        self.chosen_at.beats(&now, 4, 5) || now.beats(&self.chosen_at, 4, 5)
    }

    fn put_off(&mut self, patience: u64) {
        self.calm = self.windows + PATIENCE;
        for way in &mut self.ways {
            way.due = self.windows + patience;
            way.patience = PATIENCE;
        }
    }

    /// A way that is still to be measured, or due again; the best otherwise.
    fn use_next(&mut self) {
        let unknown = self.open.iter().copied().filter(|&way| self.windows_of(way) < ENOUGH);
        let unknown = unknown.min_by_key(|&way| self.windows_of(way));
        let due =
            |way: &usize| *way != self.best && self.ways.get(*way).is_some_and(|w| w.due <= self.windows);
        let due = self.open.iter().copied().find(|way| self.decided && due(way));
        self.switch(unknown.or(due).unwrap_or(self.best));
    }

    fn switch(&mut self, way: usize) {
        self.window = Measured::default();
        if way != self.using {
            self.lead = 0;
        }
        self.using = way;
    }

    /// The decision and its figures, once there is one.
    pub(crate) fn chosen(&self, hz: u64) -> Option<Chosen> {
        let way = Compression::ALL.get(self.told).copied()?;
        (self.chosen_at.pages != 0).then(|| Chosen { way, costs: self.ways.map(|way| way.cost), hz })
    }

    /// Whether there is another decision; answered once.
    pub(crate) fn take_news(&mut self) -> bool {
        core::mem::take(&mut self.news)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;

    /// Ticks and bytes of a page by each way, in the order of [`Compression::ALL`].
    type World = [(u64, u64); WAYS];

    struct Run {
        choice: Choice,
        now: u64,
        data: Data,
        pages_by: [u64; WAYS],
    }

    impl Run {
        fn new() -> Self {
            let mut choice = Choice::new();
            choice.begin_round(1, false);
            Self { choice, now: 0, data: Data::default(), pages_by: [0; WAYS] }
        }

        /// Turns of 8 pages; the ways that were decided on.
        fn pages(&mut self, pages: u64, world: &World) -> Vec<Compression> {
            let mut found = Vec::new();
            for _ in 0..pages / 8 {
                self.choice.turn(self.now, self.data, false);
                if self.choice.take_news() {
                    found.push(self.choice.chosen(1_000_000).unwrap().way);
                }
                let way = self.choice.way() as usize;
                let (ticks, bytes) = world[way];
                self.pages_by[way] += 8;
                self.data.pages += 8;
                self.data.bytes += 8 * bytes;
                self.now += 8 * ticks;
            }
            found
        }
    }

    /// A slow wire: a page as it is takes 4096 ticks.
    const SLOW: World = [(4096, 4098), (2000, 1900), (4096, 4098), (2000, 1900)];
    /// A fast one: what costs is looking for matches.
    const FAST: World = [(400, 4098), (2000, 1900), (450, 4098), (2050, 1900)];

    #[test]
    fn the_faster_way_is_taken() {
        assert_eq!(Run::new().pages(20_000, &SLOW), [Compression::Lz4]);
        let mut run = Run::new();
        assert_eq!(run.pages(20_000, &FAST), [Compression::None]);
        // Two windows, their lead, a later trial that was given up early.
        let tried = run.pages_by[LZ4];
        assert!((2 * WINDOW..1000).contains(&tried), "{tried}");
    }

    #[test]
    fn nothing_is_said_before_each_way_was_measured() {
        let mut run = Run::new();
        let needed = (WINDOW + LEAD) * 2 * u64::from(ENOUGH);
        assert_eq!(run.pages(needed - 64, &SLOW), []);
        assert_eq!(run.choice.chosen(1), None);
        assert_eq!(run.pages(128, &SLOW), [Compression::Lz4]);
    }

    #[test]
    fn an_eighth_is_not_changed_for() {
        let mut run = Run::new();
        assert_eq!(run.pages(4000, &SLOW), [Compression::Lz4]);
        let near = [(1800, 4098), (2000, 1900), (1800, 4098), (2000, 1900)];
        assert_eq!(run.pages(200_000, &near), []);
        let far = [(1500, 4098), (2000, 1900), (1500, 4098), (2000, 1900)];
        assert_eq!(run.pages(400_000, &far), [Compression::None]);
    }

    #[test]
    fn a_link_that_changes_is_noticed() {
        let mut run = Run::new();
        assert_eq!(run.pages(20_000, &FAST), [Compression::None]);
        assert_eq!(run.pages(20_000, &SLOW), [Compression::Lz4]);
        let before = run.pages_by[NONE];
        assert_eq!(run.pages(200_000, &SLOW), []);
        // Trials of a way that loses get rare.
        let tried = run.pages_by[NONE] - before;
        assert!((WINDOW..200_000 / 50).contains(&tried), "{tried}");
    }

    #[test]
    fn deltas_are_tried_once_there_are_copies() {
        let hot = [(4096, 4098), (2000, 1900), (150, 100), (180, 90)];
        let mut run = Run::new();
        assert_eq!(run.pages(5000, &SLOW), [Compression::Lz4]);
        run.choice.begin_round(2, false);
        assert_eq!(run.pages(5000, &hot), []);
        run.choice.begin_round(3, false);
        assert_eq!(run.choice.chosen(1).unwrap().way, Compression::Lz4, "what is not measured is not told");
        assert_eq!(run.pages(5000, &hot), [Compression::Delta]);
        run.choice.begin_round(4, true);
        let before = run.pages_by;
        assert_eq!(run.pages(100_000, &hot), []);
        assert_eq!(before[DELTA] + 100_000, run.pages_by[DELTA]);
    }

    #[test]
    fn waiting_counts_and_zero_pages_do_not() {
        let mut choice = Choice::new();
        let mut data = Data::default();
        let mut now = 0;
        let mut turn = |choice: &mut Choice, pages: u64, ticks: u64, waits: bool| {
            data.pages += pages;
            now += ticks;
            choice.turn(now, data, waits);
        };
        turn(&mut choice, 0, 0, false);
        turn(&mut choice, LEAD, 5, false);
        turn(&mut choice, 1, 10, false);
        // Zero pages, then a page that the link does not take for a while.
        turn(&mut choice, 0, 1000, false);
        turn(&mut choice, 1, 10, true);
        turn(&mut choice, 0, 100, true);
        turn(&mut choice, 0, 100, false);
        turn(&mut choice, 0, 1000, false);
        assert_eq!(choice.window, Measured { pages: 2, bytes: 0, ticks: 220 });
        // Harvesting is nobody's time either.
        choice.pause();
        turn(&mut choice, 0, 1000, true);
        assert_eq!(choice.window.ticks, 220);
    }

    #[test]
    fn any_turns_are_borne() {
        let mut choice = Choice::new();
        for i in 0..10_000u64 {
            let wild = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            choice.begin_round((wild % 5) as u32, false);
            let data = Data { pages: (wild >> 32) % 5000, bytes: wild >> 8 };
            choice.turn(wild, data, wild & 1 == 0);
            let _ = choice.chosen(wild).map(|chosen| chosen.to_string());
        }
    }

    #[test]
    fn in_words() {
        let mut costs = [Measured::default(); WAYS];
        costs[NONE] = Measured { pages: 100, bytes: 409_700, ticks: 40_960 };
        costs[LZ4] = Measured { pages: 100, bytes: 180_224, ticks: 20_480 };
        let chosen = Chosen { way: Compression::Lz4, costs, hz: 1_000_000 };
        assert_eq!(
            chosen.to_string(),
            "lz4 (none: 10.0 MB/s of RAM, 100 % of its size; lz4: 20.0 MB/s of RAM, 44 % of its size)"
        );
        let mut text = std::string::String::new();
        json::object(&mut text, |o| chosen.json(o)).unwrap();
        let none = r#""none":{"ram-bytes-per-second":10000000,"percent-sent":100}"#;
        let lz4 = r#""lz4":{"ram-bytes-per-second":20000000,"percent-sent":44}"#;
        assert_eq!(text, std::format!(r#"{{"method":"lz4",{none},{lz4}}}"#));
        let both = Chosen { way: Compression::Auto, costs: [Measured::default(); WAYS], ..chosen };
        assert_eq!(both.to_string(), "delta and lz4");
    }
}
