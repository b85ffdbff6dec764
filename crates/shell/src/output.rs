//! What a guest has printed, who is still to be shown it, and how far ahead of them it may go.

use alloc::vec::Vec;

use crate::ConsoleRing;

/// One who shows what a guest prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReaderId(u32);

/// How a reader stands to the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// The guest waits for it: nothing is left out.
    Waits,
    /// It looks on: what it misses is counted.
    GoesOn,
}

/// What comes next for a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next<'a> {
    /// So many bytes are gone before it could show them.
    LeftOut(u64),
    /// So many bytes the guest has written to a UART that could not take them.
    Overrun(u64),
    /// These bytes, and more in the next call; none where it has shown everything.
    Bytes(&'a [u8]),
}

/// The output of a guest's serial port on this host. Every byte has a number that it keeps when the VM moves, so that
/// the port of one host goes on exactly where that of the other ended.
#[derive(Clone, Debug)]
pub struct GuestOutput {
    ring: ConsoleRing,
    /// Bytes that other hosts, or earlier ports of this one, show: the next port begins after them.
    shown: u64,
    readers: Vec<Reader>,
    next_id: u32,
    /// The guest is this host's. While it is not, its UART is part of a state that is on its way: nothing may be
    /// taken out of it or put into it.
    live: bool,
    /// Bytes that the UART could not take.
    overrun: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reader {
    id: ReaderId,
    pace: Pace,
    /// Bytes that it has shown or been told of.
    at: u64,
    /// Those of [`GuestOutput::overrun`] that it has been told of.
    told: u64,
    /// When it last took something, or had nothing to take, in microseconds.
    moved: u64,
}

impl GuestOutput {
    /// How far the guest may be ahead of a port, in bytes; as much again waits in its UART.
    pub const AHEAD: usize = 4 << 10;
    /// How long a port may take nothing before the guest no longer waits for it, in microseconds: 16 bytes at 50 baud
    /// take 3.2 s.
    pub const STUCK_US: u64 = 5_000_000;
    /// Bytes of the number before a piece of history.
    const NUMBER: usize = 8;

    /// Nothing printed yet; `live`: the guest is this host's from the start.
    #[must_use]
    pub fn new(live: bool) -> Self {
        Self { ring: ConsoleRing::new(), shown: 0, readers: Vec::new(), next_id: 0, live, overrun: 0 }
    }

    /// What is kept.
    #[must_use]
    pub const fn ring(&self) -> &ConsoleRing {
        &self.ring
    }

    /// Whether the guest is this host's.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// The UART's state is taken to be sent: from now on it is left alone.
    pub fn hold(&mut self) {
        self.live = false;
    }

    /// The guest runs here, for the first time or again.
    pub fn release(&mut self) {
        self.live = true;
    }

    /// How many bytes may be taken from the UART at `now`, in microseconds.
    #[must_use]
    pub fn room(&self, now: u64) -> usize {
        if !self.live {
            return 0;
        }
        let total = self.ring.total();
        let waits = |reader: &&Reader| {
            reader.pace == Pace::Waits && now.saturating_sub(reader.moved) <= Self::STUCK_US
        };
        let behind = self.readers.iter().filter(waits).map(|reader| total.saturating_sub(reader.at)).max();
        behind.map_or(usize::MAX, |behind| {
            Self::AHEAD.saturating_sub(usize::try_from(behind).unwrap_or(usize::MAX))
        })
    }

    /// Takes from the UART what there is room for; all that is left if it `ends`, for then it is no more: whoever shows
    /// it finds it in the history. `take` moves bytes out of the UART, and says how many, and how many it could not
    /// take from its guest since it was asked last.
    pub fn drain(&mut self, ends: bool, now: u64, mut take: impl FnMut(&mut [u8]) -> (usize, u64)) {
        let mut bytes = [0; 256];
        loop {
            let room = if ends && self.live { usize::MAX } else { self.room(now) };
            let room = bytes.len().min(room);
            if room == 0 {
                return;
            }
            let (count, overrun) = take(bytes.get_mut(..room).unwrap_or_default());
            if count == 0 && overrun == 0 {
                return;
            }
            self.push(bytes.get(..count).unwrap_or_default(), overrun, now);
        }
    }

