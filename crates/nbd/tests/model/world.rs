//! A caller, a client, a network and a server, moved on by one step after the other; and what was promised.

use std::collections::HashMap;

use nbd::{Action, Client, Command, Failure, Limits, State, Tag};

use crate::common::disk;
use crate::server::{BLOCK, BLOCKS, Server, bytes_of, number_of};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) fua: bool,
    /// The server answers with errors at times.
    pub(crate) refuses: bool,
    /// `on-error=report`
    pub(crate) reports: bool,
    pub(crate) flush_lies: bool,
    pub(crate) fua_lies: bool,
    pub(crate) swaps_reads: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            fua: true,
            refuses: false,
            reports: false,
            flush_lies: false,
            fua_lies: false,
            swaps_reads: false,
        }
    }
}

pub(crate) struct Rng(u64);

impl Rng {
    /// splitmix64
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// What a change makes of a block; none: nobody can say, as it was a trim or has failed.
type Content = Option<u64>;

/// A request that waits for its answer, with the place in the history of each of its blocks.
enum Waiting {
    /// What each block must hold, and what came.
    Read(Vec<(usize, usize)>, Vec<u8>),
    Change {
        places: Vec<(usize, usize)>,
        fua: bool,
    },
    /// What must be durable then.
    Flush([usize; BLOCKS]),
}

struct World {
    rng: Rng,
    now_us: u64,
    client: Client,
    server: Server,
    server_runs: bool,
    /// Every change of a block, as they were submitted.
    history: [Vec<Content>; BLOCKS],
    /// The last change whose answer came.
    answered: [usize; BLOCKS],
    /// What is promised to be durable: this change, or a later one.
    floor: [usize; BLOCKS],
    waiting: HashMap<u64, Waiting>,
    tag: u64,
    setting: Setting,
    counts: Counts,
}

/// What happened.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) answers: usize,
    pub(crate) connections: usize,
}

pub(crate) fn run(seed: u64, setting: Setting) -> Result<Counts, String> {
    let words = if setting.reports { ",on-error=report" } else { "" };
    let limits = Limits { in_flight: 4, requests: 8, bytes: 8 * BLOCK, writes: 12 };
    let mut world = World {
        rng: Rng(seed),
        now_us: 0,
        client: Client::new(disk(words), limits, 0),
        server: Server::new(setting),
        server_runs: true,
        history: std::array::from_fn(|_| vec![Some(0)]),
        answered: [0; BLOCKS],
        floor: [0; BLOCKS],
        waiting: HashMap::new(),
        tag: 0,
        setting,
        counts: Counts::default(),
    };
    // How often it is cut, in one of a thousand steps.
    let (cuts, steps) = (1 + world.rng.below(20), 200 + world.rng.below(400));
    for _ in 0..steps {
        world.step(cuts)?;
    }
    world.end()?;
    Ok(world.counts)
}

impl World {
    fn step(&mut self, cuts: usize) -> Result<(), String> {
        if self.rng.below(1000) < cuts {
            match self.rng.below(3) {
                0 => self.cut(),
                _ => self.die(),
            }
        }
        self.server_runs |= self.rng.chance(5);
        match self.rng.below(10) {
            0..3 => self.submit(),
            3 => {
                let block = self.rng.below(BLOCKS);
                self.server.write_back(block);
            }
            4 => {
                let us = if self.rng.chance(2) { 31_000_000 } else { 30_000 };
                self.now_us += self.rng.below(us) as u64;
            }
            5 if self.rng.chance(3) => {
                self.client.finish();
            }
            5 => self.client.resume(self.now_us),
            _ => self.server.work(&mut self.rng),
        }
        self.turn(40)?;
        self.check()
    }

    /// The client's turn: bytes go a part of the way.
    fn turn(&mut self, most: usize) -> Result<(), String> {
        match self.client.poll(self.now_us) {
            Action::None => {}
            Action::Close => self.server.cut(&mut self.rng),
            Action::Connect if self.server_runs => {
                self.server.cut(&mut self.rng);
                self.server.accept();
                self.counts.connections += 1;
                self.client.connected(self.now_us);
            }
            Action::Connect => self.client.closed("refused", self.now_us),
        }
        if let Some(connection) = &mut self.server.connection {
            for _ in 0..2 {
                let bytes = self.client.outgoing();
                let len = bytes.len().min(self.rng.below(most * 30) + 1);
                connection.inbox.extend(&bytes[..len]);
                self.client.sent(len);
            }
            let len = connection.out.len().min(self.rng.below(most * 30) + 1);
            let bytes: Vec<u8> = connection.out.drain(..len).collect();
            let waiting = &mut self.waiting;
            let mut wrong = None;
            self.client.receive(&bytes, self.now_us, &mut |tag, at, bytes| match waiting.get_mut(&tag.0) {
                Some(Waiting::Read(_, came)) if at as usize + bytes.len() <= came.len() => {
                    came[at as usize..][..bytes.len()].copy_from_slice(bytes);
                }
                _ => wrong = Some(format!("{} bytes at {at} for request {}", bytes.len(), tag.0)),
            });
            let over = connection.over && connection.out.is_empty();
            if over {
                self.server.cut(&mut self.rng);
                self.client.closed("", self.now_us);
            }
            wrong.map_or(Ok(()), Err)?;
        }
        while let Some(answer) = self.client.answer() {
            self.answered(answer.tag, answer.result)?;
            self.counts.answers += 1;
        }
        Ok(())
    }

