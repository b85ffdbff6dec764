//! A connection in memory, with all that can happen to one.

use super::*;

/// One direction of a connection.
#[derive(Default)]
pub struct Wire {
    pub bytes: VecDeque<u8>,
    /// Bytes that have entered it.
    pub entered: u64,
    /// Bytes that have left it at the far end.
    pub left: u64,
    /// All that was ever sent.
    pub record: Vec<u8>,
}

pub struct Cable {
    pub wires: [Wire; 2],
    /// Room for bytes under way.
    pub window: usize,
    /// Most bytes that one `recv` or `send` moves.
    pub chunk: usize,
    /// The connection is cut when so many bytes have been delivered in direction 0 or 1.
    pub cut: [u64; 2],
    pub open: [bool; 2],
    /// A cut that is felt by nobody: no more bytes, but no end either.
    pub silent: bool,
    /// Of a silent cut: the other direction goes on.
    pub half: bool,
    /// Directions that deliver nothing any more.
    pub deaf: [bool; 2],
    pub dead: bool,
    pub rng: Rng,
}

impl Cable {
    pub fn new() -> Self {
        Self {
            wires: [Wire::default(), Wire::default()],
            window: 64 * 1024,
            chunk: usize::MAX,
            cut: [u64::MAX; 2],
            open: [true; 2],
            silent: false,
            half: false,
            deaf: [false; 2],
            dead: false,
            rng: Rng(0x1234_5678_9abc_def1),
        }
    }

    fn some(&mut self, n: usize) -> usize {
        if self.chunk == usize::MAX || n == 0 {
            n
        } else {
            n.min(1 + self.rng.below(self.chunk as u64) as usize)
        }
    }

    fn kill(&mut self, way: usize) {
        if self.half {
            self.deaf[way] = true;
            return;
        }
        self.dead = true;
        if !self.silent {
            self.open = [false; 2];
        }
        self.wires[0].bytes.clear();
        self.wires[1].bytes.clear();
    }

    fn recv(&mut self, side: usize, buf: &mut [u8]) -> usize {
        let way = 1 - side;
        if self.dead || self.deaf[way] {
            return 0;
        }
        let n = buf.len().min(self.wires[way].bytes.len());
        let n = self.some(n).min((self.cut[way] - self.wires[way].left) as usize);
        for (slot, byte) in buf.iter_mut().zip(self.wires[way].bytes.drain(..n)) {
            *slot = byte;
        }
        self.wires[way].left += n as u64;
        if self.wires[way].left == self.cut[way] {
            self.kill(way);
        }
        n
    }

    fn send(&mut self, side: usize, data: &[u8]) -> usize {
        if self.dead {
            return if self.silent { 0 } else { data.len() };
        }
        let room = self.window - self.wires[side].bytes.len().min(self.window);
        let n = self.some(data.len().min(room));
        self.wires[side].bytes.extend(&data[..n]);
        self.wires[side].record.extend(&data[..n]);
        self.wires[side].entered += n as u64;
        n
    }
}

/// One end of a cable: side 0 is the source's.
#[derive(Clone)]
pub struct End(pub Rc<RefCell<Cable>>, pub usize);

impl Link for End {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        self.0.borrow_mut().recv(self.1, buf)
    }

    fn send(&mut self, data: &[u8]) -> usize {
        self.0.borrow_mut().send(self.1, data)
    }

    fn is_open(&self) -> bool {
        self.0.borrow().open[self.1]
    }
}
