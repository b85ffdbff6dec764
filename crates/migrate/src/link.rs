//! The byte stream below the records.

/// A connection, as TCP gives it: bytes in order or an end.
pub trait Link {
    /// Takes bytes that have arrived into `buf`; 0 where none are there now.
    fn recv(&mut self, buf: &mut [u8]) -> usize;

    /// When the bytes came that [`Link::recv`] gave last, as far as the link knows, in the ticks that the ends are
    /// polled with. `now`: the poll's. They may have waited for it.
    fn came(&self, now: u64) -> u64 {
        now
    }

    /// Queues as many bytes of `data` as there is room for and says how many; 0 where there is none.
    fn send(&mut self, data: &[u8]) -> usize;

    /// Whether the connection stands. `false`: apart from what [`Link::recv`] still gives nothing more will
    /// arrive, and what is sent gets lost. A peer that closed its half counts as gone.
    fn is_open(&self) -> bool;
}