    fn cut(&mut self) {
        self.server.cut(&mut self.rng);
        self.client.closed("cut", self.now_us);
    }

    fn die(&mut self) {
        self.server.die(&mut self.rng);
        self.server_runs = false;
        self.client.closed("died", self.now_us);
    }

    fn submit(&mut self) {
        let first = self.rng.below(BLOCKS);
        let count = 1 + self.rng.below((BLOCKS - first).min(5));
        let (offset, len) = ((first * BLOCK) as u64, (count * BLOCK) as u32);
        let fua = self.rng.chance(20);
        self.tag += 1;
        let numbers = self.tag * 100..self.tag * 100 + count as u64;
        let (command, contents): (_, Vec<Content>) = match self.rng.below(12) {
            0..4 => (Command::Read { offset, len }, Vec::new()),
            4..9 => {
                let data = numbers.clone().flat_map(bytes_of).collect();
                (Command::Write { offset, data, fua }, numbers.map(Some).collect())
            }
            9 => (Command::WriteZeroes { offset, len, fua, unmap: false }, vec![Some(0); count]),
            10 if self.rng.chance(30) => (Command::Trim { offset, len }, vec![None; count]),
            _ => (Command::Flush, Vec::new()),
        };
        if self.client.submit(Tag(self.tag), command.clone(), self.now_us).is_err() {
            return;
        }
        let blocks = first..first + count;
        for (block, content) in blocks.clone().zip(contents) {
            self.history[block].push(content);
        }
        let places = blocks.map(|block| (block, self.history[block].len() - 1)).collect();
        let waiting = match command {
            Command::Read { .. } => Waiting::Read(places, vec![0xee; len as usize]),
            Command::Flush => Waiting::Flush(self.answered),
            Command::Trim { .. } => Waiting::Change { places, fua: false },
            _ => Waiting::Change { places, fua },
        };
        self.waiting.insert(self.tag, waiting);
    }

    fn answered(&mut self, tag: Tag, result: Result<(), Failure>) -> Result<(), String> {
        let waiting = self.waiting.remove(&tag.0).ok_or(format!("request {} is answered twice", tag.0))?;
        let expected = match result {
            Ok(()) => true,
            Err(Failure::Gone) => self.setting.reports,
            Err(Failure::Server(_)) => self.setting.refuses,
        };
        if !expected {
            return Err(format!("request {} is answered {result:?}", tag.0));
        }
        match (waiting, result) {
            (Waiting::Read(places, came), Ok(())) => {
                for ((block, place), bytes) in places.into_iter().zip(came.chunks(BLOCK)) {
                    let (is, must) = (number_of(bytes)?, self.history[block][place]);
                    if must.is_some_and(|must| must != is) {
                        return Err(format!(
                            "request {} reads {is} of block {block} in place of {must:?}",
                            tag.0
                        ));
                    }
                }
            }
            (Waiting::Change { places, fua }, Ok(())) => {
                for (block, place) in places {
                    self.answered[block] = place.max(self.answered[block]);
                    if fua {
                        self.floor[block] = place.max(self.floor[block]);
                    }
                }
            }
            // Done, not done, or half of it.
            (Waiting::Change { places, .. }, Err(_)) => {
                for (block, place) in places {
                    self.history[block][place] = None;
                }
            }
            (Waiting::Flush(answered), Ok(())) => {
                for (floor, answered) in self.floor.iter_mut().zip(answered) {
                    *floor = answered.max(*floor);
                }
            }
            (Waiting::Read(..) | Waiting::Flush(_), Err(_)) => {}
        }
        Ok(())
    }

    /// What is promised is durable: if all died now, it would be there.
    fn check(&self) -> Result<(), String> {
        for (block, &is) in self.server.durable.iter().enumerate() {
            let since = &self.history[block][self.floor[block]..];
            if !since.iter().any(|content| content.is_none_or(|content| content == is)) {
                return Err(format!("block {block} is {is} on the medium, none of {since:?}"));
            }
        }
        Ok(())
    }

    /// With nobody in the way all is answered and durable in a time.
    fn end(&mut self) -> Result<(), String> {
        self.server_runs = true;
        self.client.finish();
        let quiet = self.now_us + 600_000_000;
        while self.client.state() != State::Finished {
            if self.now_us > quiet {
                return Err(format!("no end: {:?}", self.client));
            }
            for _ in 0..20 {
                self.server.work(&mut self.rng);
                self.turn(400)?;
            }
            self.check()?;
            self.now_us = self
                .client
                .next_deadline(self.now_us)
                .unwrap_or(self.now_us + 1)
                .min(self.now_us + 1_000_000);
        }
        if let Some(tag) = self.waiting.keys().next() {
            return Err(format!("request {tag} has no answer"));
        }
        self.server.die(&mut self.rng);
        self.floor = self.answered;
        self.check()?;
        if self.client.unflushed() == (0, 0) { Ok(()) } else { Err("bytes are left over".into()) }
    }
}