    /// Adds what was taken from the UART, and how many bytes that could not take.
    pub fn push(&mut self, bytes: &[u8], overrun: u64, now: u64) {
        let total = self.ring.total();
        for reader in self.readers.iter_mut().filter(|reader| reader.at == total) {
            reader.moved = now;
        }
        self.ring.push(bytes);
        self.overrun = self.overrun.saturating_add(overrun);
    }

    /// A port that shows what no other one does: every byte from here on, and those before it that were printed here.
    pub fn attach(&mut self, now: u64) -> ReaderId {
        self.attach_at(self.shown, Pace::Waits, now)
    }

    /// A reader that begins after byte `at`.
    pub fn attach_at(&mut self, at: u64, pace: Pace, now: u64) -> ReaderId {
        let id = ReaderId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.readers.push(Reader { id, pace, at, told: self.overrun, moved: now });
        id
    }

    /// The reader is gone.
    pub fn detach(&mut self, id: ReaderId) {
        self.readers.retain(|reader| reader.id != id);
    }

    /// The guest leaves a port, which still shows what was printed until now: the number of the last byte of that. The
    /// next port begins after it.
    pub fn leave(&mut self) -> u64 {
        self.shown = self.ring.total();
        self.shown
    }

    /// What comes next for a reader, up to byte `end`. [`Self::took`] says what it did with it.
    #[must_use]
    pub fn next(&self, id: ReaderId, end: u64) -> Next<'_> {
        let Some(reader) = self.readers.iter().find(|reader| reader.id == id) else {
            return Next::Bytes(&[]);
        };
        let (lost, (older, newer)) = self.ring.since(reader.at);
        // Those that were left out may lie on both sides of the end.
        let left = end.saturating_sub(reader.at);
        if lost.min(left) > 0 {
            return Next::LeftOut(lost.min(left));
        }
        let bytes = if older.is_empty() { newer } else { older };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let bytes = bytes.get(..most).unwrap_or_default();
        if bytes.is_empty() && self.overrun > reader.told {
            return Next::Overrun(self.overrun - reader.told);
        }
        Next::Bytes(bytes)
    }

    /// How many bytes up to byte `end` the reader has not shown.
    #[must_use]
    pub fn left(&self, id: ReaderId, end: u64) -> u64 {
        let reader = self.readers.iter().find(|reader| reader.id == id);
        reader.map_or(0, |reader| end.min(self.ring.total()).saturating_sub(reader.at))
    }

    /// The reader has shown so many bytes, or has said that they are left out.
    pub fn took(&mut self, id: ReaderId, bytes: u64, now: u64) {
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) {
            reader.at = reader.at.saturating_add(bytes);
            reader.moved = now;
        }
    }

    /// The reader has said how many bytes its guest's UART could not take.
    pub fn told_overrun(&mut self, id: ReaderId) {
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) {
            reader.told = self.overrun;
        }
    }

    /// What was printed after the first `told` bytes, in a piece of at most `most` bytes for the host that the VM goes
    /// to: the number of its last byte in 8 bytes, the lowest first, then the bytes, the oldest first. Empty where
    /// there is nothing. What is in the UART goes with the UART.
    pub fn history(&self, told: &mut u64, most: usize) -> Vec<u8> {
        let (lost, (older, newer)) = self.ring.since(*told);
        let most = most.saturating_sub(Self::NUMBER).min(older.len() + newer.len());
        if most == 0 {
            return Vec::new();
        }
        *told = told.saturating_add(lost).saturating_add(most as u64);
        told.to_le_bytes().into_iter().chain(older.iter().chain(newer).take(most).copied()).collect()
    }

    /// Takes a piece of it that has come: the other host shows it.
    pub fn take_history(&mut self, piece: &[u8]) {
        if let Some((total, bytes)) = piece.split_first_chunk::<{ Self::NUMBER }>() {
            self.ring.append(bytes, u64::from_le_bytes(*total));
            self.shown = self.ring.total();
        }
    }
}
