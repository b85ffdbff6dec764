//! A VM at its source.

use super::*;

/// What happened to a VM, in order.
pub type Log = Vec<&'static str>;

/// How long its vCPUs took to stop, by its own word.
pub const STOP_TICKS: u64 = 4211;

pub struct Leaving {
    pub ranges: Vec<PageRange>,
    pub pages: Vec<Page>,
    pub written: BTreeSet<u64>,
    pub harvested: BTreeSet<u64>,
    /// Bits that this attempt took out of the harvested set.
    pub taken: BTreeSet<u64>,
    /// Pages that the guest has written in this attempt, and what is marked as dirty once it has failed.
    pub touched: BTreeSet<u64>,
    pub given_back: Option<BTreeSet<u64>>,
    pub tracking: bool,
    pub paused: bool,
    pub pause_delay: u32,
    /// Steps that the start of tracking and each harvest take, and those left of the one under way.
    pub steps_each: u32,
    pub steps: u32,
    pub given: bool,
    pub unknown: bool,
    pub freed: bool,
    pub states: Vec<StateRecord>,
    /// What the VM was made from.
    pub files: Vec<Vec<u8>>,
    pub log: Log,
    /// What the guest printed, by the piece.
    pub printed: VecDeque<Vec<u8>>,
    /// Page frames written by the guest at each call of `run_a_little`.
    pub writes: VecDeque<u64>,
    pub counter: u64,
    /// Share of the CPU that it is left, in percent.
    pub share: u8,
    /// And that of each vCPU.
    pub shares: migrate::Shares,
    /// Pages that each vCPU has written, where that is known.
    pub dirtied: Option<Vec<u64>>,
    pub credit: u32,
}

impl Leaving {
    pub fn new(ranges: &[(u64, u64)]) -> Self {
        let ranges: Vec<_> = ranges.iter().map(|&(first, pages)| PageRange { first, pages }).collect();
        let count = ranges.iter().map(|r| r.pages).sum::<u64>() as usize;
        Self {
            ranges,
            pages: vec![[0; PAGE_BYTES]; count],
            written: BTreeSet::new(),
            harvested: BTreeSet::new(),
            taken: BTreeSet::new(),
            touched: BTreeSet::new(),
            given_back: None,
            tracking: false,
            paused: false,
            pause_delay: 2,
            steps_each: 0,
            steps: 0,
            given: false,
            unknown: false,
            freed: false,
            states: vec![
                StateRecord {
                    kind: "vcpu".into(),
                    instance: 0,
                    version: 1,
                    body: vec![0xa1, 0x00, 0x18, 0x2a],
                },
                StateRecord { kind: "uart".into(), instance: 0, version: 2, body: vec![0xa0] },
            ],
            files: Vec::new(),
            log: Vec::new(),
            printed: VecDeque::new(),
            writes: VecDeque::new(),
            counter: 0,
            share: 100,
            shares: migrate::Shares::All(100),
            dirtied: None,
            credit: 0,
        }
    }

    pub fn runs(&self) -> bool {
        !self.paused && !self.given && !self.unknown && !self.freed
    }

    /// The guest writes a page, as a running vCPU would.
    pub fn write(&mut self, gfn: u64, at: usize, byte: u8) {
        assert!(self.runs(), "a guest that does not run has written");
        let i = index(&self.ranges, gfn).unwrap();
        self.pages[i][at] = byte;
        if self.tracking {
            self.written.insert(gfn);
            self.touched.insert(gfn);
            // The first vCPU writes all of it.
            if let Some(count) = self.dirtied.as_mut().and_then(|counts| counts.first_mut()) {
                *count += 1;
            }
        }
    }

    pub fn run_a_little(&mut self) {
        if !self.runs() {
            return;
        }
        self.credit += u32::from(self.share);
        if self.credit < 100 {
            return;
        }
        self.credit -= 100;
        if let Some(gfn) = self.writes.pop_front() {
            self.counter += 1;
            let byte = self.counter as u8;
            self.write(gfn, (self.counter * 8 % 4096) as usize, byte);
        }
    }
}

impl SourceVm for Leaving {
    fn start_tracking(&mut self) -> Poll<Result<(), String>> {
        if !self.tracking {
            self.tracking = true;
            self.steps = self.steps_each;
            self.log.push("track");
        }
        if self.steps > 0 {
            self.steps -= 1;
            return Poll::Pending;
        }
        self.steps = self.steps_each;
        Poll::Ready(Ok(()))
    }

    fn harvest(&mut self) -> Poll<u64> {
        assert!(self.tracking);
        if self.steps > 0 {
            self.steps -= 1;
            return Poll::Pending;
        }
        self.steps = self.steps_each;
        self.harvested.append(&mut self.written);
        Poll::Ready(self.harvested.len() as u64)
    }

    fn take_dirty(&mut self, from: u64) -> Option<u64> {
        let gfn = *self.harvested.range(from..).next()?;
        self.harvested.remove(&gfn);
        self.taken.insert(gfn);
        Some(gfn)
    }

    fn read_page(&mut self, gfn: u64, page: &mut Page) -> Result<(), MemoryError> {
        *page = self.pages[index(&self.ranges, gfn).ok_or(no_ram(gfn))?];
        Ok(())
    }

    fn dirtied(&mut self) -> Option<Vec<u64>> {
        self.dirtied.clone()
    }

    fn throttle(&mut self, shares: &migrate::Shares) {
        self.share = shares.of(0);
        self.shares = shares.clone();
    }

    fn pause(&mut self) -> Poll<u64> {
        if self.pause_delay > 0 {
            self.pause_delay -= 1;
            return Poll::Pending;
        }
        self.paused = true;
        self.log.push("pause");
        Poll::Ready(STOP_TICKS)
    }

    fn resume(&mut self) {
        // After COMMIT only where the target has destroyed its copy: `never_two` watches.
        self.given = false;
        self.unknown = false;
        self.paused = false;
        self.log.push("resume");
    }

    fn give_back(&mut self) {
        assert!(self.tracking, "what is given back belongs to the tracking of the attempt");
        self.harvested.append(&mut self.taken);
        self.given_back = Some(self.harvested.union(&self.written).copied().collect());
        self.log.push("give_back");
    }

    fn stop_tracking(&mut self) {
        assert!(self.tracking);
        self.tracking = false;
        self.written.clear();
        self.harvested.clear();
        self.log.push("untrack");
    }

    fn history(&mut self) -> Vec<u8> {
        self.printed.pop_front().unwrap_or_default()
    }

    fn read_file(&mut self, number: u32, offset: u64, into: &mut [u8]) -> Result<(), String> {
        let at = offset as usize;
        into.copy_from_slice(&self.files[number as usize][at..at + into.len()]);
        Ok(())
    }

    fn export_state(&mut self) -> Result<Vec<StateRecord>, String> {
        assert!(self.paused);
        Ok(self.states.clone())
    }

    fn give_up(&mut self) -> Result<(), String> {
        assert!(self.paused && !self.given);
        self.given = true;
        self.log.push("give_up");
        Ok(())
    }

    fn free(&mut self) {
        assert!(self.given);
        self.freed = true;
        self.log.push("free");
    }

    fn mark_unknown(&mut self) {
        assert!(self.given && !self.freed);
        self.unknown = true;
        self.log.push("unknown");
    }
}
