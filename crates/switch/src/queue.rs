use alloc::{boxed::Box, vec};

/// Longest frame handled: 1500 bytes of payload, header and one 802.1Q tag, without FCS.
pub const MAX_FRAME: usize = 1518;
/// Shortest frame that has a header; the 60-byte minimum is padded by whoever puts it on a wire.
pub const MIN_FRAME: usize = 14;

/// Bounded FIFO of frames in memory taken once, when it is made.
#[derive(Debug)]
pub struct FrameQueue {
    bytes: Box<[u8]>,
    lengths: Box<[u16]>,
    head: usize,
    used: usize,
}

impl FrameQueue {
    /// A queue of `depth` frames of up to [`MAX_FRAME`] bytes.
    pub fn new(depth: usize) -> Self {
        Self {
            bytes: vec![0; depth * MAX_FRAME].into_boxed_slice(),
            lengths: vec![0; depth].into_boxed_slice(),
            head: 0,
            used: 0,
        }
    }

    /// Appends a copy of `frame`; false when the queue is full or the length is not one of a frame.
    pub fn push(&mut self, frame: &[u8]) -> bool {
        if self.room() == 0 || !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
            return false;
        }
        let slot = (self.head + self.used) % self.lengths.len();
        let start = slot * MAX_FRAME;
        self.bytes[start..start + frame.len()].copy_from_slice(frame);
        self.lengths[slot] = frame.len() as u16;
        self.used += 1;
        true
    }

    /// The oldest frame.
    pub fn front(&self) -> Option<&[u8]> {
        let start = self.head * MAX_FRAME;
        (self.used > 0).then(|| &self.bytes[start..start + usize::from(self.lengths[self.head])])
    }

    /// Drops the oldest frame.
    pub fn pop(&mut self) {
        if self.used > 0 {
            self.head = (self.head + 1) % self.lengths.len();
            self.used -= 1;
        }
    }

    /// Frames waiting.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether no frame waits.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Frames that still fit.
    pub fn room(&self) -> usize {
        self.lengths.len() - self.used
    }

    /// Drops all frames.
    pub fn clear(&mut self) {
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_bounds_over_the_wrap() {
        let mut q = FrameQueue::new(3);
        for round in 0u8..10 {
            assert!(q.push(&[round; 14]) && q.push(&[round + 1; 1518]));
            assert!(q.push(&[0; 60]) && !q.push(&[0; 60]));
            assert_eq!(q.front(), Some(&[round; 14][..]));
            q.pop();
            assert_eq!(q.front(), Some(&[round + 1; 1518][..]));
            q.pop();
            q.pop();
            assert!(q.front().is_none() && q.is_empty());
            q.pop();
            assert_eq!(q.room(), 3);
        }
        assert!(!q.push(&[0; 13]) && !q.push(&[0; 1519]));
        assert!(!FrameQueue::new(0).push(&[0; 60]));
    }
}
