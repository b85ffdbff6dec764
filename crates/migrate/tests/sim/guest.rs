//! A guest that stamps each page with a version and knows what each of them must hold.

use std::cell::Cell;
use std::rc::Rc;

use migrate::{PAGE_BYTES, PageRange};

pub type Page = [u8; PAGE_BYTES];
const WORDS: usize = PAGE_BYTES / 8;

/// What the guest has executed so far, wherever it ran: each instruction is executed once, in its turn.
#[derive(Clone, Default)]
pub struct Timeline(Rc<Cell<u64>>);

impl Timeline {
    fn execute(&self, number: u64, place: &str) {
        let due = self.0.get() + 1;
        assert!(number >= due, "instruction {number} is executed again, on {place}: {due} is due");
        assert!(number == due, "instructions {due} to {} are lost, on {place}", number - 1);
        self.0.set(number);
    }

    /// An operator lets an old copy run by force: the other went down with its host, and what it did is lost.
    pub fn forced(&self, guest: &Guest) {
        assert!(guest.registers.counter <= self.0.get());
        self.0.set(guest.registers.counter);
    }

    pub fn executed(&self) -> u64 {
        self.0.get()
    }
}

/// What travels as state: the guest's own view of its memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registers {
    seed: u64,
    counter: u64,
    versions: Vec<u64>,
    /// The first half of this page has the next version already.
    half: Option<usize>,
}

impl Registers {
    pub fn to_bytes(&self) -> Vec<u8> {
        let half = self.half.map_or(u64::MAX, |page| page as u64);
        let words = [self.seed, self.counter, half].into_iter().chain(self.versions.iter().copied());
        words.flat_map(u64::to_le_bytes).collect()
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().unwrap()));
        let (seed, counter, half) = (words.next()?, words.next()?, words.next()?);
        let half = (half != u64::MAX).then_some(half as usize);
        Some(Self { seed, counter, versions: words.collect(), half })
    }
}

#[derive(Clone)]
pub struct Guest {
    pub ranges: Vec<PageRange>,
    pub pages: Vec<Page>,
    pub registers: Registers,
    pub timeline: Timeline,
    /// It writes no more after so many instructions.
    pub writes: u64,
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Word `word` of a page at a version: zero, fill and data pages take turns.
fn stamp(seed: u64, page: usize, version: u64, word: usize) -> u64 {
    let base = mix(seed ^ mix(page as u64 + 1) ^ mix(version << 20));
    match version % 5 {
        0 => 0,
        1 => base,
        _ => mix(base + word as u64),
    }
}

impl Guest {
    /// Page ranges as (first frame, pages).
    pub fn new(ranges: &[(u64, u64)], seed: u64, writes: u64) -> Self {
        let ranges: Vec<_> = ranges.iter().map(|&(first, pages)| PageRange { first, pages }).collect();
        let count = ranges.iter().map(|r| r.pages).sum::<u64>() as usize;
        let registers = Registers { seed, counter: 0, versions: vec![0; count], half: None };
        let mut guest = Self {
            pages: vec![[0; PAGE_BYTES]; count],
            ranges,
            registers,
            timeline: Timeline::default(),
            writes,
        };
        for page in 0..count {
            let version = mix(seed + page as u64) % 5;
            guest.registers.versions[page] = version;
            guest.put(page, version, 0..WORDS);
        }
        guest
    }

    fn put(&mut self, page: usize, version: u64, words: std::ops::Range<usize>) {
        for word in words {
            let bytes = stamp(self.registers.seed, page, version, word).to_le_bytes();
            self.pages[page][word * 8..][..8].copy_from_slice(&bytes);
        }
    }

    /// One instruction: half a page is written. The frame that it wrote, if it wrote.
    pub fn step(&mut self, place: &str) -> Option<u64> {
        self.registers.counter += 1;
        let counter = self.registers.counter;
        self.timeline.execute(counter, place);
        if counter > self.writes && self.registers.half.is_none() {
            return None;
        }
        let page = match self.registers.half.take() {
            Some(page) => {
                let version = self.registers.versions[page] + 1;
                self.put(page, version, WORDS / 2..WORDS);
                self.registers.versions[page] = version;
                page
            }
            None => {
                // Few of them, again and again, and at times any.
                let dice = mix(self.registers.seed ^ mix(counter));
                let span = if dice.is_multiple_of(8) { self.pages.len() as u64 } else { 5 };
                let page = (dice >> 8) % span;
                let page = page as usize;
                self.check_page(page).unwrap_or_else(|why| panic!("on {place}: {why}"));
                self.put(page, self.registers.versions[page] + 1, 0..WORDS / 2);
                self.registers.half = Some(page);
                page
            }
        };
        Some(self.frame(page))
    }

    fn frame(&self, page: usize) -> u64 {
        let mut page = page as u64;
        for range in &self.ranges {
            if page < range.pages {
                return range.first + page;
            }
            page -= range.pages;
        }
        unreachable!("page {page} beyond the RAM")
    }

    fn check_page(&self, page: usize) -> Result<(), String> {
        let version = self.registers.versions[page];
        let ahead = self.registers.half == Some(page);
        let wrong = (0..WORDS).filter(|&word| {
            let version = if ahead && word < WORDS / 2 { version + 1 } else { version };
            let want = stamp(self.registers.seed, page, version, word).to_le_bytes();
            self.pages[page][word * 8..][..8] != want
        });
        match wrong.count() {
            0 => Ok(()),
            words => Err(format!(
                "page {page}, version {version}: {words} of {WORDS} words are lost, stale or torn"
            )),
        }
    }

    /// The guest looks at all its memory.
    pub fn check(&self) -> Result<(), String> {
        let count = self.ranges.iter().map(|r| r.pages).sum::<u64>() as usize;
        if self.registers.versions.len() != count || self.pages.len() != count {
            return Err(format!("{} pages for {} versions", self.pages.len(), self.registers.versions.len()));
        }
        (0..count).try_for_each(|page| self.check_page(page))
    }
}

#[test]
fn a_lost_stale_or_torn_page_is_found() {
    let mut guest = Guest::new(&[(0, 6), (9, 5)], 7, 1000);
    for _ in 0..501 {
        guest.step("here");
    }
    guest.check().unwrap();
    let before = guest.clone();
    for _ in 0..200 {
        guest.step("here");
    }
    guest.check().unwrap();
    let changed = (0..11).filter(|&page| before.pages[page] != guest.pages[page]).collect::<Vec<_>>();
    assert!(changed.len() > 4);
    for page in changed {
        let mut stale = guest.clone();
        stale.pages[page] = before.pages[page];
        stale.check().unwrap_err();
        let mut torn = guest.clone();
        torn.pages[page][PAGE_BYTES - 8..].copy_from_slice(&before.pages[page][PAGE_BYTES - 8..]);
        assert!(torn.pages[page] == guest.pages[page] || torn.check().is_err());
    }
    let bytes = guest.registers.to_bytes();
    assert_eq!(Registers::from_bytes(&bytes), Some(guest.registers));
}
