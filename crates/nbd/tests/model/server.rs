//! A server in memory, with a cache that it loses when it dies.

use crate::common::{self, Asked, DISC, FLUSH, READ, TRIM, WRITE, ZEROES};
use crate::world::{Rng, Setting};

pub(crate) const BLOCK: usize = 512;
pub(crate) const BLOCKS: usize = 16;
/// Bytes of the client's part of the handshake.
const HELLO: usize = 4 + 16 + 12;

type Disk = [u64; BLOCKS];

/// A block is one number, written over and over.
pub(crate) fn bytes_of(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(BLOCK / 8)
}

pub(crate) fn number_of(block: &[u8]) -> Result<u64, String> {
    let number = u64::from_be_bytes(block[..8].try_into().unwrap());
    if block == bytes_of(number) { Ok(number) } else { Err(format!("a block torn apart: {block:x?}")) }
}

/// A connection as the server has it.
#[derive(Default)]
pub(crate) struct Connection {
    /// Bytes that came and were not looked at.
    pub(crate) inbox: Vec<u8>,
    pub(crate) out: Vec<u8>,
    greeted: bool,
    /// What a flush covers is what was there when it came.
    pending: Vec<(Asked, Disk, u64)>,
    pub(crate) over: bool,
}

pub(crate) struct Server {
    setting: Setting,
    pub(crate) durable: Disk,
    /// Which change it is of.
    durable_from: [u64; BLOCKS],
    cache: Disk,
    cache_from: [u64; BLOCKS],
    changes: u64,
    pub(crate) connection: Option<Connection>,
}

impl Server {
    pub(crate) fn new(setting: Setting) -> Self {
        let [durable, cache] = [[0; BLOCKS]; 2];
        let [durable_from, cache_from] = [[0; BLOCKS]; 2];
        Self { setting, durable, durable_from, cache, cache_from, changes: 0, connection: None }
    }

    pub(crate) fn accept(&mut self) {
        self.connection = Some(Connection { out: common::greeting(), ..Connection::default() });
    }

    /// Some of what it had in hand is done, though nobody will hear of it; the rest is not.
    pub(crate) fn cut(&mut self, rng: &mut Rng) {
        let Some(mut connection) = self.connection.take() else { return };
        self.read_in(&mut connection);
        while !connection.pending.is_empty() {
            if rng.chance(50) {
                self.finish_one(&mut connection, rng, true);
            } else {
                connection.pending.remove(rng.below(connection.pending.len()));
            }
        }
    }

    /// What lies in its cache is lost, but for what it happened to have written.
    pub(crate) fn die(&mut self, rng: &mut Rng) {
        self.connection = None;
        for block in 0..BLOCKS {
            if rng.chance(40) {
                self.write_back(block);
            }
        }
        (self.cache, self.cache_from) = (self.durable, self.durable_from);
    }

    pub(crate) fn write_back(&mut self, block: usize) {
        self.persist(block, self.cache[block], self.cache_from[block]);
    }

    fn persist(&mut self, block: usize, number: u64, from: u64) {
        if from > self.durable_from[block] {
            (self.durable[block], self.durable_from[block]) = (number, from);
        }
    }

    /// Reads what came, and finishes one request, any of those that it has.
    pub(crate) fn work(&mut self, rng: &mut Rng) {
        let Some(mut connection) = self.connection.take() else { return };
        self.read_in(&mut connection);
        if !connection.pending.is_empty() {
            self.finish_one(&mut connection, rng, false);
        }
        self.connection = Some(connection);
    }

    fn read_in(&mut self, connection: &mut Connection) {
        if !connection.greeted {
            if connection.inbox.len() < HELLO {
                return;
            }
            connection.inbox.drain(..HELLO);
            connection.greeted = true;
            let flags = if self.setting.fua { common::ALL } else { common::NO_FUA };
            connection.out.extend(common::blocks([512, 1024, 1536]));
            connection.out.extend(common::export((BLOCK * BLOCKS) as u64, flags));
            connection.out.extend(common::ack());
        }
        while let Some(asked) = common::asked(&mut connection.inbox) {
            if asked.kind == DISC {
                connection.over = true;
            } else {
                connection.pending.push((asked, self.cache, self.changes));
            }
        }
    }

    fn finish_one(&mut self, connection: &mut Connection, rng: &mut Rng, unheard: bool) {
        let (asked, seen, until) = connection.pending.remove(rng.below(connection.pending.len()));
        let first = asked.offset as usize / BLOCK;
        let blocks = first..first + asked.len as usize / BLOCK;
        let code = [1, 5, 28, 108][rng.below(4)];
        if self.setting.refuses && !unheard && rng.chance(4) {
            return connection.out.extend(common::reply(asked.cookie, code, &[]));
        }
        let mut data = Vec::new();
        match asked.kind {
            READ => data.extend(blocks.flat_map(|block| bytes_of(self.cache[block]))),
            FLUSH if !self.setting.flush_lies => {
                for (block, &number) in seen.iter().enumerate() {
                    // What was there when the flush came: no more.
                    if self.cache_from[block] <= until {
                        self.write_back(block);
                    } else {
                        self.persist(block, number, until);
                    }
                }
            }
            FLUSH => {}
            kind => {
                for (at, block) in blocks.enumerate() {
                    let number = match kind {
                        WRITE => number_of(&asked.data[at * BLOCK..][..BLOCK]).expect("whole blocks"),
                        ZEROES => 0,
                        TRIM => rng.next() | 1 << 63,
                        kind => panic!("request of kind {kind}"),
                    };
                    self.changes += 1;
                    (self.cache[block], self.cache_from[block]) = (number, self.changes);
                    if asked.flags & 1 != 0 && !self.setting.fua_lies {
                        self.write_back(block);
                    }
                }
            }
        }
        if self.setting.swaps_reads && data.len() > BLOCK {
            data.rotate_left(BLOCK);
        }
        connection.out.extend(common::reply(asked.cookie, 0, &data));
    }
}
